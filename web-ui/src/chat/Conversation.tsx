// One conversation: header, timeline, typing line, composer, and the details beside it.
import { ActionIcon, Button, Drawer, Tooltip, UnstyledButton } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { useCallback, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ChannelEntry } from "../api/types";
import { useLive, useStore } from "../store/live";
import { canPost, directPeer } from "../store/state";
import { Avatar } from "../ui/Avatar";
import { Icon } from "../ui/icons";
import { Composer } from "./Composer";
import { Details } from "./Details";
import { channelIcon, useEntry, useNames, useTitles } from "./names";
import { useGo, useView } from "./router";
import { Timeline, type TimelineHandle } from "./Timeline";
import { NavButton } from "./Welcome";

export function Conversation({ channelId }: { channelId: string }) {
  const { t } = useTranslation();
  const entry = useEntry(channelId);
  const go = useGo();
  if (entry) return <Opened entry={entry} />;
  return (
    <main className="ch-page" id="messages" tabIndex={-1}>
      <header className="ch-header ch-only-narrow">
        <NavButton />
      </header>
      <div className="ch-welcome">
        <h1>{t("chat.not_found")}</h1>
        <p className="hf-dim">{t("chat.not_found_hint")}</p>
        <Button variant="default" onClick={() => go.dialog("browse")}>
          {t("nav.browse")}
        </Button>
      </div>
    </main>
  );
}

function Opened({ entry }: { entry: ChannelEntry }) {
  const { t } = useTranslation();
  const store = useStore();
  const title = useTitles()(entry);
  const me = useLive((state) => state.me);
  const [editing, setEditing] = useState<number | null>(null);
  const timeline = useRef<TimelineHandle>(null);
  const id = entry.channel.id;

  const editLast = useCallback(() => {
    const held = store.get().timelines[id]?.messages ?? [];
    const own = held.findLast((message) => message.sender_id === me.id && message.deleted_ms == null);
    if (own) setEditing(own.seq);
    return own !== undefined;
  }, [store, id, me.id]);

  return (
    <div className="ch-split">
      <main className="ch-page" id="messages" tabIndex={-1}>
        <Header entry={entry} title={title} />
        <Timeline ref={timeline} entry={entry} title={title} editing={editing} onEdit={setEditing} />
        <div className="ch-bottom">
          <TypingLine channelId={id} />
          {canPost(entry, me) ? (
            <Composer
              channelId={id}
              title={title}
              onSend={(body) => {
                store.send(id, body);
                timeline.current?.toNewest();
              }}
              onEditLast={editLast}
            />
          ) : (
            <div className="ch-closed" role="note">
              <Icon name={entry.channel.archived ? "archive" : "megaphone"} size={16} />
              {entry.channel.archived ? t("chat.archived") : t("chat.read_only")}
            </div>
          )}
        </div>
      </main>
      <Panel entry={entry} title={title} />
    </div>
  );
}

function Header({ entry, title }: { entry: ChannelEntry; title: string }) {
  const { t } = useTranslation();
  const go = useGo();
  const { panel } = useView();
  const me = useLive((state) => state.me);
  const direct = entry.channel.kind === "direct";
  const peer = directPeer(entry, me.id);
  const online = useLive((state) => state.online.has(peer));
  const toggle = () => go.panel(panel === "details" ? undefined : "details");
  return (
    <header className="ch-header">
      <NavButton />
      {direct ? (
        <Avatar id={peer} name={title} size={28} online={online} />
      ) : (
        <span className="ch-header-icon">
          <Icon name={channelIcon(entry)} size={18} />
        </span>
      )}
      <div className="ch-header-text">
        <h1>{title}</h1>
        {direct ? (
          <span className="ch-topic">{online ? t("nav.online") : t("nav.offline")}</span>
        ) : entry.channel.topic ? (
          <span className="ch-topic" title={entry.channel.topic}>
            {entry.channel.topic}
          </span>
        ) : null}
      </div>
      {direct ? null : (
        <UnstyledButton
          className="ch-count"
          onClick={toggle}
          aria-label={t("chat.people_count", { count: entry.channel.member_count })}
        >
          <Icon name="people" size={16} />
          {entry.channel.member_count}
        </UnstyledButton>
      )}
      <Tooltip label={t("chat.details")}>
        <ActionIcon
          variant={panel === "details" ? "light" : "subtle"}
          color={panel === "details" ? "tide" : "gray"}
          className="ch-icon"
          size="lg"
          aria-label={t("chat.details")}
          aria-expanded={panel === "details"}
          onClick={toggle}
        >
          <Icon name="info" />
        </ActionIcon>
      </Tooltip>
    </header>
  );
}

function Panel({ entry, title }: { entry: ChannelEntry; title: string }) {
  const { t } = useTranslation();
  const go = useGo();
  const { panel } = useView();
  const beside = useMediaQuery("(min-width: 1100px)", true, { getInitialValueInEffect: false });
  const open = panel === "details";
  if (beside) {
    return open ? (
      <aside className="ch-details" aria-label={t("chat.details")}>
        <div className="ch-details-top">
          <h2>{t("details.title")}</h2>
          <ActionIcon
            variant="subtle"
            color="gray"
            className="ch-icon"
            aria-label={t("common.close")}
            onClick={() => go.panel(undefined)}
          >
            <Icon name="close" />
          </ActionIcon>
        </div>
        <Details entry={entry} title={title} />
      </aside>
    ) : null;
  }
  return (
    <Drawer
      opened={open}
      onClose={() => go.panel(undefined)}
      position="right"
      size={360}
      title={t("details.title")}
      closeButtonProps={{ "aria-label": t("common.close") }}
      classNames={{ title: "ch-dialog-title" }}
    >
      <Details entry={entry} title={title} />
    </Drawer>
  );
}

function TypingLine({ channelId }: { channelId: string }) {
  const { t } = useTranslation();
  const names = useNames();
  const people = useLive((state) => state.typing[channelId]);
  const ids = Object.keys(people ?? {});
  const [first, second] = ids;
  const text =
    first === undefined
      ? ""
      : second === undefined
        ? t("chat.typing_one", { name: names(first) })
        : ids.length === 2
          ? t("chat.typing_two", { first: names(first), second: names(second) })
          : t("chat.typing_many");
  return (
    <div className="ch-typing" aria-live="polite">
      {text ? (
        <>
          <span className="ch-typing-dots" aria-hidden="true">
            <i />
            <i />
            <i />
          </span>
          {text}
        </>
      ) : null}
    </div>
  );
}
