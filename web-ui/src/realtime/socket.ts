// One WebSocket to the server: hello, resume from the last position, heartbeat, reconnect with growing pauses.
// It only carries events; everything that changes something goes over HTTP, where it can be repeated safely.
import type { LiveEvent } from "./events";

export type LinkStatus = "connecting" | "online" | "waiting" | "ended";

export interface SocketOptions {
  url: string;
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

const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 20_000;
const HELLO_TIMEOUT_MS = 10_000;
const PING_EVERY_MS = 25_000;
const PING_TIMEOUT_MS = 10_000;
const CLOSE_UNAUTHENTICATED = 4001;

/** The pause before try number `attempt` (from 0): doubling, capped, and spread over its upper half. */
export function backoffMs(attempt: number, random: () => number): number {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(full / 2 + (full / 2) * random());
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
    this.connect();
  };

  private connect(): void {
    this.options.onStatus("connecting", null);
    const socket = new WebSocket(this.options.url);
    this.socket = socket;
    this.helloTimer = setTimeout(() => this.lost(0), HELLO_TIMEOUT_MS);
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
    const answer = frame as { ok?: { pos?: string; resumed?: boolean; session_id?: string }; error?: { code: string } };
    if (answer.error) {
      if (answer.error.code === "unauthenticated" || answer.error.code === "session_expired") this.over();
      return;
    }
    if (answer.ok?.session_id !== undefined) this.welcomed(answer.ok.pos ?? "0", answer.ok.resumed === true);
  }

  private welcomed(pos: string, resumed: boolean): void {
    clearTimeout(this.helloTimer);
    this.attempt = 0;
    this.options.onHello({ pos, resumed });
    this.options.onStatus("online", null);
    this.pingTimer = setInterval(() => {
      this.send({ op: "ping" });
      clearTimeout(this.pongTimer);
      this.pongTimer = setTimeout(() => this.lost(0), PING_TIMEOUT_MS);
    }, PING_EVERY_MS);
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
    const pause = backoffMs(this.attempt, this.options.random ?? Math.random);
    this.attempt += 1;
    this.options.onStatus("waiting", Date.now() + pause);
    this.retryTimer = setTimeout(() => this.connect(), pause);
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
