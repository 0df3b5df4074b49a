// Makes an invite link to copy. The link is shown once: the server keeps only a digest of it.
import { Button, TextInput } from "@mantine/core";
import { useId, useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../../api/calls";
import type { CreatedInvite, Role } from "../../api/types";
import { shortDate } from "../../i18n/format";
import { useSubmit } from "../../login/fields";
import { useLive } from "../../store/live";
import { CopyButton, ErrorNote } from "../../ui/feedback";
import { useTitles } from "../names";

const ROLES: readonly Role[] = ["member", "guest", "auditor", "admin"];
const DAYS = [1, 7, 30];
const USES = [1, 5, 25, 100];
const DAY_SECONDS = 86_400;

export default function Invite() {
  const { t } = useTranslation();
  const id = useId();
  const titles = useTitles();
  const owner = useLive((state) => state.me.role === "owner");
  const channels = useLive((state) => state.channels);
  const [role, setRole] = useState<Role>("member");
  const [days, setDays] = useState(7);
  const [uses, setUses] = useState(1);
  const [picked, setPicked] = useState<readonly string[]>([]);
  const [created, setCreated] = useState<CreatedInvite | null>(null);
  const { busy, error, submit } = useSubmit(async () => {
    setCreated(
      await calls.createInvite({
        role,
        channel_ids: [...picked],
        expires_in_seconds: days * DAY_SECONDS,
        uses_max: uses,
      }),
    );
  });
  if (created) return <Created created={created} onAgain={() => setCreated(null)} />;
  const options = Object.values(channels).filter((entry) => entry.channel.kind !== "direct" && !entry.channel.archived);
  return (
    <form className="hf-stack" onSubmit={submit}>
      <Choice id={`${id}r`} label={t("invites.role")} value={role} onChange={(value) => setRole(value as Role)}>
        {ROLES.filter((option) => option !== "admin" || owner).map((option) => (
          <option key={option} value={option}>
            {t(`role.${option}`)}
          </option>
        ))}
      </Choice>
      <Choice id={`${id}d`} label={t("invites.expires")} value={days} onChange={(value) => setDays(Number(value))}>
        {DAYS.map((count) => (
          <option key={count} value={count}>
            {t("invites.days", { count })}
          </option>
        ))}
      </Choice>
      <Choice id={`${id}u`} label={t("invites.uses")} value={uses} onChange={(value) => setUses(Number(value))}>
        {USES.map((count) => (
          <option key={count} value={count}>
            {t("invites.uses_count", { count })}
          </option>
        ))}
      </Choice>
      {options.length > 0 ? (
        <fieldset className="hf-kinds">
          <legend>{t("invites.channels")}</legend>
          <div className="hf-pick">
            {options.map((entry) => (
              <label key={entry.channel.id} className="hf-check">
                <input
                  type="checkbox"
                  checked={picked.includes(entry.channel.id)}
                  onChange={(event) =>
                    setPicked(
                      event.currentTarget.checked
                        ? [...picked, entry.channel.id]
                        : picked.filter((held) => held !== entry.channel.id),
                    )
                  }
                />
                {titles(entry)}
              </label>
            ))}
          </div>
        </fieldset>
      ) : null}
      <ErrorNote error={error} />
      <div className="hf-row" data-end>
        <Button type="submit" loading={busy}>
          {t("invites.create")}
        </Button>
      </div>
    </form>
  );
}

function Choice({
  id,
  label,
  value,
  onChange,
  children,
}: {
  id: string;
  label: string;
  value: string | number;
  onChange: (value: string) => void;
  children: React.ReactNode;
}) {
  return (
    <div>
      <label className="hf-field-label" htmlFor={id}>
        {label}
      </label>
      <select id={id} className="hf-native" value={value} onChange={(event) => onChange(event.currentTarget.value)}>
        {children}
      </select>
    </div>
  );
}

function Created({ created, onAgain }: { created: CreatedInvite; onAgain: () => void }) {
  const { t } = useTranslation();
  return (
    <div className="hf-stack">
      <TextInput
        label={t("invites.link")}
        description={t("invites.link_hint")}
        value={created.link}
        readOnly
        data-autofocus
        onFocus={(event) => event.currentTarget.select()}
      />
      <span className="hf-dim">{t("invite.until", { date: shortDate(created.invite.expires_ms) })}</span>
      <div className="hf-row" data-end>
        <Button variant="subtle" onClick={onAgain}>
          {t("invites.another")}
        </Button>
        <CopyButton text={created.link} />
      </div>
    </div>
  );
}
