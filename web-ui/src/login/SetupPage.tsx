// The first run: language, organisation, owner, and a summary with the fingerprint to keep. The one-time token comes in
// the fragment of the address, which browsers do not send to servers or write into referrers.
import { Button, TextInput } from "@mantine/core";
import { lazy, useEffect, useId, useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../api/calls";
import { type ApiError, toApiError } from "../api/errors";
import type { ServerInfo, SignedIn } from "../api/types";
import { currentLocale, LOCALES, needChatTexts, setLocale } from "../i18n";
import { useErrorText } from "../ui/error-text";
import { ErrorNote, Loading } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { CaDownload, Fingerprint } from "./CertificateHelp";
import { Frame } from "./Frame";
import { AccountFields, errorField, NO_ACCOUNT, useSubmit } from "./fields";

// Few need it: its texts and fields come when somebody asks.
const RestorePage = lazy(async () => (await Promise.all([import("./RestorePage"), needChatTexts()]))[0]);

const STEPS = 4;

interface Props {
  server: ServerInfo;
  onDone: (signedIn: SignedIn) => void;
  onLogin: () => void;
}

export default function SetupPage(props: Props) {
  const { t } = useTranslation();
  const token = useMemo(() => window.location.hash.slice(1), []);
  const [checked, setChecked] = useState<ApiError | "good" | null>(null);
  useEffect(() => {
    calls.setupCheck(token).then(
      () => setChecked("good"),
      (cause) => setChecked(toApiError(cause)),
    );
  }, [token]);
  if (checked === null) return <Loading />;
  if (checked === "good") return <Wizard {...props} token={token} />;
  if (checked.code === "already_set_up") {
    return (
      <Frame title={t("setup.done_already")} subtitle={t("setup.done_already_hint")}>
        <div className="lg-body">
          <Button onClick={props.onLogin}>{t("setup.to_login")}</Button>
        </div>
      </Frame>
    );
  }
  const known = { setup_token_invalid: "bad_link", setup_locked: "locked" } as const;
  const kind = known[checked.code as keyof typeof known];
  return (
    <Frame title={kind ? t(`setup.${kind}`) : t("setup.title")}>
      <div className="lg-body">
        {kind ? <span>{t(`setup.${kind}_hint`)}</span> : <ErrorNote error={checked} />}
        {kind ? <code className="hf-code">holdfast init --link</code> : null}
      </div>
    </Frame>
  );
}

function Wizard({ server, token, onDone }: Props & { token: string }) {
  const { t } = useTranslation();
  const [step, setStep] = useState(0);
  const [restoring, setRestoring] = useState(false);
  const [organisation, setOrganisation] = useState("");
  const [timeZone, setTimeZone] = useState(() => Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC");
  const [account, setAccount] = useState(NO_ACCOUNT);
  const [result, setResult] = useState<SignedIn | null>(null);
  const heading = useRef<HTMLDivElement>(null);
  const { busy, error, submit } = useSubmit(async () => {
    if (account.password !== account.repeat) return;
    const { username, display_name, password } = account;
    const signedIn = await calls.setup({
      token,
      organisation: organisation.trim(),
      time_zone: timeZone,
      locale: currentLocale(),
      username: username.trim(),
      display_name: display_name.trim(),
      password,
    });
    setResult(signedIn);
    setStep(3);
  });
  // Screen readers hear the new step, and the keyboard goes on from its start.
  const first = useRef(true);
  // biome-ignore lint/correctness/useExhaustiveDependencies: runs when the step changes, not before the first
  useEffect(() => {
    if (!first.current) heading.current?.focus();
    first.current = false;
  }, [step]);

  if (restoring) return <RestorePage token={token} onBack={() => setRestoring(false)} />;
  const titles = [
    t("setup.language_title"),
    t("setup.org_title"),
    t("setup.owner_title"),
    t("setup.ready", { organisation: organisation.trim() }),
  ];
  const hints = [t("setup.language_hint"), undefined, t("setup.owner_hint"), t("setup.ready_hint")];
  return (
    <Frame title={titles[step] ?? ""} subtitle={hints[step]}>
      <div ref={heading} tabIndex={-1} role="status" className="hf-dim" style={{ marginTop: 14, fontSize: 13 }}>
        {t("setup.step", { step: step + 1, steps: STEPS })}
      </div>
      <ol className="lg-steps" aria-hidden="true" style={{ marginTop: 6 }}>
        {titles.map((title, index) => (
          <li key={title} data-done={index <= step || undefined} />
        ))}
      </ol>
      {step === 0 ? <LanguageStep onNext={() => setStep(1)} onRestore={() => setRestoring(true)} /> : null}
      {step === 1 ? (
        <OrganisationStep
          organisation={organisation}
          timeZone={timeZone}
          onOrganisation={setOrganisation}
          onTimeZone={setTimeZone}
          onBack={() => setStep(0)}
          onNext={() => setStep(2)}
        />
      ) : null}
      {step === 2 ? (
        <form onSubmit={submit}>
          <AccountFields value={account} onChange={setAccount} error={error} minChars={server.min_password_chars} />
          {error && !["username", "display_name", "password"].includes(errorField(error) ?? "") ? (
            <ErrorNote error={error} />
          ) : null}
          <div className="hf-row" data-end>
            <Button variant="subtle" onClick={() => setStep(1)}>
              {t("common.back")}
            </Button>
            <Button type="submit" loading={busy} disabled={account.password !== account.repeat}>
              {t("setup.create")}
            </Button>
          </div>
        </form>
      ) : null}
      {step === 3 && result ? <Summary server={server} onEnter={() => onDone(result)} /> : null}
    </Frame>
  );
}

function LanguageStep({ onNext, onRestore }: { onNext: () => void; onRestore: () => void }) {
  const { t } = useTranslation();
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        onNext();
      }}
    >
      <div className="lg-langs" role="radiogroup" aria-label={t("language.label")}>
        {LOCALES.map((locale) => (
          <label className="lg-lang" key={locale} lang={locale}>
            <input
              type="radio"
              name="locale"
              value={locale}
              checked={currentLocale() === locale}
              onChange={() => void setLocale(locale)}
            />
            {t(`language.${locale}`)}
          </label>
        ))}
      </div>
      <div className="hf-row" data-end style={{ flexWrap: "wrap" }}>
        <Button variant="subtle" onClick={onRestore}>
          {t("setup.restore")}
        </Button>
        <Button type="submit">{t("common.next")}</Button>
      </div>
    </form>
  );
}

function OrganisationStep(props: {
  organisation: string;
  timeZone: string;
  onOrganisation: (value: string) => void;
  onTimeZone: (value: string) => void;
  onBack: () => void;
  onNext: () => void;
}) {
  const { t } = useTranslation();
  const id = useId();
  const zones = useMemo(() => {
    const all = Intl.supportedValuesOf("timeZone");
    return [...new Set(["UTC", props.timeZone, ...all])].sort();
  }, [props.timeZone]);
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (props.organisation.trim() !== "") props.onNext();
      }}
    >
      <TextInput
        label={t("setup.org_name")}
        description={t("setup.org_name_hint")}
        autoComplete="organization"
        required
        withAsterisk={false}
        value={props.organisation}
        onChange={(event) => props.onOrganisation(event.currentTarget.value)}
      />
      <div>
        <label className="lg-field-label" htmlFor={id}>
          {t("setup.time_zone")}
        </label>
        <div className="hf-dim" style={{ fontSize: 12, marginBottom: 5 }} id={`${id}-hint`}>
          {t("setup.time_zone_hint")}
        </div>
        <select
          id={id}
          aria-describedby={`${id}-hint`}
          className="lg-native"
          value={props.timeZone}
          onChange={(event) => props.onTimeZone(event.currentTarget.value)}
        >
          {zones.map((zone) => (
            <option key={zone} value={zone}>
              {zone.replaceAll("_", " ")}
            </option>
          ))}
        </select>
      </div>
      <div className="hf-row" data-end>
        <Button variant="subtle" onClick={props.onBack}>
          {t("common.back")}
        </Button>
        <Button type="submit">{t("common.next")}</Button>
      </div>
    </form>
  );
}

function Summary({ server, onEnter }: { server: ServerInfo; onEnter: () => void }) {
  const { t } = useTranslation();
  const [info, setInfo] = useState(server);
  const errorText = useErrorText();
  const [failed, setFailed] = useState<ApiError | null>(null);
  useEffect(() => {
    calls.server().then(setInfo, (cause) => setFailed(toApiError(cause)));
  }, []);
  return (
    <div className="lg-body">
      {info.ca_fingerprint ? <Fingerprint value={info.ca_fingerprint} /> : <span>{t("cert.none")}</span>}
      {info.addresses.length > 0 ? (
        <div>
          <div className="lg-field-label">{t("setup.addresses")}</div>
          <code className="hf-code">{info.addresses.join("\n")}</code>
        </div>
      ) : null}
      {failed ? <span className="hf-dim">{errorText(failed)}</span> : null}
      <div className="hf-row lg-noprint" style={{ flexWrap: "wrap" }}>
        {info.ca_fingerprint ? <CaDownload /> : null}
        <Button variant="default" leftSection={<Icon name="copy" size={16} />} onClick={() => window.print()}>
          {t("setup.print")}
        </Button>
      </div>
      <Button className="lg-noprint" size="md" onClick={onEnter}>
        {t("setup.enter")}
      </Button>
    </div>
  );
}
