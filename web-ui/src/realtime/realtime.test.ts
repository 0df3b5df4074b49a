import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { comparePos, type LiveEvent } from "./events";
import { backoffMs, LiveSocket } from "./socket";

test("positions compare as numbers of any length", () => {
  expect(comparePos("9", "10")).toBeLessThan(0);
  expect(comparePos("18446744073709551615", "18446744073709551614")).toBeGreaterThan(0);
  expect(comparePos("7", "7")).toBe(0);
});

test("pauses grow, are capped and differ between clients", () => {
  expect(backoffMs(0, () => 0)).toBe(250);
  expect(backoffMs(0, () => 1)).toBe(500);
  expect(backoffMs(3, () => 1)).toBe(4_000);
  expect(backoffMs(50, () => 1)).toBe(20_000);
});

/** A WebSocket whose other end is the test. */
class TestSocket {
  static readonly CONNECTING = 0;
  static all: TestSocket[] = [];
  readyState = 0;
  sent: { op: string; pos?: string; token?: string; id: string }[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((close: { code: number }) => void) | null = null;
  constructor() {
    TestSocket.all.push(this);
  }
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.readyState = 3;
  }
  opened() {
    this.readyState = 1;
    this.onopen?.();
  }
  says(frame: unknown) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
}

describe("the socket", () => {
  let pos: string | null = "5";
  let events: LiveEvent[] = [];
  let hellos: { pos: string; resumed: boolean }[] = [];
  let statuses: string[] = [];
  let over = 0;
  let socket: LiveSocket;
  const last = () => TestSocket.all.at(-1) as TestSocket;

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal("WebSocket", TestSocket);
    TestSocket.all = [];
    [pos, events, hellos, statuses, over] = ["5", [], [], [], 0];
    socket = new LiveSocket({
      url: "ws://127.0.0.1/api/v1/ws",
      token: () => "hf_t",
      pos: () => pos,
      onEvent: (event) => events.push(event),
      onHello: (hello) => hellos.push(hello),
      onStatus: (status) => statuses.push(status),
      onSessionOver: () => {
        over += 1;
      },
      random: () => 1,
    });
    socket.start();
  });

  afterEach(() => {
    socket.stop();
    vi.useRealTimers();
    vi.unstubAllGlobals();
  });

  const welcome = (resumed: boolean) => {
    last().opened();
    last().says({ id: "1", ok: { user_id: "1", session_id: "2", pos: "9", resumed } });
  };

  test("resumes from the last position after it was lost", () => {
    welcome(true);
    expect(last().sent[0]).toMatchObject({ op: "hello", token: "hf_t", pos: "5" });
    pos = "12";
    last().onclose?.({ code: 1006 });
    expect(statuses).toEqual(["connecting", "online", "waiting"]);
    vi.advanceTimersByTime(500);
    expect(TestSocket.all).toHaveLength(2);
    welcome(false);
    expect(last().sent[0]).toMatchObject({ pos: "12" });
    expect(hellos).toEqual([
      { pos: "9", resumed: true },
      { pos: "9", resumed: false },
    ]);
  });

  test("passes events on and ignores answers to pings", () => {
    welcome(true);
    last().says({ event: "typing", channel_id: "7", user_id: "3" });
    last().says({ id: "2", ok: { pos: "9" } });
    expect(events).toEqual([{ event: "typing", channel_id: "7", user_id: "3" }]);
    expect(hellos).toHaveLength(1);
  });

  test("notices a server that went silent", () => {
    welcome(true);
    vi.advanceTimersByTime(25_000);
    expect(last().sent.at(-1)?.op).toBe("ping");
    vi.advanceTimersByTime(10_000);
    expect(statuses.at(-1)).toBe("waiting");
  });

  test("does not wait for a hello for ever", () => {
    last().opened();
    vi.advanceTimersByTime(10_000);
    expect(statuses.at(-1)).toBe("waiting");
  });

  test("ends with the session and does not try again", () => {
    welcome(true);
    last().onclose?.({ code: 4001 });
    vi.advanceTimersByTime(60_000);
    expect([over, statuses.at(-1), TestSocket.all.length]).toEqual([1, "ended", 1]);
  });

  test("tries at once when asked to", () => {
    last().onclose?.({ code: 1006 });
    socket.retryNow();
    expect(TestSocket.all).toHaveLength(2);
  });
});
