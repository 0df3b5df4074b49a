// The channel list: the organisation, the switcher, channels and direct messages with unread counts, and the own menu.
// Rows are virtual, so that thousands of channels cost no more than the ones in view.
import { ActionIcon, Menu, Tooltip, UnstyledButton, VisuallyHidden } from "@mantine/core";
import { Link, useParams } from "@tanstack/react-router";
import { useVirtualizer } from "@tanstack/react-virtual";
import { useMemo, useRef, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ChannelEntry } from "../api/types";
import { currentLocale } from "../i18n";
import { number } from "../i18n/format";
import { useLive } from "../store/live";
import { directPeer, isAdmin, unreadCount } from "../store/state";
import { Avatar } from "../ui/Avatar";
import { Icon } from "../ui/icons";
import { Confirm } from "./dialogs/Confirm";
import { LogoutItem, logOut } from "./dialogs/Logout";
import { channelIcon, useNames, useTitles } from "./names";
import { useNav } from "./nav";
import { useGo } from "./router";

type Row =
  | { type: "heading"; key: "channels" | "direct" }
  | { type: "entry"; key: string; entry: ChannelEntry }
  | { type: "empty"; key: "empty_channels" | "empty_direct" };

const ROW_PX = 34;
const HEADING_PX = 44;

export function Sidebar() {
  const { t } = useTranslation();
  const go = useGo();
  const organisation = useLive((state) => state.settings.organisation);
  const me = useLive((state) => state.me);
  return (
    <nav className="ch-side" aria-label={t("nav.label")}>
      <div className="ch-org" title={organisation}>
        {organisation}
      </div>
      <UnstyledButton className="ch-jump" onClick={() => go.dialog("switcher")}>
        <Icon name="search" size={16} />
        <span>{t("nav.switcher")}</span>
        <kbd>{navigator.platform.startsWith("Mac") ? "⌘K" : "Ctrl K"}</kbd>
      </UnstyledButton>
      <ChannelRows />
      {isAdmin(me) ? (
        <UnstyledButton className="ch-invite" onClick={() => go.dialog("invite")}>
          <Icon name="invite" size={17} />
          {t("nav.invite")}
        </UnstyledButton>
      ) : null}
      <OwnMenu />
    </nav>
  );
}

function ChannelRows() {
  const { t } = useTranslation();
  const titles = useTitles();
  const channels = useLive((state) => state.channels);
  const { channelId } = useParams({ strict: false });
  const scroller = useRef<HTMLDivElement>(null);
  const rows = useMemo(() => listRows(Object.values(channels), titles), [channels, titles]);
  const virtual = useVirtualizer({
    count: rows.length,
    getScrollElement: () => scroller.current,
    estimateSize: (index) => (rows[index]?.type === "heading" ? HEADING_PX : ROW_PX),
    getItemKey: (index) => rows[index]?.key ?? index,
    overscan: 12,
  });
  return (
    <div className="ch-rows" ref={scroller} tabIndex={-1}>
      <ul style={{ height: virtual.getTotalSize() }}>
        {virtual.getVirtualItems().map((item) => {
          const row = rows[item.index];
          if (!row) return null;
          return (
            <li key={item.key} style={{ height: item.size, transform: `translateY(${item.start}px)` }}>
              {row.type === "heading" ? <Heading kind={row.key} /> : null}
              {row.type === "empty" ? <span className="ch-row-empty">{t(`nav.${row.key}`)}</span> : null}
              {row.type === "entry" ? (
                <EntryRow entry={row.entry} title={titles(row.entry)} active={row.entry.channel.id === channelId} />
              ) : null}
            </li>
          );
        })}
      </ul>
    </div>
  );
}

function listRows(entries: ChannelEntry[], titles: (entry: ChannelEntry) => string): Row[] {
  const collator = new Intl.Collator(currentLocale(), { numeric: true, sensitivity: "base" });
  const named = entries
    .filter((entry) => entry.channel.kind !== "direct" && !entry.channel.archived)
    .sort((a, b) => collator.compare(titles(a), titles(b)));
  const archived = entries
    .filter((entry) => entry.channel.kind !== "direct" && entry.channel.archived)
    .sort((a, b) => collator.compare(titles(a), titles(b)));
  const direct = entries
    .filter((entry) => entry.channel.kind === "direct")
    .sort((a, b) => b.channel.last_ms - a.channel.last_ms || collator.compare(titles(a), titles(b)));
  const toRow = (entry: ChannelEntry): Row => ({ type: "entry", key: entry.channel.id, entry });
  const channels = [...named, ...archived].map(toRow);
  return [
    { type: "heading", key: "channels" },
    ...(channels.length > 0 ? channels : [{ type: "empty", key: "empty_channels" } as Row]),
    { type: "heading", key: "direct" },
    ...(direct.length > 0 ? direct.map(toRow) : [{ type: "empty", key: "empty_direct" } as Row]),
  ];
}

function Heading({ kind }: { kind: "channels" | "direct" }) {
  const { t } = useTranslation();
  const go = useGo();
  const guest = useLive((state) => state.me.role === "guest");
  return (
    <div className="ch-heading">
      <h2>{t(`nav.${kind}`)}</h2>
      {kind === "direct" ? (
        <Tooltip label={t("nav.new_direct")}>
          <ActionIcon
            variant="subtle"
            color="gray"
            className="ch-icon"
            aria-label={t("nav.new_direct")}
            onClick={() => go.dialog("direct")}
          >
            <Icon name="plus" />
          </ActionIcon>
        </Tooltip>
      ) : guest ? null : (
        <Menu position="bottom-end" width={230}>
          <Menu.Target>
            <ActionIcon variant="subtle" color="gray" className="ch-icon" aria-label={t("nav.add_channel")}>
              <Icon name="plus" />
            </ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Item leftSection={<Icon name="plus" size={16} />} onClick={() => go.dialog("create")}>
              {t("nav.create")}
            </Menu.Item>
            <Menu.Item leftSection={<Icon name="search" size={16} />} onClick={() => go.dialog("browse")}>
              {t("nav.browse")}
            </Menu.Item>
          </Menu.Dropdown>
        </Menu>
      )}
    </div>
  );
}

function EntryRow({ entry, title, active }: { entry: ChannelEntry; title: string; active: boolean }) {
  const { t } = useTranslation();
  const meId = useLive((state) => state.me.id);
  const peer = entry.channel.kind === "direct" ? directPeer(entry, meId) : null;
  const online = useLive((state) => (peer === null ? undefined : state.online.has(peer)));
  const muted = entry.member.notify === "muted";
  const unread = unreadCount(entry);
  const nav = useNav();
  return (
    <Link
      to="/c/$channelId"
      params={{ channelId: entry.channel.id }}
      search={{}}
      className="ch-row"
      // The conversation that is open already changes nothing in the address.
      onClick={nav.close}
      data-active={active || undefined}
      data-unread={(unread > 0 && !muted) || undefined}
      data-dim={muted || entry.channel.archived || undefined}
      aria-current={active ? "page" : undefined}
    >
      {peer === null ? (
        <span className="ch-row-icon">
          <Icon name={entry.channel.archived ? "archive" : channelIcon(entry)} size={16} />
        </span>
      ) : (
        <Avatar id={peer} name={title} size={22} {...(online === undefined ? {} : { online })} />
      )}
      <span className="ch-row-name">{title}</span>
      {online ? <VisuallyHidden>{t("nav.online")}</VisuallyHidden> : null}
      {muted ? (
        <span className="ch-row-icon">
          <Icon name="mute" size={14} />
          <VisuallyHidden>{t("nav.muted")}</VisuallyHidden>
        </span>
      ) : null}
      {unread > 0 && !muted ? (
        <>
          <span className="ch-badge" aria-hidden="true">
            {unread > 99 ? "99+" : number(unread)}
          </span>
          <VisuallyHidden>{t("nav.unread", { count: unread })}</VisuallyHidden>
        </>
      ) : null}
    </Link>
  );
}

function OwnMenu() {
  const { t } = useTranslation();
  const go = useGo();
  const me = useLive((state) => state.me);
  const name = useNames()(me.id);
  const online = useLive((state) => state.link.status === "online");
  const unsent = useLive((state) => state.outbox.length);
  const [asking, setAsking] = useState(false);
  return (
    <>
      <Menu position="top-start" width={250}>
        <Menu.Target>
          <UnstyledButton className="ch-me">
            <Avatar id={me.id} name={name} size={32} online={online} />
            <span className="hf-pick-text">
              <span className="ch-me-name">{name}</span>
              <small>{online ? t("nav.online") : t("nav.offline")}</small>
            </span>
            <Icon name="more" size={16} />
            <VisuallyHidden>{t("nav.menu")}</VisuallyHidden>
          </UnstyledButton>
        </Menu.Target>
        <Menu.Dropdown>
          <Menu.Item leftSection={<Icon name="settings" size={16} />} onClick={() => go.dialog("preferences")}>
            {t("nav.preferences")}
          </Menu.Item>
          <LogoutItem onAsk={() => setAsking(true)} />
        </Menu.Dropdown>
      </Menu>
      <Confirm
        opened={asking}
        title={t("logout.unsent_title")}
        text={t("logout.unsent", { count: unsent })}
        confirm={t("common.logout")}
        onClose={() => setAsking(false)}
        onConfirm={logOut}
      />
    </>
  );
}
