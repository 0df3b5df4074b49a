// The live state of one signed-in tab: plain immutable data, changed only by the pure functions beside this file.
import type { ChannelEntry, Message, Settings, User } from "../api/types";
import type { LinkStatus } from "../realtime/socket";
import type { Timeline } from "./timeline";

/** A message that the server has not confirmed yet. */
export interface OutboxItem {
  client_id: string;
  channel_id: string;
  body: string;
  created_ms: number;
  /** sending: a call is under way · waiting: the server was not reached, sent again later · failed: refused. */
  status: "sending" | "waiting" | "failed";
  /** The code of the refusal, when failed. */
  code: string | null;
}

export interface LiveState {
  me: User;
  settings: Settings;
  channels: Readonly<Record<string, ChannelEntry>>;
  users: Readonly<Record<string, User>>;
  timelines: Readonly<Record<string, Timeline>>;
  outbox: readonly OutboxItem[];
  online: ReadonlySet<string>;
  /** channel id → user id → when the sign of typing ends (ms). */
  typing: Readonly<Record<string, Readonly<Record<string, number>>>>;
  link: { status: LinkStatus; retryAtMs: number | null; everOnline: boolean };
  /** Grows whenever members of a channel changed; lists that show them fetch again. */
  memberEpoch: Readonly<Record<string, number>>;
}

export function initialState(me: User, settings: Settings): LiveState {
  return {
    me,
    settings,
    channels: {},
    users: { [me.id]: me },
    timelines: {},
    outbox: [],
    online: new Set(),
    typing: {},
    link: { status: "connecting", retryAtMs: null, everOnline: false },
    memberEpoch: {},
  };
}

export function unreadCount(entry: ChannelEntry): number {
  return Math.max(0, entry.channel.last_seq - entry.member.read_seq);
}

/** True when the channel accepts messages from this user: not archived, and announcements only from who may. */
export function canPost(entry: ChannelEntry, me: User): boolean {
  if (entry.channel.archived) return false;
  if (entry.channel.kind !== "announcement") return true;
  return entry.member.role === "manager" || isAdmin(me);
}

export function canManage(entry: ChannelEntry, me: User): boolean {
  return entry.channel.kind !== "direct" && (entry.member.role === "manager" || isAdmin(me));
}

export function isAdmin(user: User): boolean {
  return user.role === "admin" || user.role === "owner";
}

/** The other person of a direct channel; oneself in the channel with oneself. */
export function directPeer(entry: ChannelEntry, meId: string): string {
  return entry.channel.direct_user_ids.find((id) => id !== meId) ?? meId;
}

export type { Message };
