// The part of a channel's messages that is held and shown: one unbroken run of sequence numbers, bounded in length.
// Invariants:
// - `messages` ascends by seq without repeats.
// - `hasAfter` is false only when the run ends at the channel's newest known message.
// - never more than WINDOW_MAX messages after `trim`.
import type { Message, MessagePage } from "../api/types";

/** How many messages stay in the DOM. */
export const WINDOW_MAX = 300;
/** Live messages may exceed the window by this before the far end is cut, so that not every message moves it. */
export const WINDOW_SLACK = 50;

export interface Timeline {
  messages: readonly Message[];
  hasBefore: boolean;
  hasAfter: boolean;
}

export type Merge = "replace" | "before" | "after";

export function firstSeq(timeline: Timeline): number {
  return timeline.messages[0]?.seq ?? 0;
}

export function lastSeq(timeline: Timeline): number {
  return timeline.messages.at(-1)?.seq ?? 0;
}

/** True when `next` says more than `held` about the same message. */
function isNewer(next: Message, held: Message): boolean {
  if (next.version !== held.version) return next.version > held.version;
  return next.deleted_ms != null && held.deleted_ms == null;
}

/** Adds a message that was just sent. A number already held is a repeat; a jump in numbers is a gap to fetch. */
export function addCreated(timeline: Timeline, message: Message): Timeline {
  const last = lastSeq(timeline);
  if (message.seq <= last) return applyUpdated(timeline, message);
  if (timeline.hasAfter) return timeline;
  const follows = timeline.messages.length === 0 ? !timeline.hasBefore && message.seq === 1 : message.seq === last + 1;
  if (!follows) return { ...timeline, hasAfter: true };
  const grown = { ...timeline, messages: [...timeline.messages, message] };
  return grown.messages.length > WINDOW_MAX + WINDOW_SLACK ? trim(grown, "end") : grown;
}

/** Replaces a held message by a newer version of it; older versions and messages not held change nothing. */
export function applyUpdated(timeline: Timeline, message: Message): Timeline {
  const index = timeline.messages.findIndex((held) => held.seq === message.seq);
  const held = timeline.messages[index];
  if (!held || !isNewer(message, held)) return timeline;
  const messages = [...timeline.messages];
  messages[index] = message;
  return { ...timeline, messages };
}

/** Keeps the window at the `end` or at the `start` when it is too long. */
export function trim(timeline: Timeline, keep: "start" | "end"): Timeline {
  if (timeline.messages.length <= WINDOW_MAX) return timeline;
  return keep === "end"
    ? { ...timeline, messages: timeline.messages.slice(-WINDOW_MAX), hasBefore: true }
    : { ...timeline, messages: timeline.messages.slice(0, WINDOW_MAX), hasAfter: true };
}

/**
 * Joins a fetched page to the window. `newest` is the highest seq the channel is known to have: a page that was read
 * before a later event must not claim to be the end.
 */
export function mergePage(held: Timeline | undefined, page: MessagePage, merge: Merge, newest: number): Timeline {
  const end = page.items.at(-1)?.seq ?? 0;
  const fresh: Timeline = {
    messages: page.items,
    hasBefore: page.has_before,
    hasAfter: page.has_after || newest > end,
  };
  if (!held || merge === "replace" || held.messages.length === 0) {
    return held && merge === "replace" ? keepNewer(fresh, held) : fresh;
  }
  if (merge === "before") {
    const first = firstSeq(held);
    const older = page.items.filter((message) => message.seq < first);
    return trim({ ...held, messages: [...older, ...held.messages], hasBefore: page.has_before }, "start");
  }
  const last = lastSeq(held);
  const known = page.items.reduce((timeline, message) => applyUpdated(timeline, message), held);
  const newer = page.items.filter((message) => message.seq > last);
  const reached = Math.max(last, end);
  return trim(
    { ...known, messages: [...known.messages, ...newer], hasAfter: page.has_after || newest > reached },
    "end",
  );
}

/** A page may be older than what events already told: the newer version of each message stays. */
function keepNewer(fresh: Timeline, held: Timeline): Timeline {
  return held.messages.reduce((timeline, message) => applyUpdated(timeline, message), fresh);
}
