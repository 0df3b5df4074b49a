// One message: who, when, text, marks, and the actions that show when it is hovered or has the focus.
import { memo, type ReactNode, useState } from "react";
import { useTranslation } from "react-i18next";
import type { Message } from "../api/types";
import { fullDate, shortDate, timeOfDay } from "../i18n/format";
import { useLive, useStore } from "../store/live";
import { Avatar } from "../ui/Avatar";
import { copyText } from "../ui/feedback";
import { Icon, type IconName } from "../ui/icons";
import { Confirm } from "./dialogs/Confirm";
import { EditBox } from "./EditBox";
import { renderMarkdown } from "./markdown";

interface Props {
  message: Message;
  grouped: boolean;
  marked: boolean;
  editing: boolean;
  onEdit: (seq: number | null) => void;
}

export const MessageRow = memo(function MessageRow({ message, grouped, marked, editing, onEdit }: Props) {
  const { t } = useTranslation();
  const store = useStore();
  const sender = useLive((state) => state.users[message.sender_id]);
  const own = useLive((state) => state.me.id === message.sender_id);
  const [hovered, setHovered] = useState(false);
  const [focused, setFocused] = useState(false);
  const [deleting, setDeleting] = useState(false);
  const name = sender?.display_name || sender?.username || t("chat.unknown_user");
  const deleted = message.deleted_ms != null;
  return (
    <article
      className="ch-msg"
      data-seq={message.seq}
      data-row=""
      data-grouped={grouped || undefined}
      data-marked={marked || undefined}
      tabIndex={-1}
      aria-label={`${name}, ${timeOfDay(message.created_ms)}`}
      onMouseEnter={() => setHovered(true)}
      onMouseLeave={() => setHovered(false)}
      onFocus={() => setFocused(true)}
      onBlur={(event) => {
        if (!event.currentTarget.contains(event.relatedTarget)) setFocused(false);
      }}
    >
      <MessageHead id={message.sender_id} name={name} atMs={message.created_ms} grouped={grouped}>
        {deleted ? (
          <p className="ch-gone">{t("chat.deleted")}</p>
        ) : editing ? (
          <EditBox message={message} onDone={() => onEdit(null)} />
        ) : (
          <Body message={message} />
        )}
        {message.late ? (
          <div className="ch-mark">
            <Icon name="clock" size={14} />
            <span>{t("chat.late", { date: shortDate(message.created_ms) })}</span>
          </div>
        ) : null}
      </MessageHead>
      {(hovered || focused) && !editing && !deleted ? (
        <Actions message={message} own={own} onEdit={() => onEdit(message.seq)} onDelete={() => setDeleting(true)} />
      ) : null}
      {own ? (
        <Confirm
          opened={deleting}
          title={t("chat.delete_title")}
          text={t("chat.delete_hint")}
          confirm={t("chat.delete")}
          onClose={() => setDeleting(false)}
          onConfirm={() => store.remove(message)}
        />
      ) : null}
    </article>
  );
});

/** The frame of a row: picture or time on the left, name above. */
export function MessageHead({
  id,
  name,
  atMs,
  grouped,
  children,
}: {
  id: string;
  name: string;
  atMs: number;
  grouped: boolean;
  children: ReactNode;
}) {
  const time = (
    <time dateTime={new Date(atMs).toISOString()} title={fullDate(atMs)}>
      {timeOfDay(atMs)}
    </time>
  );
  return (
    <>
      <div className="ch-gutter">{grouped ? time : <Avatar id={id} name={name} size={36} />}</div>
      <div className="ch-text">
        {grouped ? null : (
          <div className="ch-who">
            <strong>{name}</strong>
            {time}
          </div>
        )}
        {children}
      </div>
    </>
  );
}

export function Body({ message }: { message: Pick<Message, "body" | "edited_ms"> }) {
  const { t } = useTranslation();
  return (
    <>
      {/* biome-ignore lint/security/noDangerouslySetInnerHtml: rendered without HTML and sanitised, see markdown.ts */}
      <div className="ch-body" dangerouslySetInnerHTML={{ __html: renderMarkdown(message.body) }} />
      {message.edited_ms != null ? (
        <span className="ch-edited" title={t("chat.edited_at", { date: shortDate(message.edited_ms) })}>
          {t("chat.edited")}
        </span>
      ) : null}
    </>
  );
}

function Actions({
  message,
  own,
  onEdit,
  onDelete,
}: {
  message: Message;
  own: boolean;
  onEdit: () => void;
  onDelete: () => void;
}) {
  const { t } = useTranslation();
  const link = `${window.location.origin}/c/${message.channel_id}?m=${message.seq}`;
  const button = (icon: IconName, label: string, act: () => void) => (
    <button type="button" aria-label={label} title={label} onClick={act}>
      <Icon name={icon} size={16} />
    </button>
  );
  return (
    <div className="ch-actions" role="toolbar" aria-label={t("chat.actions")}>
      {button("copy", t("chat.copy_text"), () => void copyText(message.body))}
      {button("link", t("chat.copy_link"), () => void copyText(link))}
      {own ? button("edit", t("chat.edit"), onEdit) : null}
      {own ? button("trash", t("chat.delete"), onDelete) : null}
    </div>
  );
}
