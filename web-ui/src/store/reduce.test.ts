import { describe, expect, test } from "vitest";
import type { ChannelEntry, Message, User } from "../api/types";
import * as reduce from "./reduce";
import { initialState, type LiveState, unreadCount } from "./state";

const person = (id: string, over: Partial<User> = {}): User => ({
  id,
  username: `u${id}`,
  display_name: `User ${id}`,
  role: "member",
  locale: "",
  disabled: false,
  version: 1,
  created_ms: 0,
  must_change_password: false,
  ...over,
});

const entry = (id: string, lastSeq: number, readSeq: number): ChannelEntry => ({
  channel: {
    id,
    kind: "public",
    name: `c${id}`,
    topic: "",
    creator_id: "1",
    created_ms: 0,
    archived: false,
    version: 1,
    direct_user_ids: [],
    last_seq: lastSeq,
    last_ms: 0,
    member_count: 2,
  },
  member: { role: "member", joined_ms: 0, read_seq: readSeq, notify: "all" },
});

const message = (seq: number, over: Partial<Message> = {}): Message => ({
  id: String(seq),
  channel_id: "7",
  seq,
  sender_id: "2",
  client_id: `c${seq}`,
  body: "hi",
  version: 1,
  created_ms: seq,
  edited_ms: null,
  deleted_ms: null,
  ...over,
});

function start(): LiveState {
  const settings = {
    version: 1,
    organisation: "Org",
    default_locale: "en",
    time_zone: "UTC",
    session_days: 30,
    edit_window_seconds: 0,
  };
  return reduce.setChannels(initialState(person("1"), settings), [entry("7", 3, 3)]);
}

const created = (m: Message) => ({ event: "message.created", pos: "9", message: m }) as const;

describe("unread", () => {
  test("stays at nothing when one writes oneself, also from another device", () => {
    const state = reduce.reduceEvent(start(), created(message(4, { sender_id: "1" })), 0);
    expect(state.channels["7"]?.member.read_seq).toBe(4);
  });

  test("grows with a message and shrinks with the read mark, which never goes back", () => {
    let state = reduce.reduceEvent(start(), created(message(4)), 0);
    expect(unreadCount(state.channels["7"] as ChannelEntry)).toBe(1);
    state = reduce.reduceEvent(state, { event: "read", pos: "10", channel_id: "7", user_id: "1", read_seq: 4 }, 0);
    expect(unreadCount(state.channels["7"] as ChannelEntry)).toBe(0);
    state = reduce.reduceEvent(state, { event: "read", pos: "11", channel_id: "7", user_id: "1", read_seq: 2 }, 0);
    expect(unreadCount(state.channels["7"] as ChannelEntry)).toBe(0);
  });
  test("is not touched by a repeated event or by a list fetched before it", () => {
    let state = reduce.reduceEvent(start(), created(message(4)), 0);
    state = reduce.reduceEvent(state, created(message(4)), 0);
    state = reduce.setChannels(state, [entry("7", 3, 3)]);
    expect(unreadCount(state.channels["7"] as ChannelEntry)).toBe(1);
  });
});

describe("channels", () => {
  test("being removed drops the channel and its messages", () => {
    let state = start();
    const page = { items: [message(3)], last_seq: 3, has_before: false, has_after: false, pos: "1" };
    state = reduce.pageFetched(state, "7", page, "replace");
    state = reduce.reduceEvent(state, { event: "member.removed", pos: "10", channel_id: "7", user_id: "1" }, 0);
    expect([state.channels["7"], state.timelines["7"]]).toEqual([undefined, undefined]);
  });
  test("an older version of a channel is ignored, the head never goes back", () => {
    const newer = { ...entry("7", 2, 0).channel, version: 3, name: "new" };
    let state = reduce.reduceEvent(start(), { event: "channel.updated", pos: "10", channel: newer }, 0);
    state = reduce.reduceEvent(
      state,
      { event: "channel.updated", pos: "9", channel: { ...newer, version: 2, name: "old" } },
      0,
    );
    expect([state.channels["7"]?.channel.name, state.channels["7"]?.channel.last_seq]).toEqual(["new", 3]);
  });
});

describe("outbox", () => {
  const item = {
    client_id: "c4",
    channel_id: "7",
    body: "hi",
    created_ms: 0,
    status: "sending",
    code: null,
  } as const;
  test("the own message from the stream confirms it", () => {
    const state = reduce.putOutbox(start(), item);
    expect(reduce.reduceEvent(state, created(message(4, { sender_id: "1" })), 0).outbox).toEqual([]);
  });
  test("somebody else's message with the same client id does not", () => {
    const state = reduce.putOutbox(start(), item);
    expect(reduce.reduceEvent(state, created(message(4, { sender_id: "2" })), 0).outbox).toHaveLength(1);
  });
  test("a fetched page confirms it too", () => {
    const state = reduce.putOutbox(start(), item);
    const page = { items: [message(4, { sender_id: "1" })], last_seq: 4, has_before: true, has_after: false, pos: "1" };
    expect(reduce.pageFetched(state, "7", page, "replace").outbox).toEqual([]);
  });
  test("putting it again replaces it in its place", () => {
    let state = reduce.putOutbox(reduce.putOutbox(start(), item), { ...item, client_id: "c5" });
    state = reduce.putOutbox(state, { ...item, status: "failed", code: "forbidden" });
    expect(state.outbox.map((held) => [held.client_id, held.status])).toEqual([
      ["c4", "failed"],
      ["c5", "sending"],
    ]);
  });
});

describe("people", () => {
  test("typing ends by time and by the message", () => {
    const typed = reduce.reduceEvent(start(), { event: "typing", channel_id: "7", user_id: "2" }, 1000);
    expect(typed.typing["7"]).toEqual({ "2": 1000 + reduce.TYPING_SHOWN_MS });
    expect(reduce.expireTyping(typed, 1001)).toBe(typed);
    expect(reduce.expireTyping(typed, 1000 + reduce.TYPING_SHOWN_MS).typing).toEqual({});
    expect(reduce.reduceEvent(typed, created(message(4)), 1001).typing["7"]).toEqual({});
  });
  test("own typing is not shown", () => {
    const state = start();
    expect(reduce.reduceEvent(state, { event: "typing", channel_id: "7", user_id: "1" }, 0)).toBe(state);
  });
  test("presence comes and goes", () => {
    let state = reduce.reduceEvent(start(), { event: "presence", online: ["2", "3"], offline: [] }, 0);
    state = reduce.reduceEvent(state, { event: "presence", online: [], offline: ["2"] }, 0);
    expect([...state.online]).toEqual(["3"]);
  });
  test("an older record of a person is ignored and the own record follows", () => {
    let state = reduce.reduceEvent(
      start(),
      { event: "user.updated", pos: "5", user: person("1", { version: 3, display_name: "New" }) },
      0,
    );
    state = reduce.reduceEvent(
      state,
      { event: "user.updated", pos: "4", user: person("1", { version: 2, display_name: "Old" }) },
      0,
    );
    expect(state.me.display_name).toBe("New");
  });
});
