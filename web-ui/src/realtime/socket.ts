// One WebSocket to the server: hello, resume from the last position, heartbeat, reconnect with growing pauses. With a
// pair it goes to whichever node is active. It only carries events; everything that changes something goes over HTTP,
// where it can be repeated safely.
import { backoffMs, departure, find, here, hurry, learn, paired, settle } from "../api/nodes";
import type { LiveEvent } from "./events";

export type LinkStatus = "connecting" | "online" | "waiting" | "ended";

export interface SocketOptions {
  token: () => string | null;
  /** The last position seen, for the resume. */
  pos: () => string | null;
  onEvent: (event: LiveEvent) => void;
  onHello: (hello: { pos: string; resumed: boolean }) => void;
  /** `retryAtMs` is set while waiting for the next try. */
  onStatus: (status: LinkStatus, retryAtMs: number | null) => void;
  /** The server refused the token: the session is over. */
  onSessionOver: () => void;
  random?: () => number;
}

const HELLO_TIMEOUT_MS = 10_000;
const PING_EVERY_MS = 25_000;
const PING_TIMEOUT_MS = 10_000;
const CLOSE_UNAUTHENTICATED = 4001;
const CLOSE_NOT_ACTIVE = 4010;
/** With a pair a node that says nothing is left sooner: the other one may have taken over. */
const PAIR_HELLO_TIMEOUT_MS = 5_000;
const PAIR_PING_EVERY_MS = 5_000;
const PAIR_PING_TIMEOUT_MS = 4_000;
/** All pages of a node notice at once that it is gone; this spreads them a little. */
const PAIR_JITTER_MS = 150;
/** So many connections are tried without a pause: to the one that was found, and to the one that it names instead. */
const PAIR_QUICK_TRIES = 2;
/** How long one search for the active node may take; the next follows at once. */
const SEARCH_MS = 10 * 60_000;

interface Frame {
  ok?: { pos?: string; resumed?: boolean; session_id?: string; addresses?: unknown };
  error?: { code: string; active?: unknown; addresses?: unknown };
}

export class LiveSocket {
  private socket: WebSocket | null = null;
  private attempt = 0;
  private requests = 0;
  private retryTimer: ReturnType<typeof setTimeout> | undefined;
  private helloTimer: ReturnType<typeof setTimeout> | undefined;
  private pingTimer: ReturnType<typeof setInterval> | undefined;
  private pongTimer: ReturnType<typeof setTimeout> | undefined;
  private stopped = false;
  /** The node that the socket is, or was, connected to. */
  private node = "";
  /** Who the last node said is the active one. */
  private told: unknown;
  private seeking = false;

  constructor(private readonly options: SocketOptions) {
    window.addEventListener("online", this.retryNow);
  }

  start(): void {
    this.stopped = false;
    this.connect();
  }

  stop(): void {
    this.stopped = true;
    window.removeEventListener("online", this.retryNow);
    this.clearTimers();
    this.detach();
  }

  /** Ends the pause between two tries, if there is one. */
  readonly retryNow = (): void => {
    if (this.stopped || this.socket) return;
    clearTimeout(this.retryTimer);
    if (this.seeking) hurry();
    else this.next();
  };

  /** Connects, to the active node if there are two. */
  private next(): void {
    if (paired()) void this.seek();
    else this.connect();
  }

  private async seek(): Promise<void> {
    this.seeking = true;
    const told = this.told;
    this.told = undefined;
    const waiting = (untilMs: number | null) => {
      if (!this.stopped) this.options.onStatus("waiting", untilMs);
    };
    waiting(null);
    // Already gone on to another node: a request found it first.
    const found = this.node !== here() || (await find({ forMs: SEARCH_MS, told, failed: this.node, onPause: waiting }));
    this.seeking = false;
    if (this.stopped || this.socket) return;
    if (found || !paired()) this.connect();
    else void this.seek();
  }

  private connect(): void {
    this.options.onStatus("connecting", null);
    this.node = here();
    let socket: WebSocket;
    try {
      socket = new WebSocket(`${this.node.replace(/^http/, "ws")}/api/v1/ws`);
    } catch {
      // A page that was loaded before the pair existed may not go to the other node.
      this.lost(0);
      return;
    }
    this.socket = socket;
    this.helloTimer = setTimeout(() => this.lost(0), paired() ? PAIR_HELLO_TIMEOUT_MS : HELLO_TIMEOUT_MS);
    departure().addEventListener("abort", () => this.socket === socket && this.lost(0));
    socket.onopen = () => {
      const pos = this.options.pos();
      this.send({ op: "hello", token: this.options.token(), ...(pos === null ? {} : { pos }) });
    };
    socket.onmessage = (message) => this.receive(String(message.data));
    socket.onclose = (close) => this.lost(close.code);
  }

  private send(frame: Record<string, unknown>): void {
    this.requests += 1;
    this.socket?.send(JSON.stringify({ id: String(this.requests), ...frame }));
  }

  private receive(text: string): void {
    let frame: unknown;
    try {
      frame = JSON.parse(text);
    } catch {
      this.lost(0);
      return;
    }
    if (typeof frame !== "object" || frame === null) return;
    if ("event" in frame) {
      this.options.onEvent(frame as LiveEvent);
      return;
    }
    clearTimeout(this.pongTimer);
    const { ok, error } = frame as Frame;
    if (error) {
      if (error.code === "unauthenticated" || error.code === "session_expired") this.over();
      if (error.code !== "not_active") return;
      this.told = error.active;
      if (Array.isArray(error.addresses) && error.addresses.length > 1) learn(error.addresses);
      this.lost(CLOSE_NOT_ACTIVE);
    } else if (ok?.session_id !== undefined) {
      learn(ok.addresses);
      this.welcomed(ok.pos ?? "0", ok.resumed === true);
    }
  }

  private welcomed(pos: string, resumed: boolean): void {
    clearTimeout(this.helloTimer);
    this.attempt = 0;
    settle(this.node);
    this.options.onHello({ pos, resumed });
    this.options.onStatus("online", null);
    const [everyMs, timeoutMs] = paired()
      ? [PAIR_PING_EVERY_MS, PAIR_PING_TIMEOUT_MS]
      : [PING_EVERY_MS, PING_TIMEOUT_MS];
    this.pingTimer = setInterval(() => {
      this.send({ op: "ping" });
      clearTimeout(this.pongTimer);
      this.pongTimer = setTimeout(() => this.lost(0), timeoutMs);
    }, everyMs);
  }

  private over(): void {
    this.stop();
    this.options.onStatus("ended", null);
    this.options.onSessionOver();
  }

  private lost(code: number): void {
    this.clearTimers();
    this.detach();
    if (this.stopped) return;
    if (code === CLOSE_UNAUTHENTICATED) {
      this.over();
      return;
    }
    const random = this.options.random ?? Math.random;
    // With a pair the search has its own pauses; these are for a node that says it is active and takes no connection.
    const pause = !paired()
      ? backoffMs(this.attempt, random)
      : this.attempt < PAIR_QUICK_TRIES
        ? PAIR_JITTER_MS * random()
        : backoffMs(this.attempt - PAIR_QUICK_TRIES, random);
    this.attempt += 1;
    this.options.onStatus("waiting", Date.now() + pause);
    this.retryTimer = setTimeout(() => this.next(), pause);
  }

  private detach(): void {
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = null;
    socket.onmessage = null;
    socket.onclose = null;
    // Closing before the handshake is done is legal and only makes the browser log a warning; wait for it instead.
    if (socket.readyState === WebSocket.CONNECTING) socket.onopen = () => socket.close();
    else socket.close();
  }

  private clearTimers(): void {
    clearTimeout(this.retryTimer);
    clearTimeout(this.helloTimer);
    clearTimeout(this.pongTimer);
    clearInterval(this.pingTimer);
  }
}
