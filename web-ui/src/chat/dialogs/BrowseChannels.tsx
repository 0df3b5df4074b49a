// Public channels that one may join, with search and paging.
import { Button, TextInput } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../../api/calls";
import type { Channel } from "../../api/types";
import { useLive, useStore } from "../../store/live";
import { putEntry } from "../../store/reduce";
import { ErrorNote, Loading } from "../../ui/feedback";
import { Icon } from "../../ui/icons";
import { useGo } from "../router";

const SEARCH_PAUSE_MS = 200;

export default function BrowseChannels() {
  const { t } = useTranslation();
  const go = useGo();
  const store = useStore();
  const meId = useLive((state) => state.me.id);
  const joined = useLive((state) => state.channels);
  const [text, setText] = useState("");
  const [query] = useDebouncedValue(text.trim(), SEARCH_PAUSE_MS);
  const [joining, setJoining] = useState<string | null>(null);
  const [failure, setFailure] = useState<unknown>(null);
  const found = useInfiniteQuery({
    queryKey: ["browse", query],
    queryFn: ({ pageParam }) => calls.browseChannels(query, pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor ?? undefined,
    staleTime: 0,
  });
  const channels = found.data?.pages.flatMap((page) => page.items) ?? [];

  const join = async (channel: Channel) => {
    setJoining(channel.id);
    setFailure(null);
    try {
      await calls.putMember(channel.id, meId);
      const { channel: now, member } = await calls.channel(channel.id);
      if (member) store.apply((state) => putEntry(state, { channel: now, member }));
      go.channel(channel.id);
    } catch (cause) {
      setFailure(cause);
    } finally {
      setJoining(null);
    }
  };

  return (
    <div className="hf-stack">
      <TextInput
        aria-label={t("browse.search")}
        placeholder={t("browse.search")}
        leftSection={<Icon name="search" size={16} />}
        data-autofocus
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
      />
      <ErrorNote error={failure ?? found.error} />
      {found.isPending ? <Loading /> : null}
      {found.isSuccess && channels.length === 0 ? (
        <div className="hf-empty">{query ? t("browse.no_match") : t("browse.empty")}</div>
      ) : null}
      <ul className="hf-pick">
        {channels.map((channel) => (
          <li key={channel.id} className="hf-pick-row">
            <Icon name={channel.kind === "announcement" ? "megaphone" : "hash"} />
            <span className="hf-pick-text">
              <span>{channel.name}</span>
              <small>{channel.topic || t("browse.members", { count: channel.member_count })}</small>
            </span>
            {joined[channel.id] ? (
              <Button
                size="compact-sm"
                variant="default"
                aria-label={t("browse.open_name", { name: channel.name })}
                onClick={() => go.channel(channel.id)}
              >
                {t("browse.open")}
              </Button>
            ) : (
              <Button
                size="compact-sm"
                loading={joining === channel.id}
                aria-label={t("browse.join_name", { name: channel.name })}
                onClick={() => void join(channel)}
              >
                {t("browse.join")}
              </Button>
            )}
          </li>
        ))}
      </ul>
      {found.hasNextPage ? (
        <Button variant="subtle" loading={found.isFetchingNextPage} onClick={() => void found.fetchNextPage()}>
          {t("common.more")}
        </Button>
      ) : null}
    </div>
  );
}
