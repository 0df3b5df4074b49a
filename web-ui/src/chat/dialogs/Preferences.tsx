// What a user decides for themself: name, language, appearance, password, signed-in devices.
import { Button, PasswordInput, SegmentedControl, Tabs, TextInput, useMantineColorScheme } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../../api/calls";
import type { Session, User } from "../../api/types";
import { followAccount, forgetChoice, LOCALES } from "../../i18n";
import { shortDate } from "../../i18n/format";
import { errorField, NewPassword, useSubmit } from "../../login/fields";
import { useLive, useStore } from "../../store/live";
import { putUsers } from "../../store/reduce";
import { useErrorText } from "../../ui/error-text";
import { ErrorNote, Loading } from "../../ui/feedback";
import { Icon } from "../../ui/icons";
import { useServer } from "../server";

export default function Preferences() {
  const { t } = useTranslation();
  return (
    <Tabs defaultValue="profile" keepMounted={false}>
      <Tabs.List mb="md">
        <Tabs.Tab value="profile">{t("prefs.profile")}</Tabs.Tab>
        <Tabs.Tab value="appearance">{t("prefs.appearance")}</Tabs.Tab>
        <Tabs.Tab value="security">{t("prefs.security")}</Tabs.Tab>
        <Tabs.Tab value="sessions">{t("prefs.sessions")}</Tabs.Tab>
      </Tabs.List>
      <Tabs.Panel value="profile">
        <Profile />
      </Tabs.Panel>
      <Tabs.Panel value="appearance">
        <Appearance />
      </Tabs.Panel>
      <Tabs.Panel value="security">
        <Password />
      </Tabs.Panel>
      <Tabs.Panel value="sessions">
        <Sessions />
      </Tabs.Panel>
    </Tabs>
  );
}

/** Saves a change of the own record; a record that changed meanwhile is taken over before the error shows. */
function useSaveMe() {
  const store = useStore();
  return async (change: { display_name?: string; locale?: string }) => {
    try {
      const user = await calls.updateMe(store.get().me, change);
      store.apply((state) => putUsers(state, [user]));
      return user;
    } catch (cause) {
      const current = (cause as { current?: User }).current;
      if (current) store.apply((state) => putUsers(state, [current]));
      throw cause;
    }
  };
}

function Saved({ shown }: { shown: boolean }) {
  const { t } = useTranslation();
  return (
    <span role="status" className="hf-row hf-dim">
      {shown ? (
        <>
          <Icon name="check" size={16} />
          {t("common.saved")}
        </>
      ) : null}
    </span>
  );
}

function Profile() {
  const { t } = useTranslation();
  const id = useId();
  const save = useSaveMe();
  const store = useStore();
  const errorText = useErrorText();
  const me = useLive((state) => state.me);
  const [name, setName] = useState(me.display_name);
  const [locale, setLocaleChoice] = useState(me.locale);
  const [saved, setSaved] = useState(false);
  const { busy, error, submit } = useSubmit(async () => {
    const user = await save({ display_name: name.trim(), locale });
    if (user.locale === "") forgetChoice();
    followAccount(user.locale, store.get().settings.default_locale);
    setSaved(true);
  });
  const nameError = error && errorField(error) === "display_name";
  return (
    <form className="hf-stack" onSubmit={submit} onChange={() => setSaved(false)}>
      <TextInput
        label={t("account.display_name")}
        description={t("account.display_name_hint")}
        required
        withAsterisk={false}
        value={name}
        error={nameError ? errorText(error) : undefined}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <div>
        <label className="hf-field-label" htmlFor={id}>
          {t("language.label")}
        </label>
        <select
          id={id}
          className="hf-native"
          value={locale}
          onChange={(event) => setLocaleChoice(event.currentTarget.value)}
        >
          <option value="">{t("language.default")}</option>
          {LOCALES.map((option) => (
            <option key={option} value={option} lang={option}>
              {t(`language.${option}`)}
            </option>
          ))}
        </select>
      </div>
      {error && !nameError ? <ErrorNote error={error} /> : null}
      <div className="hf-row" data-end>
        <Saved shown={saved} />
        <Button type="submit" loading={busy}>
          {t("common.save")}
        </Button>
      </div>
    </form>
  );
}

function Appearance() {
  const { t } = useTranslation();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <div className="hf-stack">
      <div>
        <div className="hf-field-label">{t("theme.label")}</div>
        <SegmentedControl
          fullWidth
          aria-label={t("theme.label")}
          value={colorScheme}
          onChange={(value) => setColorScheme(value as typeof colorScheme)}
          data={(["auto", "light", "dark"] as const).map((value) => ({ value, label: t(`theme.${value}`) }))}
        />
      </div>
      <div className="hf-note">{t("prefs.notifications_note")}</div>
    </div>
  );
}

function Password() {
  const { t } = useTranslation();
  const server = useServer();
  const errorText = useErrorText();
  const [current, setCurrent] = useState("");
  const [next, setNext] = useState({ password: "", repeat: "" });
  const [done, setDone] = useState(false);
  const { busy, error, submit } = useSubmit(async () => {
    if (next.password !== next.repeat) return;
    await calls.changePassword(current, next.password);
    setCurrent("");
    setNext({ password: "", repeat: "" });
    setDone(true);
  });
  const onField = ["password", "new_password"].includes(errorField(error) ?? "");
  return (
    <form className="hf-stack" onSubmit={submit}>
      <PasswordInput
        label={t("password.current")}
        autoComplete="current-password"
        required
        withAsterisk={false}
        visibilityToggleButtonProps={{ "aria-label": t("password.show") }}
        value={current}
        onChange={(event) => {
          setCurrent(event.currentTarget.value);
          setDone(false);
        }}
      />
      <NewPassword
        value={next}
        onChange={setNext}
        error={error && onField ? errorText(error) : undefined}
        minChars={server.min_password_chars}
        label={t("password.new")}
      />
      {error && !onField ? <ErrorNote error={error} /> : null}
      {done ? (
        <div className="hf-note" role="status">
          {t("password.changed")}
        </div>
      ) : null}
      <div className="hf-row" data-end>
        <Button type="submit" loading={busy} disabled={next.password !== next.repeat}>
          {t("password.change")}
        </Button>
      </div>
    </form>
  );
}

function Sessions() {
  const { t } = useTranslation();
  const queries = useQueryClient();
  const found = useQuery({ queryKey: ["sessions"], queryFn: calls.mySessions, staleTime: 0 });
  const [failure, setFailure] = useState<unknown>(null);
  const revoke = (session: Session) => {
    setFailure(null);
    calls.endMySession(session.id).then(() => queries.invalidateQueries({ queryKey: ["sessions"] }), setFailure);
  };
  if (found.isPending) return <Loading />;
  return (
    <div className="hf-stack">
      <span className="hf-dim">{t("prefs.sessions_hint")}</span>
      <ErrorNote error={failure ?? found.error} />
      <ul className="hf-pick">
        {found.data?.items.map((session) => (
          <li key={session.id} className="hf-pick-row">
            <Icon name="shield" />
            <span className="hf-pick-text">
              <span>{session.device || t("prefs.unknown_device")}</span>
              <small>{t("prefs.signed_in", { date: shortDate(session.created_ms), address: session.address })}</small>
            </span>
            {session.current ? (
              <span className="ch-tag">{t("prefs.current")}</span>
            ) : (
              <Button
                size="compact-sm"
                variant="default"
                aria-label={t("prefs.revoke_name", { device: session.device || t("prefs.unknown_device") })}
                onClick={() => revoke(session)}
              >
                {t("prefs.revoke")}
              </Button>
            )}
          </li>
        ))}
      </ul>
    </div>
  );
}
