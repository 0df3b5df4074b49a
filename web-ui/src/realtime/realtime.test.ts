import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { backoffMs, here, learn, settle } from "../api/nodes";
import { comparePos, type LiveEvent } from "./events";
import { LiveSocket } from "./socket";

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
  constructor(readonly url: string) {
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

  describe("of a pair", () => {
    const own = window.location.origin;
    const other = `${window.location.protocol}//b.test:8443`;
    let active: string | null = other;
    let asked: string[] = [];

    beforeEach(() => {
      [active, asked] = [other, []];
      vi.stubGlobal("fetch", async (url: string) => {
        const { origin } = new URL(url);
        asked.push(origin);
        if (active === null) throw new TypeError("refused");
        const info = { node: { role: origin === active ? "active" : "standby" }, addresses: [own, other] };
        return new Response(JSON.stringify(info));
      });
      last().opened();
      last().says({ id: "1", ok: { user_id: "1", session_id: "2", pos: "9", resumed: true, addresses: [own, other] } });
      pos = "12";
    });

    afterEach(() => {
      socket.stop();
      learn([own]);
      settle(own);
    });

    test("goes to the other node with the same token and position", async () => {
      last().onclose?.({ code: 1006 });
      await vi.advanceTimersByTimeAsync(500);
      expect([last().url, here()]).toEqual([`${other.replace(/^http/, "ws")}/api/v1/ws`, other]);
      welcome(true);
      expect(last().sent[0]).toMatchObject({ op: "hello", token: "hf_t", pos: "12" });
      expect([statuses.at(-1), TestSocket.all.length, over]).toEqual(["online", 2, 0]);
    });

    test("goes at once where a node that is not active says", async () => {
      last().onclose?.({ code: 4010 });
      active = own;
      await vi.advanceTimersByTimeAsync(500);
      last().opened();
      active = other;
      asked = [];
      last().says({ id: "1", error: { code: "not_active", active: other, addresses: [own, other] } });
      await vi.advanceTimersByTimeAsync(200);
      expect([asked, last().url]).toEqual([[other], `${other.replace(/^http/, "ws")}/api/v1/ws`]);
    });

    test("looks until one is active, and says that it waits", async () => {
      active = null;
      last().onclose?.({ code: 4010 });
      await vi.advanceTimersByTimeAsync(60_000);
      expect([TestSocket.all.length, statuses.at(-1)]).toEqual([1, "waiting"]);
      active = other;
      socket.retryNow();
      await vi.advanceTimersByTimeAsync(600);
      welcome(true);
      expect([TestSocket.all.length, statuses.at(-1)]).toEqual([2, "online"]);
    });

    test("leaves a silent node within seconds", async () => {
      await vi.advanceTimersByTimeAsync(9_500);
      expect(last().url).toContain("b.test");
    });

    test("follows when a request found the other node first", async () => {
      settle(other);
      await vi.advanceTimersByTimeAsync(200);
      expect([last().url, asked]).toEqual([`${other.replace(/^http/, "ws")}/api/v1/ws`, []]);
    });

    test("that says it is active and takes no connection is tried in growing pauses", async () => {
      last().onclose?.({ code: 1006 });
      for (let second = 0; second < 120; second += 1) {
        await vi.advanceTimersByTimeAsync(1_000);
        if (last().readyState === 0) last().onclose?.({ code: 1006 });
      }
      expect(TestSocket.all.length).toBeLessThan(16);
    });

    test("goes nowhere once it was stopped", async () => {
      active = null;
      last().onclose?.({ code: 1006 });
      await vi.advanceTimersByTimeAsync(1_000);
      socket.stop();
      active = other;
      await vi.advanceTimersByTimeAsync(30_000);
      expect(TestSocket.all).toHaveLength(1);
    });
  });
});
