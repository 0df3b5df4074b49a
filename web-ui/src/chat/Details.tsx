// What a channel is and who is in it, and what the user may change about it.
import { ActionIcon, Button, Menu, SegmentedControl, Textarea, TextInput } from "@mantine/core";
import { keepPreviousData, useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import * as calls from "../api/calls";
import type { Channel, ChannelEntry, Member, Notify } from "../api/types";
import { useSubmit } from "../login/fields";
import { useLive, useStore } from "../store/live";
import { dropChannel, putEntry, putUsers } from "../store/reduce";
import { canManage } from "../store/state";
import { Avatar } from "../ui/Avatar";
import { ErrorNote, Loading } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { Confirm } from "./dialogs/Confirm";
import { PickList } from "./dialogs/PickList";
import { PersonLine, usePeople } from "./dialogs/people";
import { useNames } from "./names";
import { useGo } from "./router";

type Asking = { what: "leave" | "archive" } | { what: "remove"; userId: string } | null;

export function Details({ entry, title }: { entry: ChannelEntry; title: string }) {
  const { t } = useTranslation();
  const store = useStore();
  const go = useGo();
  const names = useNames();
  const me = useLive((state) => state.me);
  const [asking, setAsking] = useState<Asking>(null);
  const { channel } = entry;
  const manage = canManage(entry, me);
  const direct = channel.kind === "direct";

  const setArchived = async (archived: boolean) =>
    took(await calls.updateChannel(channel.id, channel.version, { archived }));
  const took = (next: Channel) =>
    store.apply((state) => {
      const held = state.channels[next.id];
      return held ? putEntry(state, { ...held, channel: next }) : state;
    });
  const leave = async () => {
    await calls.removeMember(channel.id, me.id);
    go.home();
    store.apply((state) => dropChannel(state, channel.id));
  };

  const person = asking?.what === "remove" ? names(asking.userId) : "";
  return (
    <div className="ch-details-body">
      <section>
        <div className="ch-tag">{t(`kind.${channel.kind}`)}</div>
        {direct ? null : <About channel={channel} editable={manage && !channel.archived} onSaved={took} />}
      </section>
      <NotifyChoice entry={entry} />
      {direct ? null : (
        <Members entry={entry} manage={manage} onRemove={(userId) => setAsking({ what: "remove", userId })} />
      )}
      {direct ? null : (
        <section className="ch-details-actions">
          {manage ? (
            channel.archived ? (
              <AsyncButton label={t("details.unarchive")} act={() => setArchived(false)} />
            ) : (
              <Button variant="subtle" color="red" onClick={() => setAsking({ what: "archive" })}>
                {t("details.archive")}
              </Button>
            )
          ) : null}
          <Button variant="subtle" color="red" onClick={() => setAsking({ what: "leave" })}>
            {t("details.leave")}
          </Button>
        </section>
      )}
      <Confirm
        opened={asking?.what === "leave"}
        title={t("details.leave_title", { channel: title })}
        text={channel.kind === "private" ? t("details.leave_private") : t("details.leave_public")}
        confirm={t("details.leave_confirm")}
        onClose={() => setAsking(null)}
        onConfirm={leave}
      />
      <Confirm
        opened={asking?.what === "archive"}
        title={t("details.archive_title", { channel: title })}
        text={t("details.archive_hint")}
        confirm={t("details.archive_confirm")}
        onClose={() => setAsking(null)}
        onConfirm={() => setArchived(true)}
      />
      <Confirm
        opened={asking?.what === "remove"}
        title={t("details.remove_title", { name: person, channel: title })}
        text={t("details.remove_hint")}
        confirm={t("details.remove_confirm")}
        onClose={() => setAsking(null)}
        onConfirm={async () => {
          if (asking?.what === "remove") await calls.removeMember(channel.id, asking.userId);
        }}
      />
    </div>
  );
}

function AsyncButton({ label, act }: { label: string; act: () => Promise<unknown> }) {
  const { busy, error, submit } = useSubmit(async () => {
    await act();
  });
  return (
    <>
      <Button variant="default" loading={busy} onClick={() => submit()}>
        {label}
      </Button>
      <ErrorNote error={error} />
    </>
  );
}

function About({
  channel,
  editable,
  onSaved,
}: {
  channel: Channel;
  editable: boolean;
  onSaved: (channel: Channel) => void;
}) {
  const { t } = useTranslation();
  const [editing, setEditing] = useState(false);
  const [name, setName] = useState(channel.name);
  const [topic, setTopic] = useState(channel.topic);
  const { busy, error, submit } = useSubmit(async () => {
    onSaved(await calls.updateChannel(channel.id, channel.version, { name: name.trim(), topic: topic.trim() }));
    setEditing(false);
  });
  if (!editing) {
    return (
      <div className="ch-about">
        <div>
          <h3>{channel.name}</h3>
          <p className="hf-dim">{channel.topic || t("details.no_topic")}</p>
        </div>
        {editable ? (
          <ActionIcon
            variant="subtle"
            color="gray"
            className="ch-icon"
            aria-label={t("details.edit")}
            onClick={() => {
              setName(channel.name);
              setTopic(channel.topic);
              setEditing(true);
            }}
          >
            <Icon name="edit" size={16} />
          </ActionIcon>
        ) : null}
      </div>
    );
  }
  return (
    <form className="hf-stack" onSubmit={submit}>
      <TextInput
        label={t("details.name")}
        required
        withAsterisk={false}
        autoFocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <Textarea
        label={t("details.topic")}
        rows={3}
        value={topic}
        onChange={(event) => setTopic(event.currentTarget.value)}
      />
      <ErrorNote error={error} />
      <div className="hf-row" data-end>
        <Button variant="subtle" onClick={() => setEditing(false)}>
          {t("common.cancel")}
        </Button>
        <Button type="submit" loading={busy}>
          {t("common.save")}
        </Button>
      </div>
    </form>
  );
}

function NotifyChoice({ entry }: { entry: ChannelEntry }) {
  const { t } = useTranslation();
  const store = useStore();
  const [failure, setFailure] = useState<unknown>(null);
  const choose = (notify: Notify) => {
    setFailure(null);
    calls
      .setNotify(entry.channel.id, notify)
      .then((member) => store.apply((state) => putEntry(state, { ...entry, member })), setFailure);
  };
  return (
    <section>
      <h3 className="ch-section">{t("details.notify")}</h3>
      <SegmentedControl
        fullWidth
        size="xs"
        aria-label={t("details.notify")}
        value={entry.member.notify}
        onChange={(value) => choose(value as Notify)}
        data={(["all", "mentions", "muted"] as const).map((value) => ({ value, label: t(`details.notify_${value}`) }))}
      />
      <ErrorNote error={failure} />
    </section>
  );
}

function Members({
  entry,
  manage,
  onRemove,
}: {
  entry: ChannelEntry;
  manage: boolean;
  onRemove: (userId: string) => void;
}) {
  const { t } = useTranslation();
  const store = useStore();
  const id = entry.channel.id;
  const epoch = useLive((state) => state.memberEpoch[id] ?? 0);
  const me = useLive((state) => state.me);
  const [adding, setAdding] = useState(false);
  const found = useInfiniteQuery({
    queryKey: ["members", id, epoch],
    queryFn: ({ pageParam }) => calls.members(id, pageParam),
    initialPageParam: undefined as string | undefined,
    getNextPageParam: (last) => last.next_cursor ?? undefined,
    placeholderData: keepPreviousData,
    staleTime: 0,
  });
  const members = found.data?.pages.flatMap((page) => page.items) ?? [];
  const ids = members.map((member) => member.user_id).join(" ");
  useEffect(() => {
    if (ids) store.needUsers(ids.split(" "));
  }, [store, ids]);
  return (
    <section>
      <div className="ch-section-row">
        <h3 className="ch-section">{t("details.members")}</h3>
        {entry.channel.archived || me.role === "guest" ? null : (
          <Button size="compact-sm" variant="subtle" onClick={() => setAdding(!adding)} aria-expanded={adding}>
            {t("details.add")}
          </Button>
        )}
      </div>
      {adding ? <AddPeople entry={entry} members={members} onAdded={() => void found.refetch()} /> : null}
      {found.isPending ? <Loading /> : null}
      <ErrorNote error={found.error} onRetry={() => void found.refetch()} />
      <ul className="ch-members">
        {members.map((member) => (
          <MemberLine key={member.user_id} entry={entry} member={member} manage={manage} onRemove={onRemove} />
        ))}
      </ul>
      {found.hasNextPage ? (
        <Button variant="subtle" size="compact-sm" onClick={() => void found.fetchNextPage()}>
          {t("common.more")}
        </Button>
      ) : null}
    </section>
  );
}

function MemberLine({
  entry,
  member,
  manage,
  onRemove,
}: {
  entry: ChannelEntry;
  member: Member;
  manage: boolean;
  onRemove: (userId: string) => void;
}) {
  const { t } = useTranslation();
  const name = useNames()(member.user_id);
  const me = useLive((state) => state.me);
  const online = useLive((state) => state.online.has(member.user_id));
  const [failure, setFailure] = useState<unknown>(null);
  const own = member.user_id === me.id;
  const turn = member.role === "manager" ? "member" : "manager";
  return (
    <li className="hf-pick-row">
      <Avatar id={member.user_id} name={name} size={28} online={online} />
      <span className="hf-pick-text">
        <span>{own ? t("nav.you", { name }) : name}</span>
        {member.role === "manager" ? <small>{t("role.manager")}</small> : null}
        {failure ? <ErrorNote error={failure} /> : null}
      </span>
      {manage && !own ? (
        <Menu position="bottom-end">
          <Menu.Target>
            <ActionIcon
              variant="subtle"
              color="gray"
              className="ch-icon"
              aria-label={t("details.member_actions", { name })}
            >
              <Icon name="more" size={16} />
            </ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            <Menu.Item
              onClick={() => {
                setFailure(null);
                calls.putMember(entry.channel.id, member.user_id, turn).catch(setFailure);
              }}
            >
              {turn === "manager" ? t("details.make_manager", { name }) : t("details.make_member", { name })}
            </Menu.Item>
            <Menu.Item color="red" onClick={() => onRemove(member.user_id)}>
              {t("details.remove", { name })}
            </Menu.Item>
          </Menu.Dropdown>
        </Menu>
      ) : null}
    </li>
  );
}

function AddPeople({
  entry,
  members,
  onAdded,
}: {
  entry: ChannelEntry;
  members: readonly Member[];
  onAdded: () => void;
}) {
  const { t } = useTranslation();
  const store = useStore();
  const [text, setText] = useState("");
  const [failure, setFailure] = useState<unknown>(null);
  const people = usePeople(text);
  const inside = new Set(members.map((member) => member.user_id));
  const candidates = (people.data?.items ?? []).filter((user) => !inside.has(user.id) && !user.disabled);
  const add = (id: string) => {
    setFailure(null);
    const user = candidates.find((found) => found.id === id);
    calls.putMember(entry.channel.id, id).then(() => {
      if (user) store.apply((state) => putUsers(state, [user]));
      setText("");
      onAdded();
    }, setFailure);
  };
  return (
    <div className="ch-add">
      <PickList
        label={t("people.search")}
        placeholder={t("people.search")}
        empty={t("people.empty")}
        text={text}
        onText={setText}
        items={candidates.map((user) => ({ id: user.id, content: <PersonLine user={user} /> }))}
        onPick={add}
        busy={people.isPending}
      />
      <ErrorNote error={failure ?? people.error} />
    </div>
  );
}
