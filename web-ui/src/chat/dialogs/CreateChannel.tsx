// A new channel: kind, name, topic.
import { Button, TextInput } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../../api/calls";
import { useSubmit } from "../../login/fields";
import { useLive, useStore } from "../../store/live";
import { putEntry } from "../../store/reduce";
import { isAdmin } from "../../store/state";
import { useErrorText } from "../../ui/error-text";
import { ErrorNote } from "../../ui/feedback";
import { Icon } from "../../ui/icons";
import { useGo } from "../router";

const KINDS = ["public", "private", "announcement"] as const;
const ICONS = { public: "hash", private: "lock", announcement: "megaphone" } as const;
const NAME_CODES = ["channel_name_taken", "invalid_channel_name"];

export default function CreateChannel() {
  const { t } = useTranslation();
  const store = useStore();
  const go = useGo();
  const errorText = useErrorText();
  const admin = useLive((state) => isAdmin(state.me));
  const [kind, setKind] = useState<(typeof KINDS)[number]>("public");
  const [name, setName] = useState("");
  const [topic, setTopic] = useState("");
  const { busy, error, submit } = useSubmit(async () => {
    const entry = await calls.createChannel({
      kind,
      name: name.trim(),
      ...(topic.trim() ? { topic: topic.trim() } : {}),
    });
    store.apply((state) => putEntry(state, entry));
    go.channel(entry.channel.id);
  });
  const nameError = error !== null && NAME_CODES.includes(error.code);
  return (
    <form className="hf-stack" onSubmit={submit}>
      <TextInput
        label={t("create.name")}
        placeholder={t("create.name_placeholder")}
        required
        withAsterisk={false}
        data-autofocus
        value={name}
        error={nameError ? errorText(error) : undefined}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <TextInput
        label={t("create.topic")}
        placeholder={t("create.topic_placeholder")}
        value={topic}
        onChange={(event) => setTopic(event.currentTarget.value)}
      />
      <fieldset className="hf-kinds">
        <legend>{t("create.kind")}</legend>
        {KINDS.filter((option) => option !== "announcement" || admin).map((option) => (
          <label key={option} className="hf-kind">
            <input type="radio" name="kind" checked={kind === option} onChange={() => setKind(option)} />
            <Icon name={ICONS[option]} />
            <span>
              {t(`kind.${option}`)}
              <small>{t(`kind.${option}_hint`)}</small>
            </span>
          </label>
        ))}
      </fieldset>
      {error && !nameError ? <ErrorNote error={error} /> : null}
      <div className="hf-row" data-end>
        <Button type="submit" loading={busy}>
          {t("create.submit")}
        </Button>
      </div>
    </form>
  );
}
