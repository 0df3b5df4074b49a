// The event stream as one tab sees it. The tabs of a browser share one WebSocket: the tab that holds a Web Lock owns it
// and repeats every event to the others over a BroadcastChannel. Each repeated event names the position before it, so a
// tab that missed one notices and asks for a resync instead of showing a hole. Without Web Locks (an insecure context)
// every tab has its own socket.
import { comparePos, eventPos, type LiveEvent } from "./events";
import { type LinkStatus, LiveSocket } from "./socket";

export interface HubOptions {
  /** Names the sharing group; tabs of the same session share. */
  group: string;
  token: () => string | null;
  /** The position up to which the tab's own state is complete. */
  startPos: string;
  onEvent: (event: LiveEvent) => void;
  onStatus: (status: LinkStatus, retryAtMs: number | null) => void;
  /** Events were lost: everything must be fetched again. Resolves to the position of what was fetched. */
  onResync: () => Promise<string>;
  onSessionOver: () => void;
}

type TabMessage =
  | { type: "event"; prev: string; event: LiveEvent }
  | { type: "status"; status: LinkStatus; retryAtMs: number | null }
  | { type: "resync"; pos: string }
  | { type: "who" }
  | { type: "retry" }
  | { type: "over" };

export class Hub {
  private socket: LiveSocket | null = null;
  private channel: BroadcastChannel | null = null;
  private release: (() => void) | null = null;
  private readonly abort = new AbortController();
  private status: LinkStatus = "connecting";
  private retryAtMs: number | null = null;
  private resyncing = false;
  private stopped = false;
  private pos: string;

  constructor(private readonly options: HubOptions) {
    this.pos = options.startPos;
  }

  /** The last position this tab has seen. */
  get position(): string {
    return this.pos;
  }

  start(): void {
    if (!("locks" in navigator) || typeof BroadcastChannel === "undefined") {
      this.lead();
      return;
    }
    const name = `holdfast.live.${this.options.group}`;
    this.channel = new BroadcastChannel(name);
    this.channel.onmessage = (message) => this.hear(message.data as TabMessage);
    this.tell({ type: "who" });
    const hold = () =>
      new Promise<void>((resolve) => {
        if (this.stopped) return resolve();
        this.release = resolve;
        this.lead();
      });
    navigator.locks.request(name, { signal: this.abort.signal }, hold).catch(() => {
      // Aborted by stop(): another tab leads, nothing to undo.
    });
  }

  stop(): void {
    this.stopped = true;
    this.abort.abort();
    this.socket?.stop();
    this.socket = null;
    this.release?.();
    this.channel?.close();
    this.channel = null;
  }

  retryNow(): void {
    if (this.socket) this.socket.retryNow();
    else this.tell({ type: "retry" });
  }

  private lead(): void {
    this.socket = new LiveSocket({
      token: this.options.token,
      pos: () => this.pos,
      onEvent: (event) => this.leadEvent(event),
      onHello: ({ pos, resumed }) => {
        if (resumed) return;
        this.tell({ type: "resync", pos });
        this.resync();
      },
      onStatus: (status, retryAtMs) => this.setStatus(status, retryAtMs, true),
      onSessionOver: () => {
        this.tell({ type: "over" });
        this.options.onSessionOver();
      },
    });
    this.socket.start();
  }

  private leadEvent(event: LiveEvent): void {
    this.tell({ type: "event", prev: this.pos, event });
    this.take(event);
  }

  private hear(message: TabMessage): void {
    if (this.stopped) return;
    switch (message.type) {
      case "event":
        if (eventPos(message.event) !== null && comparePos(message.prev, this.pos) > 0) this.resync();
        this.take(message.event);
        return;
      case "status":
        if (!this.socket) this.setStatus(message.status, message.retryAtMs, false);
        return;
      case "resync":
        this.resync();
        return;
      case "who":
        if (this.socket) this.tell({ type: "status", status: this.status, retryAtMs: this.retryAtMs });
        return;
      case "retry":
        this.socket?.retryNow();
        return;
      case "over":
        this.options.onSessionOver();
    }
  }

  private take(event: LiveEvent): void {
    const pos = eventPos(event);
    if (pos !== null) {
      // Several events may share one position, so only strictly older ones are dropped; the reducers ignore repeats.
      if (comparePos(pos, this.pos) < 0) return;
      this.pos = pos;
    }
    this.options.onEvent(event);
  }

  private resync(): void {
    if (this.resyncing) return;
    this.resyncing = true;
    this.options
      .onResync()
      .then((pos) => {
        if (comparePos(pos, this.pos) > 0) this.pos = pos;
      })
      .finally(() => {
        this.resyncing = false;
      });
  }

  private setStatus(status: LinkStatus, retryAtMs: number | null, repeat: boolean): void {
    this.status = status;
    this.retryAtMs = retryAtMs;
    if (repeat) this.tell({ type: "status", status, retryAtMs });
    this.options.onStatus(status, retryAtMs);
  }

  private tell(message: TabMessage): void {
    this.channel?.postMessage(message);
  }
}
