// Shown instead of the chat while the account still has a password that an administrator chose.
import { Button, PasswordInput } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../api/calls";
import { setToken } from "../api/session";
import type { Me, ServerInfo } from "../api/types";
import { useErrorText } from "../ui/error-text";
import { ErrorNote } from "../ui/feedback";
import { Frame } from "./Frame";
import { errorField, NewPassword, useSubmit } from "./fields";

export default function PasswordGate({ server, me, onDone }: { server: ServerInfo; me: Me; onDone: () => void }) {
  const { t } = useTranslation();
  const errorText = useErrorText();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState({ password: "", repeat: "" });
  const { busy, error, submit } = useSubmit(async () => {
    if (next.password !== next.repeat) return;
    await calls.changePassword(current, next.password);
    onDone();
  });
  const onField = ["password", "new_password"].includes(errorField(error) ?? "");
  return (
    <Frame title={t("password.must_title")} subtitle={t("password.must_intro")}>
      <form onSubmit={submit}>
        <input type="hidden" name="username" autoComplete="username" value={me.user.username} readOnly />
        <PasswordInput
          label={t("password.current")}
          autoComplete="current-password"
          required
          withAsterisk={false}
          visibilityToggleButtonProps={{ "aria-label": t("password.show") }}
          value={current}
          onChange={(event) => setCurrent(event.currentTarget.value)}
        />
        <NewPassword
          value={next}
          onChange={setNext}
          error={error && onField ? errorText(error) : undefined}
          minChars={server.min_password_chars}
          label={t("password.new")}
        />
        {error && !onField ? <ErrorNote error={error} /> : null}
        <div className="hf-row" data-end>
          <Button variant="subtle" onClick={() => void calls.logout().finally(() => setToken(null))}>
            {t("common.logout")}
          </Button>
          <Button type="submit" loading={busy} disabled={next.password !== next.repeat}>
            {t("password.change")}
          </Button>
        </div>
      </form>
    </Frame>
  );
}
