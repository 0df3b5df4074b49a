// The messages of a conversation. A bounded window of rows is in the DOM (see store/timeline); this file keeps the place
// of the reader steady while the window changes at either end, opens at the first unread message, and marks as read what
// was really on the screen of a focused page.
import { Button, UnstyledButton } from "@mantine/core";
import {
  Fragment,
  forwardRef,
  type KeyboardEvent,
  useCallback,
  useEffect,
  useImperativeHandle,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import { useTranslation } from "react-i18next";
import type { ChannelEntry, Message } from "../api/types";
import { dayName, dayNumber } from "../i18n/format";
import { useLive, useStore } from "../store/live";
import { unreadCount } from "../store/state";
import { lastSeq } from "../store/timeline";
import { ErrorNote } from "../ui/feedback";
import { Icon } from "../ui/icons";
import { MessageRow } from "./MessageRow";
import { OutboxRow } from "./OutboxRow";
import { useGo, useView } from "./router";
import { TimelineSkeleton } from "./Skeletons";

export interface TimelineHandle {
  toNewest: () => void;
}

interface Props {
  entry: ChannelEntry;
  title: string;
  editing: number | null;
  onEdit: (seq: number | null) => void;
}

/** Messages of one sender within this time show under one name. */
const GROUP_MS = 5 * 60_000;
/** How near to an end of the window the next part is fetched. */
const NEAR_PX = 700;
const BOTTOM_PX = 32;

/** What the next layout does with the scroll position. */
type Aim = { to: "bottom" } | { to: "row"; seq: number; mark: boolean } | { to: "stay" };

export const Timeline = forwardRef<TimelineHandle, Props>(function Timeline({ entry, title, editing, onEdit }, handle) {
  const { t } = useTranslation();
  const store = useStore();
  const go = useGo();
  const { m } = useView();
  const id = entry.channel.id;
  const timeline = useLive((state) => state.timelines[id]);
  const allUnsent = useLive((state) => state.outbox);
  const unsent = useMemo(() => allUnsent.filter((item) => item.channel_id === id), [allUnsent, id]);
  const [failure, setFailure] = useState<unknown>(null);
  const [atBottom, setAtBottom] = useState(true);
  const [marked, setMarked] = useState<number | null>(null);
  // Where the line "new messages" stands; fixed while the conversation stays open.
  const [divider] = useState(() => (unreadCount(entry) > 0 ? entry.member.read_seq + 1 : null));
  const scroller = useRef<HTMLDivElement>(null);
  const content = useRef<HTMLDivElement>(null);
  const aim = useRef<Aim>({ to: "bottom" });
  const stick = useRef(true);
  const anchor = useRef<{ seq: number; top: number } | null>(null);
  const shown = useRef<number | null>(null);

  const open = useCallback(
    (seq: number | null, mark: boolean) => {
      setFailure(null);
      aim.current = seq === null ? { to: "bottom" } : { to: "row", seq, mark };
      stick.current = seq === null;
      store.openAt(id, seq).catch(setFailure);
    },
    [store, id],
  );

  // First opening, a new message in the address, and a timeline that was dropped by a resync.
  const missing = timeline === undefined;
  // biome-ignore lint/correctness/useExhaustiveDependencies: the address and a dropped timeline are the triggers
  useEffect(() => {
    if (m !== undefined && m !== shown.current) {
      shown.current = m;
      open(m, true);
    } else if (missing || shown.current === null) {
      const first = shown.current === null;
      shown.current = 0;
      const held = store.get().timelines[id];
      if (first && divider !== null) open(divider, false);
      else if (!held || held.hasAfter) open(first ? null : (anchor.current?.seq ?? null), false);
    }
  }, [m, missing, id]);

  const seenTo = useCallback(() => {
    const box = scroller.current;
    if (!box || document.visibilityState !== "visible" || !document.hasFocus()) return;
    const limit = box.scrollTop + box.clientHeight + BOTTOM_PX;
    const rows = box.querySelectorAll<HTMLElement>("[data-seq]");
    for (let index = rows.length - 1; index >= 0; index -= 1) {
      const row = rows[index];
      if (row && row.offsetTop + row.offsetHeight <= limit) {
        store.markRead(id, Number(row.dataset.seq));
        return;
      }
    }
  }, [store, id]);

  const settle = useCallback(() => {
    const box = scroller.current;
    const held = store.get().timelines[id];
    if (!box || !held) return;
    const below = box.scrollHeight - box.scrollTop - box.clientHeight;
    stick.current = below <= BOTTOM_PX && !held.hasAfter;
    setAtBottom(stick.current);
    anchor.current = findAnchor(box);
    if (box.scrollTop < NEAR_PX && held.hasBefore) store.extend(id, "before").catch(() => undefined);
    if (below < NEAR_PX && held.hasAfter) store.extend(id, "after").catch(() => undefined);
    seenTo();
  }, [store, id, seenTo]);

  // After every change of the rows: go where an opening wants to, else stay at the bottom, else keep the reader's place.
  // biome-ignore lint/correctness/useExhaustiveDependencies: exactly these change the rows
  useLayoutEffect(() => {
    const box = scroller.current;
    if (!box || !timeline) return;
    const goal = aim.current;
    if (goal.to === "row") {
      const row = box.querySelector<HTMLElement>(`[data-seq="${goal.seq}"]`);
      if (row) {
        box.scrollTop = row.offsetTop - (goal.mark ? box.clientHeight / 3 : 90);
        if (goal.mark) setMarked(goal.seq);
        aim.current = { to: "stay" };
      } else if (lastSeq(timeline) >= goal.seq) aim.current = { to: "stay" };
    } else if (goal.to === "bottom" || stick.current) {
      box.scrollTop = box.scrollHeight;
      if (!timeline.hasAfter) aim.current = { to: "stay" };
    } else if (anchor.current) {
      const row = box.querySelector<HTMLElement>(`[data-seq="${anchor.current.seq}"]`);
      if (row) box.scrollTop = row.offsetTop - anchor.current.top;
    }
    settle();
  }, [timeline, unsent]);

  // The composer grows, pictures of the window change: the bottom stays the bottom.
  useEffect(() => {
    const box = scroller.current;
    const inner = content.current;
    if (!box || !inner) return;
    const observer = new ResizeObserver(() => {
      if (stick.current) box.scrollTop = box.scrollHeight;
    });
    observer.observe(box);
    observer.observe(inner);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    window.addEventListener("focus", seenTo);
    document.addEventListener("visibilitychange", seenTo);
    return () => {
      window.removeEventListener("focus", seenTo);
      document.removeEventListener("visibilitychange", seenTo);
    };
  }, [seenTo]);

  const toNewest = useCallback(() => {
    if (m !== undefined) go.message(undefined);
    setMarked(null);
    const box = scroller.current;
    const held = store.get().timelines[id];
    if (!held || held.hasAfter) open(null, false);
    else if (box) {
      stick.current = true;
      aim.current = { to: "bottom" };
      box.scrollTop = box.scrollHeight;
    }
  }, [m, go, store, id, open]);
  useImperativeHandle(handle, () => ({ toNewest }), [toNewest]);

  const newCount = unreadCount(entry);
  return (
    <div className="ch-timeline">
      <div
        className="ch-scroll"
        ref={scroller}
        onScroll={settle}
        onKeyDown={moveFocus}
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable by keyboard
        tabIndex={0}
        role="log"
        aria-label={t("chat.log", { name: title })}
        aria-live={atBottom ? "polite" : "off"}
      >
        <div className="ch-content" ref={content}>
          {failure && !timeline ? (
            <div className="hf-center">
              <h2>{t("chat.load_failed")}</h2>
              <ErrorNote error={failure} onRetry={() => open(null, false)} />
            </div>
          ) : !timeline ? (
            <TimelineSkeleton />
          ) : (
            <>
              {timeline.hasBefore ? (
                <div className="ch-more" aria-hidden="true">
                  <TimelineSkeleton />
                </div>
              ) : (
                <Start entry={entry} title={title} />
              )}
              {timeline.messages.map((message, index) => (
                <Fragment key={message.seq}>
                  <Separators
                    message={message}
                    before={onTimeBefore(timeline.messages, index)}
                    divider={divider !== null && firstShownFrom(timeline.messages, divider) === message.seq}
                  />
                  <MessageRow
                    message={message}
                    grouped={isGrouped(timeline.messages[index - 1], message) && divider !== message.seq}
                    marked={marked === message.seq}
                    editing={editing === message.seq}
                    onEdit={onEdit}
                  />
                </Fragment>
              ))}
              {timeline.hasAfter ? null : unsent.map((item) => <OutboxRow key={item.client_id} item={item} />)}
            </>
          )}
        </div>
      </div>
      {timeline && !atBottom ? (
        <Button
          className="ch-newest"
          radius="xl"
          size="sm"
          leftSection={<Icon name="down" size={16} />}
          onClick={toNewest}
        >
          {newCount > 0 ? t("chat.jump_newest_count", { count: newCount }) : t("chat.jump_newest")}
        </Button>
      ) : null}
    </div>
  );
});

/** The line stands at the first message held from that number on: the exact one may be outside the window. */
function firstShownFrom(messages: readonly Message[], seq: number): number | undefined {
  const first = messages[0]?.seq ?? 0;
  return first > seq ? undefined : seq;
}

function isGrouped(before: Message | undefined, message: Message): boolean {
  return (
    before !== undefined &&
    !before.late &&
    !message.late &&
    before.sender_id === message.sender_id &&
    message.created_ms - before.created_ms < GROUP_MS &&
    dayNumber(before.created_ms) === dayNumber(message.created_ms)
  );
}

/** The last message before that one that stands where its time says: those that arrived late divide no days. */
function onTimeBefore(messages: readonly Message[], index: number): Message | undefined {
  for (let at = index - 1; at >= 0; at -= 1) if (!messages[at]?.late) return messages[at];
  return undefined;
}

/** The first row whose lower edge is in view, and where it stands. */
function findAnchor(box: HTMLElement): { seq: number; top: number } | null {
  const rows = box.querySelectorAll<HTMLElement>("[data-seq]");
  let low = 0;
  let high = rows.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    const row = rows[middle];
    if (row && row.offsetTop + row.offsetHeight > box.scrollTop) high = middle;
    else low = middle + 1;
  }
  const row = rows[low];
  return row ? { seq: Number(row.dataset.seq), top: row.offsetTop - box.scrollTop } : null;
}

/** Arrow keys go from message to message; Home and End to the ends of the window. */
function moveFocus(event: KeyboardEvent<HTMLElement>): void {
  const target = event.target as HTMLElement;
  if (target !== event.currentTarget && !target.matches("[data-row]")) return;
  const rows = [...event.currentTarget.querySelectorAll<HTMLElement>("[data-row]")];
  const at = rows.indexOf(target);
  const next =
    event.key === "ArrowUp"
      ? rows[at < 0 ? rows.length - 1 : Math.max(0, at - 1)]
      : event.key === "ArrowDown"
        ? rows[at < 0 ? rows.length - 1 : Math.min(rows.length - 1, at + 1)]
        : event.key === "Home"
          ? rows[0]
          : event.key === "End"
            ? rows.at(-1)
            : undefined;
  if (!next) return;
  event.preventDefault();
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function Separators({ message, before, divider }: { message: Message; before: Message | undefined; divider: boolean }) {
  const { t } = useTranslation();
  const newDay = !message.late && (!before || dayNumber(before.created_ms) !== dayNumber(message.created_ms));
  const now = Date.now();
  const age = dayNumber(now) - dayNumber(message.created_ms);
  return (
    <>
      {newDay ? (
        <div className="ch-day">
          <span>
            {age === 0 ? t("chat.today") : age === 1 ? t("chat.yesterday") : dayName(message.created_ms, now)}
          </span>
        </div>
      ) : null}
      {divider ? (
        <div className="ch-new">
          <span>{t("chat.new_messages")}</span>
        </div>
      ) : null}
    </>
  );
}

function Start({ entry, title }: { entry: ChannelEntry; title: string }) {
  const { t } = useTranslation();
  const go = useGo();
  const direct = entry.channel.kind === "direct";
  return (
    <div className="ch-start">
      <h2>{direct ? t("chat.start_direct", { name: title }) : t("chat.start", { name: title })}</h2>
      <p className="hf-dim">{entry.channel.topic || (entry.channel.last_seq === 0 ? t("chat.start_hint") : "")}</p>
      {direct ? null : (
        <UnstyledButton className="ch-link" onClick={() => go.panel("details")}>
          {t("details.add")}
        </UnstyledButton>
      )}
    </div>
  );
}
