// Signing in. When tries run out the page counts down to the moment the server takes the next one.
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../api/calls";
import { getEndReason } from "../api/session";
import type { ServerInfo, SignedIn } from "../api/types";
import { ErrorNote, useSecondsLeft } from "../ui/feedback";
import { CertificateHelp } from "./CertificateHelp";
import { Frame } from "./Frame";
import { useSubmit } from "./fields";

const WAIT_WITHOUT_ADVICE_SECONDS = 30;

export function LoginPage({ server, onDone }: { server: ServerInfo; onDone: (signedIn: SignedIn) => void }) {
  const { t } = useTranslation();
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const [untilMs, setUntilMs] = useState<number | null>(null);
  const left = useSecondsLeft(untilMs);
  const { busy, error, submit } = useSubmit(async () => {
    try {
      onDone(await calls.login({ username: username.trim(), password, device: deviceName() }));
    } catch (cause) {
      const seconds = (cause as { retryAfterSeconds?: number; status?: number }).retryAfterSeconds;
      if ((cause as { status?: number }).status === 429) {
        setUntilMs(Date.now() + (seconds ?? WAIT_WITHOUT_ADVICE_SECONDS) * 1_000);
      }
      throw cause;
    }
  });
  if (!server.set_up) return <NotSetUp server={server} />;
  return (
    <Frame
      title={t("login.title")}
      subtitle={t("login.subtitle", { organisation: server.organisation })}
      footer={
        <>
          <span>{t("login.no_account")}</span>
          <CertificateHelp server={server} />
        </>
      }
    >
      <form onSubmit={submit}>
        {getEndReason() === "expired" && !error ? (
          <div className="hf-note" data-tone="warn" role="status">
            {t("login.expired")}
          </div>
        ) : null}
        <TextInput
          label={t("login.username")}
          autoComplete="username"
          autoCapitalize="none"
          spellCheck={false}
          autoFocus
          required
          withAsterisk={false}
          size="md"
          value={username}
          onChange={(event) => setUsername(event.currentTarget.value)}
        />
        <PasswordInput
          label={t("login.password")}
          autoComplete="current-password"
          required
          withAsterisk={false}
          size="md"
          visibilityToggleButtonProps={{ "aria-label": t("password.show") }}
          value={password}
          onChange={(event) => setPassword(event.currentTarget.value)}
        />
        {left > 0 ? (
          <div className="hf-note" data-tone="warn" role="status">
            {t("login.wait", { count: left })}
          </div>
        ) : error && error.status !== 429 ? (
          <ErrorNote error={error} />
        ) : null}
        <Button type="submit" size="md" fullWidth loading={busy} disabled={left > 0}>
          {t("login.submit")}
        </Button>
      </form>
    </Frame>
  );
}

function NotSetUp({ server }: { server: ServerInfo }) {
  const { t } = useTranslation();
  return (
    <Frame title={t("login.not_set_up_title")} footer={<CertificateHelp server={server} />}>
      <div className="lg-body">
        {server.setup_locked ? (
          <div className="hf-note" data-tone="warn">
            {t("setup.locked_hint")}
          </div>
        ) : (
          <span>{t("login.not_set_up")}</span>
        )}
        <code className="hf-code">holdfast init --link</code>
      </div>
    </Frame>
  );
}

/** A short name of this browser for the list of signed-in devices: "Firefox, Linux". */
export function deviceName(): string {
  const agent = navigator.userAgent;
  const find = (names: [RegExp, string][]) => names.find(([pattern]) => pattern.test(agent))?.[1];
  const browser = find([
    [/Edg\//, "Edge"],
    [/OPR\//, "Opera"],
    [/Firefox\//, "Firefox"],
    [/Chrome\//, "Chrome"],
    [/Safari\//, "Safari"],
  ]);
  const system = find([
    [/Windows/, "Windows"],
    [/Android/, "Android"],
    [/iPhone|iPad/, "iOS"],
    [/Mac OS/, "macOS"],
    [/Linux/, "Linux"],
  ]);
  return [browser, system].filter(Boolean).join(", ");
}
