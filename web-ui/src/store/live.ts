// The live store of a signed-in tab: holds the state, feeds it from the stream and from fetches, and does what the
// screens ask for. Screens read it with `useLive(selector)` and never change it themselves.
import { createContext, useContext, useRef, useSyncExternalStore } from "react";
import * as calls from "../api/calls";
import { toApiError } from "../api/errors";
import { getToken, setToken } from "../api/session";
import type { Me, Message } from "../api/types";
import { Hub } from "../realtime/hub";
import { loadOutbox } from "./keep";
import * as reduce from "./reduce";
import { Sender } from "./sender";
import { initialState, type LiveState, type OutboxItem, unreadCount } from "./state";
import { firstSeq, lastSeq } from "./timeline";

/** Messages per fetch. */
const PAGE_ROWS = 60;
const READ_PAUSE_MS = 400;
const TYPING_PAUSE_MS = 3_000;
const WAITING_RETRY_MS = 15_000;

export class LiveStore {
  private state: LiveState;
  private readonly listeners = new Set<() => void>();
  private hub: Hub | null = null;
  private readonly sender: Sender;
  private readonly fetching = new Map<string, Promise<void>>();
  private readonly askedUsers = new Set<string>();
  private readonly readTimers = new Map<string, ReturnType<typeof setTimeout>>();
  private readonly typingSentMs = new Map<string, number>();
  private ticker: ReturnType<typeof setInterval> | undefined;
  private lastWaitingRetryMs = 0;

  constructor(private readonly me: Me) {
    this.state = initialState(me.user, me.settings);
    this.sender = new Sender({
      userId: me.user.id,
      put: (item) => this.set(reduce.putOutbox(this.state, item)),
      drop: (clientId) => this.set(reduce.dropOutbox(this.state, clientId)),
      confirmed: (message) => this.messageKnown(message),
      wanted: (clientId) => this.state.outbox.some((item) => item.client_id === clientId),
    });
  }

  /** Fetches the first state and joins the stream. */
  async start(): Promise<void> {
    const pos = await this.fetchAll();
    for (const item of loadOutbox(this.me.user.id)) this.sender.retry(item);
    this.hub = new Hub({
      group: this.me.session.id,
      token: getToken,
      startPos: pos,
      onEvent: (event) => this.set(reduce.reduceEvent(this.state, event, Date.now())),
      onStatus: (status, retryAtMs) => {
        const everOnline = this.state.link.everOnline || status === "online";
        this.set({ ...this.state, link: { status, retryAtMs, everOnline } });
        if (status === "online") {
          this.retryWaiting();
          this.fetchPresence();
        }
      },
      onResync: () => this.resync(),
      onSessionOver: () => setToken(null, "expired"),
    });
    this.hub.start();
    this.ticker = setInterval(() => this.tick(), 1_000);
  }

  stop(): void {
    clearInterval(this.ticker);
    for (const timer of this.readTimers.values()) clearTimeout(timer);
    this.hub?.stop();
  }

  readonly get = (): LiveState => this.state;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  reconnectNow(): void {
    this.hub?.retryNow();
  }

  apply(change: (state: LiveState) => LiveState): void {
    this.set(change(this.state));
  }

  // ---- messages

  /** Loads the part of a channel around `seq`, or its newest part. Throws ApiError. */
  async openAt(channelId: string, seq: number | null): Promise<void> {
    const page = await calls.messages(channelId, seq === null ? {} : { around: seq }, PAGE_ROWS);
    this.set(reduce.pageFetched(this.state, channelId, page, "replace"));
    this.needUsers(page.items.map((message) => message.sender_id));
  }

  /** Extends the window; calls for the same side and channel share one fetch. Errors end silently: scrolling retries. */
  extend(channelId: string, side: "before" | "after"): Promise<void> {
    const key = `${channelId} ${side}`;
    const running = this.fetching.get(key);
    if (running) return running;
    const started = this.fetchSide(channelId, side).finally(() => this.fetching.delete(key));
    this.fetching.set(key, started);
    return started;
  }

  private async fetchSide(channelId: string, side: "before" | "after"): Promise<void> {
    const timeline = this.state.timelines[channelId];
    if (!timeline) return;
    const at = side === "before" ? { before: firstSeq(timeline) } : { after: lastSeq(timeline) };
    const page = await calls.messages(channelId, at, PAGE_ROWS);
    // The window may have been replaced meanwhile; a page that no longer touches it would tear a hole.
    const now = this.state.timelines[channelId];
    if (!now || (side === "before" ? firstSeq(now) !== at.before : lastSeq(now) < (at.after ?? 0))) return;
    this.set(reduce.pageFetched(this.state, channelId, page, side));
    this.needUsers(page.items.map((message) => message.sender_id));
  }

  send(channelId: string, body: string): void {
    this.typingSentMs.delete(channelId);
    this.sender.send(channelId, body);
  }

  retry(item: OutboxItem): void {
    this.sender.retry(item);
  }

  discard(item: OutboxItem): void {
    this.sender.remove(item);
  }

  async edit(message: Message, body: string): Promise<void> {
    this.messageKnown(await this.orDone(calls.editMessage(message, body), (now) => now.body === body));
  }

  async remove(message: Message): Promise<void> {
    this.messageKnown(await this.orDone(calls.deleteMessage(message), (now) => now.deleted_ms != null));
  }

  /** A change whose answer was lost is repeated and then refused as stale: when it is there already, it was done. */
  private async orDone(change: Promise<Message>, done: (now: Message) => boolean): Promise<Message> {
    try {
      return await change;
    } catch (cause) {
      const now = toApiError(cause).current as Message | null | undefined;
      if (now && done(now)) return now;
      throw cause;
    }
  }

  private messageKnown(message: Message): void {
    const event = { event: message.version > 1 || message.deleted_ms != null ? "message.updated" : "message.created" };
    this.set(
      reduce.reduceEvent(
        this.state,
        { event: event.event as "message.created" | "message.updated", pos: "0", message },
        Date.now(),
      ),
    );
    if (message.sender_id === this.state.me.id) this.set(reduce.dropOutbox(this.state, message.client_id));
  }

  /** Remembers that everything up to `seq` was seen and tells the server after a short pause. */
  markRead(channelId: string, seq: number): void {
    const entry = this.state.channels[channelId];
    if (!entry || entry.member.read_seq >= seq) return;
    this.set(reduce.readTo(this.state, channelId, seq));
    // One call per pause, with the newest mark then: a busy channel must not put it off for ever.
    if (this.readTimers.has(channelId)) return;
    this.readTimers.set(
      channelId,
      setTimeout(() => {
        this.readTimers.delete(channelId);
        const read = this.state.channels[channelId]?.member.read_seq ?? seq;
        // A read mark that gets lost is repeated by the next one; nothing to tell the user.
        calls.markRead(channelId, read).catch(() => undefined);
      }, READ_PAUSE_MS),
    );
  }

  typing(channelId: string): void {
    const now = Date.now();
    if (now - (this.typingSentMs.get(channelId) ?? 0) < TYPING_PAUSE_MS || this.state.link.status !== "online") return;
    this.typingSentMs.set(channelId, now);
    calls.typing(channelId).catch(() => undefined);
  }

  /** Makes sure that these people are known, fetching who is not. */
  needUsers(ids: readonly string[]): void {
    for (const id of new Set(ids)) {
      if (this.state.users[id] || this.askedUsers.has(id)) continue;
      this.askedUsers.add(id);
      calls.user(id).then(
        (user) => this.set(reduce.putUsers(this.state, [user])),
        () => setTimeout(() => this.askedUsers.delete(id), 30_000),
      );
    }
  }

  unreadTotal(): number {
    return Object.values(this.state.channels).reduce(
      (sum, entry) => sum + (entry.member.notify === "muted" ? 0 : unreadCount(entry)),
      0,
    );
  }

  // ---- inside

  private async fetchAll(): Promise<string> {
    const [list, people] = await Promise.all([calls.channels(), calls.users(undefined, undefined, 200)]);
    this.set(reduce.setChannels(reduce.putUsers(this.state, people.items), list.items));
    this.needUsers(list.items.flatMap((entry) => entry.channel.direct_user_ids));
    return list.pos;
  }

  private async resync(): Promise<string> {
    for (;;) {
      try {
        const pos = await this.fetchAll();
        // Open timelines fetch themselves anew when they find nothing held.
        this.set(reduce.dropTimelines(this.state));
        this.fetchPresence();
        return pos;
      } catch (cause) {
        if (!toApiError(cause).retryable) throw cause;
        await new Promise((resolve) => setTimeout(resolve, 2_000));
      }
    }
  }

  private fetchPresence(): void {
    calls.presence().then(
      ({ online }) => this.set({ ...this.state, online: new Set(online) }),
      () => undefined,
    );
  }

  private retryWaiting(): void {
    this.lastWaitingRetryMs = Date.now();
    for (const item of this.state.outbox) if (item.status === "waiting") this.sender.retry(item);
  }

  private tick(): void {
    const now = Date.now();
    this.set(reduce.expireTyping(this.state, now));
    if (this.state.link.status === "online" && now - this.lastWaitingRetryMs > WAITING_RETRY_MS) this.retryWaiting();
  }

  private set(next: LiveState): void {
    if (next === this.state) return;
    this.state = next;
    for (const listener of this.listeners) listener();
  }
}

export const LiveContext = createContext<LiveStore | null>(null);

export function useStore(): LiveStore {
  const store = useContext(LiveContext);
  if (!store) throw new Error("the live store is only there for signed-in screens");
  return store;
}

/** Reads a part of the live state; renders again only when that part changes (by `Object.is`, or `same`). */
export function useLive<T>(select: (state: LiveState) => T, same: (a: T, b: T) => boolean = Object.is): T {
  const store = useStore();
  const held = useRef<{ value: T } | null>(null);
  const read = () => {
    const value = select(store.get());
    if (held.current && same(held.current.value, value)) return held.current.value;
    held.current = { value };
    return value;
  };
  return useSyncExternalStore(store.subscribe, read);
}
