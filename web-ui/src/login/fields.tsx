// The fields that several pages before the chat share, and the state of a submitted form.
import { PasswordInput, TextInput } from "@mantine/core";
import { type FormEvent, useState } from "react";
import { useTranslation } from "react-i18next";
import { type ApiError, toApiError } from "../api/errors";
import { useErrorText } from "../ui/error-text";

export interface Account {
  username: string;
  display_name: string;
  password: string;
  repeat: string;
}

export const NO_ACCOUNT: Account = { username: "", display_name: "", password: "", repeat: "" };

const FIELD_OF_CODE: Record<string, string> = {
  username_taken: "username",
  invalid_username: "username",
  invalid_display_name: "display_name",
  weak_password: "password",
  password_too_short: "password",
  password_too_long: "password",
  password_common: "password",
  password_is_username: "password",
};

/** The field an error belongs to, when it belongs to one. */
export function errorField(error: ApiError | null): string | undefined {
  return error ? (error.field ?? FIELD_OF_CODE[error.code]) : undefined;
}

/** Runs a submit handler once at a time and keeps its error. */
export function useSubmit(act: () => Promise<void>) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);
  const submit = (event?: FormEvent) => {
    event?.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    act()
      .catch((cause) => setError(toApiError(cause)))
      .finally(() => setBusy(false));
  };
  return { busy, error, setError, submit };
}

export function AccountFields({
  value,
  onChange,
  error,
  minChars,
}: {
  value: Account;
  onChange: (next: Account) => void;
  error: ApiError | null;
  minChars: number;
}) {
  const { t } = useTranslation();
  const errorText = useErrorText();
  const at = (name: string) => (error && errorField(error) === name ? errorText(error) : undefined);
  return (
    <>
      <TextInput
        label={t("account.display_name")}
        description={t("account.display_name_hint")}
        autoComplete="name"
        required
        withAsterisk={false}
        value={value.display_name}
        error={at("display_name")}
        onChange={(event) => onChange({ ...value, display_name: event.currentTarget.value })}
      />
      <TextInput
        label={t("account.username")}
        description={t("account.username_hint")}
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        required
        withAsterisk={false}
        value={value.username}
        error={at("username")}
        onChange={(event) => onChange({ ...value, username: event.currentTarget.value })}
      />
      <NewPassword
        value={value}
        onChange={(next) => onChange({ ...value, ...next })}
        error={at("password") ?? at("new_password")}
        minChars={minChars}
        label={t("login.password")}
      />
    </>
  );
}

export function NewPassword({
  value,
  onChange,
  error,
  minChars,
  label,
}: {
  value: { password: string; repeat: string };
  onChange: (next: { password: string; repeat: string }) => void;
  error: string | undefined;
  minChars: number;
  label: string;
}) {
  const { t } = useTranslation();
  const mismatch = value.repeat !== "" && value.repeat !== value.password;
  const toggle = { "aria-label": t("password.show") };
  return (
    <>
      <PasswordInput
        label={label}
        description={t("password.hint", { count: minChars })}
        autoComplete="new-password"
        required
        withAsterisk={false}
        visibilityToggleButtonProps={toggle}
        value={value.password}
        error={error}
        onChange={(event) => onChange({ ...value, password: event.currentTarget.value })}
      />
      <PasswordInput
        label={t("password.repeat")}
        autoComplete="new-password"
        required
        withAsterisk={false}
        visibilityToggleButtonProps={toggle}
        value={value.repeat}
        error={mismatch ? t("password.mismatch") : undefined}
        onChange={(event) => onChange({ ...value, repeat: event.currentTarget.value })}
      />
    </>
  );
}
