// The events of the server's stream, as they arrive. Unknown event names are allowed: a newer server may send more.
import type { Channel, ChannelEntry, Member, Message, OwnMember, Settings, User } from "../api/types";

export type LiveEvent =
  | { event: "message.created" | "message.updated"; pos: string; message: Message }
  | { event: "channel.created"; pos: string; entry: ChannelEntry }
  | { event: "channel.updated"; pos: string; channel: Channel }
  | { event: "member.added" | "member.updated"; pos: string; channel_id: string; member: Member }
  | { event: "member.removed"; pos: string; channel_id: string; user_id: string }
  | { event: "read"; pos: string; channel_id: string; user_id: string; read_seq: number }
  | { event: "membership.updated"; pos: string; channel_id: string; member: OwnMember }
  | { event: "user.created" | "user.updated"; pos: string; user: User }
  | { event: "settings.updated"; pos: string; settings: Settings }
  | { event: "typing"; channel_id: string; user_id: string }
  | { event: "presence"; online: string[]; offline: string[] };

/** The position of a durable event in the log; ephemeral events have none. */
export function eventPos(event: LiveEvent): string | null {
  return "pos" in event && typeof event.pos === "string" ? event.pos : null;
}

/** Compares two positions (decimal digits without leading zeros): negative when `a` is earlier. */
export function comparePos(a: string, b: string): number {
  if (a.length !== b.length) return a.length - b.length;
  return a < b ? -1 : a > b ? 1 : 0;
}
