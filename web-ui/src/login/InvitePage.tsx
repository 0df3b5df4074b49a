// Accepting an invite: who invites, into what, and the new account. The token is in the fragment of the address.
import { Button } from "@mantine/core";
import { useEffect, useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../api/calls";
import { type ApiError, toApiError } from "../api/errors";
import type { InviteInfo, ServerInfo, SignedIn } from "../api/types";
import { currentLocale } from "../i18n";
import { shortDate } from "../i18n/format";
import { ErrorNote, Loading } from "../ui/feedback";
import { CertificateHelp } from "./CertificateHelp";
import { Frame } from "./Frame";
import { AccountFields, errorField, NO_ACCOUNT, useSubmit } from "./fields";
import { deviceName } from "./LoginPage";

export default function InvitePage({
  server,
  onDone,
  onLogin,
}: {
  server: ServerInfo;
  onDone: (signedIn: SignedIn) => void;
  onLogin: () => void;
}) {
  const { t } = useTranslation();
  const token = useMemo(() => window.location.hash.slice(1), []);
  const [invite, setInvite] = useState<InviteInfo | ApiError | null>(null);
  const [account, setAccount] = useState(NO_ACCOUNT);
  useEffect(() => {
    calls.inviteCheck(token).then(setInvite, (cause) => setInvite(toApiError(cause)));
  }, [token]);
  const { busy, error, submit } = useSubmit(async () => {
    if (account.password !== account.repeat) return;
    const { username, display_name, password } = account;
    onDone(
      await calls.inviteAccept({
        token,
        username: username.trim(),
        display_name: display_name.trim(),
        password,
        locale: currentLocale(),
        device: deviceName(),
      }),
    );
  });
  if (invite === null) return <Loading />;
  if (invite instanceof Error) {
    return (
      <Frame title={t("invite.bad_link")}>
        <div className="lg-body">
          <ErrorNote error={invite} />
          <span className="hf-dim">{t("invite.ask")}</span>
          <Button variant="default" onClick={onLogin}>
            {t("setup.to_login")}
          </Button>
        </div>
      </Frame>
    );
  }
  return (
    <Frame
      title={t("invite.title", { organisation: invite.organisation })}
      subtitle={
        <>
          {t("invite.by", { name: invite.invited_by })} {t("invite.until", { date: shortDate(invite.expires_ms) })}
        </>
      }
      footer={<CertificateHelp server={server} />}
    >
      <form onSubmit={submit}>
        <AccountFields value={account} onChange={setAccount} error={error} minChars={server.min_password_chars} />
        {error && !["username", "display_name", "password"].includes(errorField(error) ?? "") ? (
          <ErrorNote error={error} />
        ) : null}
        <Button type="submit" size="md" loading={busy} disabled={account.password !== account.repeat}>
          {t("invite.accept")}
        </Button>
      </form>
    </Frame>
  );
}
