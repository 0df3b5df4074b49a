// Jumps to a conversation by name: unread ones first, then the most recent.
import { useMemo, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ChannelEntry } from "../../api/types";
import { number } from "../../i18n/format";
import { useLive } from "../../store/live";
import { unreadCount } from "../../store/state";
import { Icon } from "../../ui/icons";
import { channelIcon, useTitles } from "../names";
import { useGo } from "../router";
import { PickList } from "./PickList";

const ROWS_MAX = 50;

/** Unread (and not muted) first, then the newest activity. */
export function rank(a: ChannelEntry, b: ChannelEntry): number {
  const unread = (entry: ChannelEntry) => (entry.member.notify !== "muted" && unreadCount(entry) > 0 ? 1 : 0);
  return unread(b) - unread(a) || b.channel.last_ms - a.channel.last_ms;
}

export default function Switcher() {
  const { t } = useTranslation();
  const go = useGo();
  const titles = useTitles();
  const channels = useLive((state) => state.channels);
  const [text, setText] = useState("");
  const items = useMemo(() => {
    const wanted = text.trim().toLocaleLowerCase();
    return Object.values(channels)
      .filter((entry) => titles(entry).toLocaleLowerCase().includes(wanted))
      .sort(rank)
      .slice(0, ROWS_MAX)
      .map((entry) => ({
        id: entry.channel.id,
        content: (
          <>
            <Icon name={channelIcon(entry)} />
            <span className="hf-pick-text">
              <span>{titles(entry)}</span>
            </span>
            {unreadCount(entry) > 0 ? (
              <span className="ch-badge" title={t("nav.unread", { count: unreadCount(entry) })}>
                {number(unreadCount(entry))}
              </span>
            ) : null}
          </>
        ),
      }));
  }, [channels, titles, text, t]);
  return (
    <PickList
      label={t("switcher.title")}
      placeholder={t("switcher.placeholder")}
      empty={t("switcher.empty")}
      text={text}
      onText={setText}
      items={items}
      onPick={(id) => go.channel(id)}
    />
  );
}
