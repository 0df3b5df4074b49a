// The first run from a backup: where it is, what it holds, how far the restore is. The server starts again at the end, and
// people sign in as they did before. Keys and passwords typed here are sent once and kept nowhere.
import { Button, PasswordInput, Textarea, TextInput } from "@mantine/core";
import { type ReactNode, useEffect, useId, useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../api/calls";
import { ApiError } from "../api/errors";
import type { RestorePlace, SetupRestoreFound, SetupRestoreJob } from "../api/types";
import { number, shortDate } from "../i18n/format";
import { ErrorNote } from "../ui/feedback";
import { Frame } from "./Frame";
import { useSubmit } from "./fields";

const LOOK_MS = 1_000;
/** How every private key of age begins, in any language. */
const KEY_BEGINS = "AGE-SECRET-KEY-1";
const KINDS = ["directory", "s3", "webdav", "sftp"] as const;
type Kind = (typeof KINDS)[number];

interface Field {
  name: string;
  secret?: boolean;
  optional?: boolean;
  multiline?: boolean;
}

const FIELDS: Record<Kind, Field[]> = {
  directory: [{ name: "path" }],
  s3: [
    { name: "endpoint" },
    { name: "bucket" },
    { name: "region", optional: true },
    { name: "prefix", optional: true },
    { name: "access_key" },
    { name: "secret", secret: true },
    { name: "ca_pem", optional: true, multiline: true },
  ],
  webdav: [
    { name: "url" },
    { name: "user", optional: true },
    { name: "password", secret: true, optional: true },
    { name: "ca_pem", optional: true, multiline: true },
  ],
  sftp: [
    { name: "host" },
    { name: "port", optional: true },
    { name: "user" },
    { name: "path" },
    { name: "host_key" },
    { name: "password", secret: true, optional: true },
    { name: "private_key", optional: true, multiline: true },
  ],
};

/** The place as the server takes it: empty fields that may be absent are. */
export function placeOf(kind: Kind, values: Record<string, string>): RestorePlace {
  const place: Record<string, unknown> = { kind };
  for (const { name, optional } of FIELDS[kind]) {
    const value = (values[name] ?? "").trim();
    if (value === "" && optional) continue;
    place[name] = name === "port" ? Number(value) : value;
  }
  return place as RestorePlace;
}

export default function RestorePage({ token, onBack }: { token: string; onBack: () => void }) {
  const [kind, setKind] = useState<Kind>("directory");
  const [values, setValues] = useState<Record<string, string>>({});
  const [key, setKey] = useState("");
  const [found, setFound] = useState<SetupRestoreFound | null>(null);
  const [job, setJob] = useState<SetupRestoreJob | null>(null);
  const asked = (backup?: string) => ({
    token,
    place: placeOf(kind, values),
    ...(key.trim() === "" ? {} : { key }),
    ...(backup ? { backup } : {}),
  });
  if (job) return <Running token={token} job={job} onJob={setJob} />;
  if (found) {
    return (
      <Review
        found={found}
        hasKey={key.trim() !== ""}
        onBack={() => setFound(null)}
        onStart={async (backup) => setJob(await calls.setupRestore(asked(backup)))}
      />
    );
  }
  return (
    <Where
      kind={kind}
      values={values}
      secretKey={key}
      onKind={setKind}
      onValue={(name, value) => setValues({ ...values, [name]: value })}
      onKey={setKey}
      onBack={onBack}
      onLook={async () => setFound(await calls.setupRestoreLook(asked()))}
    />
  );
}

/** What went wrong, and what the server says in its own words: paths and names that no translation has. */
function Refused({ error }: { error: ApiError | null }) {
  const { t, i18n } = useTranslation();
  if (!error) return null;
  const own = `restore.errors.${error.code}`;
  return (
    <div>
      {i18n.exists(own) ? (
        <div className="hf-note" data-tone="danger" role="alert">
          {t(own as "restore.errors.no_backups")}
        </div>
      ) : (
        <ErrorNote error={error} />
      )}
      {error.message !== error.code ? <small className="hf-dim lg-detail">{error.message}</small> : null}
    </div>
  );
}

function Where(props: {
  kind: Kind;
  values: Record<string, string>;
  secretKey: string;
  onKind: (kind: Kind) => void;
  onValue: (name: string, value: string) => void;
  onKey: (key: string) => void;
  onBack: () => void;
  onLook: () => Promise<void>;
}) {
  const { t } = useTranslation();
  const id = useId();
  const { busy, error, submit } = useSubmit(props.onLook);
  const show = { "aria-label": t("password.show") };
  const input = ({ name, secret, optional, multiline }: Field) => {
    const shared = {
      label: t(`restore.field_${name}` as "restore.field_path"),
      required: !optional,
      withAsterisk: false,
      spellCheck: false,
      autoCapitalize: "none",
      autoComplete: "off",
      value: props.values[name] ?? "",
    };
    const change = (value: string) => props.onValue(name, value);
    if (multiline)
      return <Textarea key={name} {...shared} rows={3} onChange={(event) => change(event.currentTarget.value)} />;
    return secret ? (
      <PasswordInput
        key={name}
        {...shared}
        visibilityToggleButtonProps={show}
        onChange={(event) => change(event.currentTarget.value)}
      />
    ) : (
      <TextInput
        key={name}
        {...shared}
        inputMode={name === "port" ? "numeric" : undefined}
        pattern={name === "port" ? "[0-9]*" : undefined}
        description={props.kind === "directory" ? t("restore.directory_hint") : undefined}
        onChange={(event) => change(event.currentTarget.value)}
      />
    );
  };
  return (
    <Frame title={t("restore.title")} subtitle={t("restore.subtitle")}>
      <form onSubmit={submit}>
        <div>
          <label className="lg-field-label" htmlFor={id}>
            {t("restore.kind")}
          </label>
          <select
            id={id}
            className="lg-native"
            value={props.kind}
            onChange={(event) => props.onKind(event.currentTarget.value as Kind)}
          >
            {KINDS.map((kind) => (
              <option key={kind} value={kind}>
                {t(`restore.kind_${kind}`)}
              </option>
            ))}
          </select>
        </div>
        {FIELDS[props.kind].map(input)}
        <Textarea
          label={t("restore.key")}
          description={t("restore.key_hint")}
          rows={2}
          spellCheck={false}
          autoComplete="off"
          placeholder={KEY_BEGINS}
          value={props.secretKey}
          onChange={(event) => props.onKey(event.currentTarget.value)}
        />
        <Refused error={error} />
        <div className="hf-row" data-end>
          <Button variant="subtle" onClick={props.onBack}>
            {t("common.back")}
          </Button>
          <Button type="submit" loading={busy}>
            {t("restore.look")}
          </Button>
        </div>
      </form>
    </Frame>
  );
}

function Line({ label, children }: { label: string; children: ReactNode }) {
  return (
    <>
      <dt className="hf-dim">{label}</dt>
      <dd>{children}</dd>
    </>
  );
}

function Review(props: {
  found: SetupRestoreFound;
  hasKey: boolean;
  onBack: () => void;
  onStart: (backup: string) => Promise<void>;
}) {
  const { t } = useTranslation();
  const id = useId();
  const { preview } = props.found;
  const usable = props.found.backups.filter((backup) => !backup.damaged).reverse();
  const damaged = props.found.backups.length - usable.length;
  const [backup, setBackup] = useState(preview.backup);
  const { busy, error, submit } = useSubmit(() => props.onStart(backup));
  const chosen = usable.find((one) => one.name === backup);
  const locked = (chosen?.encrypted ?? preview.encrypted) && !props.hasKey;
  return (
    <Frame title={t("restore.found", { organisation: preview.organisation })} subtitle={t("restore.found_hint")}>
      <form onSubmit={submit}>
        <div>
          <label className="lg-field-label" htmlFor={id}>
            {t("restore.as_of")}
          </label>
          <select
            id={id}
            className="lg-native"
            value={backup}
            onChange={(event) => setBackup(event.currentTarget.value)}
          >
            {usable.map((one) => (
              <option key={one.name} value={one.name}>
                {shortDate(one.until_ms)}
                {one.drilled ? ` · ${t("restore.drilled")}` : ""}
              </option>
            ))}
          </select>
        </div>
        {backup === preview.backup ? (
          <dl className="lg-facts">
            <Line label={t("restore.users")}>{number(preview.users)}</Line>
            <Line label={t("restore.channels")}>{number(preview.channels)}</Line>
            <Line label={t("restore.messages")}>{number(preview.messages)}</Line>
            <Line label={t("restore.files")}>{number(preview.blobs)}</Line>
            <Line label={t("restore.size")}>{t("restore.megabytes", { size: megabytes(preview.bytes) })}</Line>
            {preview.estimate_ms ? (
              <Line label={t("restore.takes")}>
                {t("restore.minutes", { count: Math.max(1, Math.ceil(preview.estimate_ms / 60_000)) })}
              </Line>
            ) : null}
          </dl>
        ) : null}
        <div>
          <div className="lg-field-label">{t("restore.signer")}</div>
          <code className="hf-code lg-detail">{preview.signer}</code>
        </div>
        {damaged > 0 ? (
          <div className="hf-note" data-tone="warn">
            {t("restore.damaged", { count: damaged })}
          </div>
        ) : null}
        {locked ? (
          <div className="hf-note" data-tone="warn" role="alert">
            {t("restore.needs_key")}
          </div>
        ) : null}
        <Refused error={error} />
        <div className="hf-row" data-end>
          <Button variant="subtle" onClick={props.onBack}>
            {t("common.back")}
          </Button>
          <Button type="submit" loading={busy} disabled={locked}>
            {t("restore.start")}
          </Button>
        </div>
      </form>
    </Frame>
  );
}

function megabytes(bytes: number): string {
  return number(bytes < 10_000_000 ? Math.ceil(bytes / 100_000) / 10 : Math.ceil(bytes / 1_000_000));
}

function Running({
  token,
  job,
  onJob,
}: {
  token: string;
  job: SetupRestoreJob;
  onJob: (job: SetupRestoreJob | null) => void;
}) {
  const { t } = useTranslation();
  const [back, setBack] = useState(false);
  useEffect(() => {
    if (job.state === "failed" || back) return;
    const look = async () => {
      // The server starts again when it is done: then it has no such job and no such link, but it is set up.
      try {
        if (job.state === "running") onJob(await calls.setupRestoreJob(token));
        else setBack((await calls.server()).set_up);
      } catch {
        setBack(
          await calls.server().then(
            (server) => server.set_up,
            () => false,
          ),
        );
      }
    };
    const timer = setInterval(() => void look(), LOOK_MS);
    return () => clearInterval(timer);
  }, [token, job.state, back, onJob]);

  if (back) {
    return (
      <Frame title={t("restore.done")} subtitle={t("restore.done_hint")}>
        <div className="lg-body" role="status">
          <Button size="md" onClick={() => window.location.assign("/")}>
            {t("setup.to_login")}
          </Button>
        </div>
      </Frame>
    );
  }
  if (job.state === "failed") {
    const error = new ApiError({ code: job.failure?.code ?? "internal", detail: job.failure?.text ?? "" });
    return (
      <Frame title={t("restore.failed")} subtitle={t("restore.failed_hint")}>
        <div className="lg-body">
          <Refused error={error} />
          <Button onClick={() => onJob(null)}>{t("common.back")}</Button>
        </div>
      </Frame>
    );
  }
  const restarting = job.state === "done";
  const share = restarting ? 1 : job.bytes_total > 0 ? Math.min(1, job.bytes_done / job.bytes_total) : 0;
  const text = restarting ? t("restore.restarting") : t(`restore.stage_${job.stage}`);
  return (
    <Frame title={t("restore.running")} subtitle={t("restore.running_hint")}>
      <div className="lg-body">
        <progress className="lg-progress" max={1} value={share} aria-label={text} />
        <span role="status">
          {text}
          {job.stage === "reading" && !restarting
            ? ` ${t("restore.of", { done: megabytes(job.bytes_done), total: megabytes(job.bytes_total) })}`
            : ""}
        </span>
        {restarting ? null : (
          <div className="hf-row" data-end>
            <Button variant="subtle" color="red" onClick={() => void calls.setupRestoreCancel(token)}>
              {t("common.cancel")}
            </Button>
          </div>
        )}
      </div>
    </Frame>
  );
}
