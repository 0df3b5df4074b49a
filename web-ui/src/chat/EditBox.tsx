// Changing an own message in its place. What was typed stays when the server refuses.
import { Button } from "@mantine/core";
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message } from "../api/types";
import { number } from "../i18n/format";
import { useStore } from "../store/live";
import { ErrorNote } from "../ui/feedback";
import { useImeGuard } from "./ime";
import { useServer } from "./server";
import { byteLength, useGrowing } from "./text-field";

/** What is being typed, by message: a timeline that is fetched anew takes the box away for a moment, not the text. */
const typed = new Map<string, string>();

export function EditBox({ message, onDone }: { message: Message; onDone: () => void }) {
  const { t } = useTranslation();
  const store = useStore();
  const max = useServer().message_bytes_max;
  const key = `${message.channel_id} ${message.seq}`;
  const [text, setText] = useState(() => typed.get(key) ?? message.body);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const area = useRef<HTMLTextAreaElement>(null);
  const ime = useImeGuard();
  useGrowing(area, text);
  useEffect(() => {
    const box = area.current;
    box?.focus();
    box?.setSelectionRange(box.value.length, box.value.length);
    box?.scrollIntoView({ block: "nearest" });
  }, []);

  const bytes = byteLength(text);
  const change = (next: string) => {
    typed.set(key, next);
    setText(next);
  };
  const finish = () => {
    typed.delete(key);
    onDone();
    document.querySelector<HTMLTextAreaElement>(".ch-composer textarea")?.focus();
  };
  const save = () => {
    const body = text.trim();
    if (body === "" || bytes > max || busy) return;
    if (body === message.body) return finish();
    setBusy(true);
    setError(null);
    store
      .edit(message, body)
      .then(finish, setError)
      .finally(() => setBusy(false));
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    event.stopPropagation();
    if (ime.isComposing()) return;
    if (event.key === "Escape") finish();
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      save();
    }
  };
  return (
    <div className="ch-edit">
      <textarea
        ref={area}
        rows={1}
        value={text}
        aria-label={t("composer.edit_label")}
        onChange={(event) => change(event.currentTarget.value)}
        onKeyDown={onKeyDown}
        onCompositionStart={ime.onCompositionStart}
        onCompositionEnd={ime.onCompositionEnd}
      />
      <ErrorNote error={error} />
      <div className="hf-row">
        <Button size="compact-sm" onClick={save} loading={busy} disabled={text.trim() === "" || bytes > max}>
          {t("common.save")}
        </Button>
        <Button size="compact-sm" variant="subtle" onClick={finish}>
          {t("common.cancel")}
        </Button>
        <span className="ch-hint">
          {bytes > max ? t("composer.too_long", { bytes: number(bytes), max: number(max) }) : t("composer.save_hint")}
        </span>
      </div>
    </div>
  );
}
