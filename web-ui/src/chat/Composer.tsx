// Where messages are written. Enter sends, Shift+Enter breaks the line, and an Enter that belongs to an input method does
// neither. The draft is kept per conversation with every change.
import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import { number } from "../i18n/format";
import { loadDraft, saveDraft } from "../store/keep";
import { useLive, useStore } from "../store/live";
import { Icon, type IconName } from "../ui/icons";
import { useImeGuard } from "./ime";
import { useNav } from "./nav";
import { useServer } from "./server";
import { applyFormat, byteLength, type Format, useGrowing } from "./text-field";

interface Props {
  channelId: string;
  title: string;
  onSend: (body: string) => void;
  /** ArrowUp in an empty field; true when there was something to edit. */
  onEditLast: () => boolean;
}

/** The share of the limit from which the count of bytes is shown. */
const COUNT_FROM = 0.8;
const FORMATS: readonly { format: Format; icon: IconName }[] = [
  { format: "bold", icon: "bold" },
  { format: "italic", icon: "italic" },
  { format: "code", icon: "code" },
  { format: "list", icon: "list" },
  { format: "quote", icon: "quote" },
  { format: "link", icon: "link" },
];

export function Composer({ channelId, title, onSend, onEditLast }: Props) {
  const { t } = useTranslation();
  const store = useStore();
  const { narrow } = useNav();
  const max = useServer().message_bytes_max;
  const userId = useLive((state) => state.me.id);
  const [text, setText] = useState(() => loadDraft(userId, channelId));
  const area = useRef<HTMLTextAreaElement>(null);
  const ime = useImeGuard();
  useGrowing(area, text);
  // On small screens the focus would open the keyboard over the messages.
  useEffect(() => {
    if (!narrow) area.current?.focus({ preventScroll: true });
  }, [narrow]);

  const bytes = byteLength(text);
  const tooLong = bytes > max;
  const empty = text.trim() === "";

  const change = (next: string) => {
    setText(next);
    saveDraft(userId, channelId, next);
    if (next.trim() !== "") store.typing(channelId);
  };
  const send = () => {
    if (empty || tooLong) return;
    onSend(text.trim());
    change("");
    area.current?.focus();
  };
  const onKeyDown = (event: KeyboardEvent<HTMLTextAreaElement>) => {
    if (ime.isComposing()) return;
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      send();
    } else if (event.key === "ArrowUp" && text === "" && onEditLast()) {
      event.preventDefault();
    }
  };

  return (
    <div className="ch-composer" data-error={tooLong || undefined}>
      <textarea
        ref={area}
        rows={1}
        value={text}
        aria-label={t("composer.label", { name: title })}
        aria-describedby="composer-hint"
        aria-invalid={tooLong}
        placeholder={t("composer.placeholder", { name: title })}
        onChange={(event) => change(event.currentTarget.value)}
        onKeyDown={onKeyDown}
        onCompositionStart={ime.onCompositionStart}
        onCompositionEnd={ime.onCompositionEnd}
      />
      <div className="ch-tools">
        <div role="toolbar" aria-label={t("composer.format")} className="ch-format">
          {FORMATS.map(({ format, icon }) => (
            <button
              key={format}
              type="button"
              aria-label={t(`composer.${format}`)}
              title={t(`composer.${format}`)}
              onClick={() => area.current && applyFormat(area.current, format)}
            >
              <Icon name={icon} size={16} />
            </button>
          ))}
        </div>
        <span className="ch-hint" id="composer-hint" aria-live="polite" data-error={tooLong || undefined}>
          {tooLong
            ? t("composer.too_long", { bytes: number(bytes), max: number(max) })
            : bytes > max * COUNT_FROM
              ? t("composer.bytes", { bytes: number(bytes), max: number(max) })
              : t("composer.hint")}
        </span>
        <button
          type="button"
          className="ch-send"
          aria-label={t("composer.send")}
          title={t("composer.send")}
          disabled={empty || tooLong}
          onClick={send}
        >
          <Icon name="send" size={17} />
        </button>
      </div>
    </div>
  );
}
