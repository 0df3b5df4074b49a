// Pure changes of the live state. Every one may be applied twice, or late, without harm: the stream repeats events after
// a resume and a fetched state may already contain them.
import type { ChannelEntry, Message, MessagePage, User } from "../api/types";
import type { LiveEvent } from "../realtime/events";
import type { LiveState, OutboxItem } from "./state";
import { addCreated, applyUpdated, type Merge, mergePage, type Timeline } from "./timeline";

/** How long a sign of typing is shown after the last event. */
export const TYPING_SHOWN_MS = 6_000;

export function reduceEvent(state: LiveState, event: LiveEvent, nowMs: number): LiveState {
  switch (event.event) {
    case "message.created":
      return messageCreated(state, event.message);
    case "message.updated":
      return withTimeline(state, event.message.channel_id, (held) => applyUpdated(held, event.message));
    case "channel.created":
      return putEntry(state, event.entry);
    case "channel.updated":
      return withEntry(state, event.channel.id, (entry) =>
        event.channel.version < entry.channel.version
          ? entry
          : {
              ...entry,
              channel: { ...event.channel, last_seq: Math.max(event.channel.last_seq, entry.channel.last_seq) },
            },
      );
    case "member.added":
    case "member.updated":
      return bumpMembers(
        ownRoleChanged(state, event.channel_id, event.member.user_id, event.member.role),
        event.channel_id,
      );
    case "member.removed":
      return event.user_id === state.me.id
        ? dropChannel(state, event.channel_id)
        : bumpMembers(state, event.channel_id);
    case "read":
      return event.user_id === state.me.id ? readTo(state, event.channel_id, event.read_seq) : state;
    case "membership.updated":
      return withEntry(state, event.channel_id, (entry) => ({
        ...entry,
        member: { ...event.member, read_seq: Math.max(event.member.read_seq, entry.member.read_seq) },
      }));
    case "user.created":
    case "user.updated":
      return putUsers(state, [event.user]);
    case "settings.updated":
      return event.settings.version < state.settings.version ? state : { ...state, settings: event.settings };
    case "typing":
      return typingSeen(state, event.channel_id, event.user_id, nowMs);
    case "presence":
      return presenceChanged(state, event.online, event.offline);
    default:
      return state;
  }
}

function messageCreated(state: LiveState, message: Message): LiveState {
  let next = withEntry(state, message.channel_id, (entry) =>
    message.seq <= entry.channel.last_seq
      ? entry
      : {
          ...entry,
          // What arrived late has an older time.
          channel: {
            ...entry.channel,
            last_seq: message.seq,
            last_ms: Math.max(entry.channel.last_ms, message.created_ms),
          },
        },
  );
  next = withTimeline(next, message.channel_id, (held) => addCreated(held, message));
  if (message.sender_id === state.me.id) {
    // Whoever writes has read: the server moves the mark with the message, and tells nobody, as everybody can do this.
    next = readTo(dropOutbox(next, message.client_id), message.channel_id, message.seq);
  }
  return typingOver(next, message.channel_id, message.sender_id);
}

/** The own list of channels as fetched; read marks and heads never go back. */
export function setChannels(state: LiveState, entries: readonly ChannelEntry[]): LiveState {
  const channels: Record<string, ChannelEntry> = {};
  for (const entry of entries) channels[entry.channel.id] = mergeEntry(state.channels[entry.channel.id], entry);
  const timelines: Record<string, Timeline> = {};
  for (const [id, timeline] of Object.entries(state.timelines)) if (channels[id]) timelines[id] = timeline;
  return { ...state, channels, timelines };
}

export function putEntry(state: LiveState, entry: ChannelEntry): LiveState {
  const id = entry.channel.id;
  return { ...state, channels: { ...state.channels, [id]: mergeEntry(state.channels[id], entry) } };
}

function mergeEntry(held: ChannelEntry | undefined, entry: ChannelEntry): ChannelEntry {
  if (!held) return entry;
  const channel = entry.channel.version < held.channel.version ? held.channel : entry.channel;
  return {
    channel: {
      ...channel,
      last_seq: Math.max(held.channel.last_seq, entry.channel.last_seq),
      last_ms: Math.max(held.channel.last_ms, entry.channel.last_ms),
    },
    member: { ...entry.member, read_seq: Math.max(held.member.read_seq, entry.member.read_seq) },
  };
}

export function dropChannel(state: LiveState, id: string): LiveState {
  const { [id]: _entry, ...channels } = state.channels;
  const { [id]: _timeline, ...timelines } = state.timelines;
  return { ...state, channels, timelines };
}

export function readTo(state: LiveState, channelId: string, seq: number): LiveState {
  return withEntry(state, channelId, (entry) =>
    seq <= entry.member.read_seq ? entry : { ...entry, member: { ...entry.member, read_seq: seq } },
  );
}

export function putUsers(state: LiveState, users: readonly User[]): LiveState {
  const changed = users.filter((user) => {
    const held = state.users[user.id];
    return !held || user.version >= held.version;
  });
  if (changed.length === 0) return state;
  const next = { ...state.users };
  for (const user of changed) next[user.id] = user;
  return { ...state, users: next, me: next[state.me.id] ?? state.me };
}

/** A fetched page of messages, joined to what is held. */
export function pageFetched(state: LiveState, channelId: string, page: MessagePage, merge: Merge): LiveState {
  const known = state.channels[channelId]?.channel.last_seq ?? 0;
  const newest = Math.max(known, page.last_seq);
  const timeline = mergePage(state.timelines[channelId], page, merge, newest);
  const next = withEntry(state, channelId, (entry) =>
    newest > entry.channel.last_seq ? { ...entry, channel: { ...entry.channel, last_seq: newest } } : entry,
  );
  const sent = new Set(page.items.filter((message) => message.sender_id === state.me.id).map((m) => m.client_id));
  return {
    ...next,
    timelines: { ...next.timelines, [channelId]: timeline },
    outbox: next.outbox.some((item) => sent.has(item.client_id))
      ? next.outbox.filter((item) => !sent.has(item.client_id))
      : next.outbox,
  };
}

export function dropTimelines(state: LiveState): LiveState {
  return { ...state, timelines: {} };
}

export function putOutbox(state: LiveState, item: OutboxItem): LiveState {
  const index = state.outbox.findIndex((held) => held.client_id === item.client_id);
  if (index < 0) return { ...state, outbox: [...state.outbox, item] };
  const outbox = [...state.outbox];
  outbox[index] = item;
  return { ...state, outbox };
}

export function dropOutbox(state: LiveState, clientId: string): LiveState {
  if (!state.outbox.some((item) => item.client_id === clientId)) return state;
  return { ...state, outbox: state.outbox.filter((item) => item.client_id !== clientId) };
}

/** Removes signs of typing that have run out; the same state when there are none. */
export function expireTyping(state: LiveState, nowMs: number): LiveState {
  let changed = false;
  const typing: Record<string, Record<string, number>> = {};
  for (const [channelId, people] of Object.entries(state.typing)) {
    const left = Object.entries(people).filter(([, until]) => until > nowMs);
    if (left.length !== Object.keys(people).length) changed = true;
    if (left.length > 0) typing[channelId] = Object.fromEntries(left);
  }
  return changed ? { ...state, typing } : state;
}

function typingSeen(state: LiveState, channelId: string, userId: string, nowMs: number): LiveState {
  if (userId === state.me.id) return state;
  const people = { ...state.typing[channelId], [userId]: nowMs + TYPING_SHOWN_MS };
  return { ...state, typing: { ...state.typing, [channelId]: people } };
}

function typingOver(state: LiveState, channelId: string, userId: string): LiveState {
  const people = state.typing[channelId];
  if (!people || !(userId in people)) return state;
  const { [userId]: _gone, ...left } = people;
  return { ...state, typing: { ...state.typing, [channelId]: left } };
}

function presenceChanged(state: LiveState, online: readonly string[], offline: readonly string[]): LiveState {
  const next = new Set(state.online);
  for (const id of online) next.add(id);
  for (const id of offline) next.delete(id);
  return { ...state, online: next };
}

function ownRoleChanged(state: LiveState, channelId: string, userId: string, role: "member" | "manager"): LiveState {
  if (userId !== state.me.id) return state;
  return withEntry(state, channelId, (entry) => ({ ...entry, member: { ...entry.member, role } }));
}

function bumpMembers(state: LiveState, channelId: string): LiveState {
  return { ...state, memberEpoch: { ...state.memberEpoch, [channelId]: (state.memberEpoch[channelId] ?? 0) + 1 } };
}

function withEntry(state: LiveState, id: string, change: (entry: ChannelEntry) => ChannelEntry): LiveState {
  const entry = state.channels[id];
  if (!entry) return state;
  const next = change(entry);
  return next === entry ? state : { ...state, channels: { ...state.channels, [id]: next } };
}

function withTimeline(state: LiveState, id: string, change: (held: Timeline) => Timeline): LiveState {
  const held = state.timelines[id];
  if (!held) return state;
  const next = change(held);
  return next === held ? state : { ...state, timelines: { ...state.timelines, [id]: next } };
}
