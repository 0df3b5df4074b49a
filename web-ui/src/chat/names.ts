// How channels and people are called on the screen.
import { useCallback } from "react";
import { useTranslation } from "react-i18next";
import type { ChannelEntry } from "../api/types";
import { useLive } from "../store/live";
import { directPeer, type LiveState } from "../store/state";
import type { IconName } from "../ui/icons";

export function channelIcon(entry: ChannelEntry): IconName {
  return { public: "hash", private: "lock", announcement: "megaphone", direct: "person" }[
    entry.channel.kind
  ] as IconName;
}

/** A function from a user id to the name to show. */
export function useNames(): (id: string) => string {
  const { t } = useTranslation();
  const users = useLive((state) => state.users);
  return useCallback(
    (id: string) => users[id]?.display_name || users[id]?.username || t("chat.unknown_user"),
    [users, t],
  );
}

/** The title of a channel: its name, or who the other one is. */
export function useTitles(): (entry: ChannelEntry) => string {
  const { t } = useTranslation();
  const names = useNames();
  const meId = useLive((state) => state.me.id);
  return useCallback(
    (entry: ChannelEntry) => {
      if (entry.channel.kind !== "direct") return entry.channel.name;
      const peer = directPeer(entry, meId);
      return peer === meId ? t("nav.you", { name: names(peer) }) : names(peer);
    },
    [names, meId, t],
  );
}

export function useEntry(channelId: string): ChannelEntry | undefined {
  return useLive((state: LiveState) => state.channels[channelId]);
}
