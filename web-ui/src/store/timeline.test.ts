import { describe, expect, test } from "vitest";
import type { Message, MessagePage } from "../api/types";
import {
  addCreated,
  applyUpdated,
  lastSeq,
  mergePage,
  type Timeline,
  trim,
  WINDOW_MAX,
  WINDOW_SLACK,
} from "./timeline";

function message(seq: number, over: Partial<Message> = {}): Message {
  return {
    id: String(1000 + seq),
    channel_id: "7",
    seq,
    sender_id: "2",
    client_id: `c-${seq}`,
    body: `m${seq}`,
    version: 1,
    created_ms: seq * 1000,
    edited_ms: null,
    deleted_ms: null,
    ...over,
  };
}

function run(from: number, to: number): Message[] {
  return Array.from({ length: to - from + 1 }, (_, index) => message(from + index));
}

function page(from: number, to: number, over: Partial<MessagePage> = {}): MessagePage {
  return { items: run(from, to), last_seq: to, has_before: from > 1, has_after: false, pos: "1", ...over };
}

const seqs = (timeline: Timeline) => timeline.messages.map((held) => held.seq);
const at = (from: number, to: number, hasAfter = false): Timeline => ({
  messages: run(from, to),
  hasBefore: from > 1,
  hasAfter,
});

describe("a created message", () => {
  test("is appended when it follows the newest", () => {
    expect(seqs(addCreated(at(1, 3), message(4)))).toEqual([1, 2, 3, 4]);
  });
  test("is the first of an empty channel", () => {
    expect(seqs(addCreated({ messages: [], hasBefore: false, hasAfter: false }, message(1)))).toEqual([1]);
  });
  test("seen twice changes nothing", () => {
    const held = at(1, 3);
    expect(addCreated(held, message(3))).toBe(held);
  });
  test("after a gap is not shown: the window says that more must be fetched", () => {
    const next = addCreated(at(1, 3), message(6));
    expect(seqs(next)).toEqual([1, 2, 3]);
    expect(next.hasAfter).toBe(true);
  });
  test("does not show in a window that is not at the newest", () => {
    const held = at(1, 3, true);
    expect(addCreated(held, message(4))).toBe(held);
  });
  test("cuts the far end of a window that grew too long", () => {
    let timeline = at(1, WINDOW_MAX);
    for (let seq = WINDOW_MAX + 1; seq <= WINDOW_MAX + WINDOW_SLACK + 1; seq += 1) {
      timeline = addCreated(timeline, message(seq));
    }
    expect(timeline.messages).toHaveLength(WINDOW_MAX);
    expect(lastSeq(timeline)).toBe(WINDOW_MAX + WINDOW_SLACK + 1);
    expect(timeline.hasBefore).toBe(true);
  });
});

describe("an updated message", () => {
  test("replaces an older version only", () => {
    const edited = applyUpdated(at(1, 3), message(2, { version: 2, body: "new" }));
    expect(edited.messages[1]?.body).toBe("new");
    expect(applyUpdated(edited, message(2))).toBe(edited);
  });
  test("deletes even when the version did not grow", () => {
    const gone = applyUpdated(at(1, 3), message(2, { body: "", deleted_ms: 5 }));
    expect(gone.messages[1]?.deleted_ms).toBe(5);
    expect(applyUpdated(gone, message(2))).toBe(gone);
  });
  test("outside the window is ignored", () => {
    const held = at(10, 12);
    expect(applyUpdated(held, message(3, { version: 2 }))).toBe(held);
  });
});

describe("a fetched page", () => {
  test("before joins at the start and drops repeats", () => {
    const next = mergePage(at(10, 12), page(6, 10, { has_before: true, has_after: true }), "before", 12);
    expect(seqs(next)).toEqual([6, 7, 8, 9, 10, 11, 12]);
    expect(next.hasBefore).toBe(true);
    expect(next.hasAfter).toBe(false);
  });
  test("after joins at the end, and repeats bring newer versions", () => {
    const items = [message(3, { version: 2, body: "edited" }), message(4)];
    const next = mergePage(at(1, 3, true), { ...page(3, 4), items }, "after", 4);
    expect(next.messages.map((held) => held.body)).toEqual(["m1", "m2", "edited", "m4"]);
    expect(next.hasAfter).toBe(false);
  });
  test("read before a later event does not claim to be the end", () => {
    expect(mergePage(at(1, 3, true), page(4, 5), "after", 6).hasAfter).toBe(true);
    expect(mergePage(undefined, page(1, 5), "replace", 6).hasAfter).toBe(true);
  });
  test("replacing keeps what an event already said", () => {
    const held = applyUpdated(at(1, 3), message(2, { version: 3, body: "third" }));
    expect(mergePage(held, page(1, 3), "replace", 3).messages[1]?.body).toBe("third");
  });
  test("keeps the window bounded on either side", () => {
    const before = mergePage(at(201, 500), page(141, 200), "before", 500);
    expect([before.messages.length, before.messages[0]?.seq, before.hasAfter]).toEqual([WINDOW_MAX, 141, true]);
    const after = mergePage(at(1, 300, true), page(301, 360), "after", 360);
    expect([after.messages.length, lastSeq(after), after.hasBefore]).toEqual([WINDOW_MAX, 360, true]);
  });
});

test("trim leaves a short window as it is", () => {
  const held = at(1, 10);
  expect(trim(held, "end")).toBe(held);
});
