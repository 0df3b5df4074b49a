import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { ApiError } from "./errors";

const A = window.location.origin;
const B = `${window.location.protocol}//b.test:8443`;
const GONE = new TypeError("Failed to fetch");

interface Seen {
  node: string;
  path: string;
  init: RequestInit;
}
let seen: Seen[];
/** Answers a request that is no question for the role; a throw is a network error. */
let serve: (request: Seen) => Response | Promise<Response>;
let active: string | null;

const json = (body: unknown, status = 200) => new Response(JSON.stringify(body), { status });
const notActive = (more = {}) => json({ code: "not_active", addresses: [A, B], ...more }, 503);
const nodesAsked = () => seen.map(({ node }) => node);

type Modules = {
  calls: typeof import("./calls");
  nodes: typeof import("./nodes");
  session: typeof import("./session");
};

async function fresh(pair: boolean): Promise<Modules> {
  vi.resetModules();
  const nodes = await import("./nodes");
  if (pair) nodes.learn([A, B]);
  return { nodes, calls: await import("./calls"), session: await import("./session") };
}

/** How a call ended: its value, or the code of its ApiError. */
const outcome = (call: Promise<unknown>) => call.catch((error: ApiError) => error.code);

beforeEach(() => {
  vi.useFakeTimers();
  localStorage.clear();
  seen = [];
  active = A;
  vi.stubGlobal("fetch", async (url: string, init: RequestInit) => {
    const { origin: node, pathname, search } = new URL(url);
    if (pathname === "/api/v1/server") {
      if (active === null) throw GONE;
      return json({ node: { role: node === active ? "active" : "standby" }, addresses: [A, B] });
    }
    const request = { node, path: pathname + search, init };
    seen.push(request);
    return serve(request);
  });
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

describe("a single node", () => {
  test("gets paths, queries, headers and bodies as its document says", async () => {
    const { calls, session } = await fresh(false);
    session.setToken("hf_t");
    serve = () => json({ items: [] });
    await calls.messages("7", { before: 5 }, 60);
    await calls.updateChannel("7/8", 3, { name: "north" });
    expect(seen.map(({ node, path }) => node + path)).toEqual([
      `${A}/api/v1/channels/7/messages?before=5&limit=60`,
      `${A}/api/v1/channels/7%2F8`,
    ]);
    const { method, headers, body } = seen[1]?.init ?? {};
    expect([method, body]).toEqual(["PATCH", '{"name":"north"}']);
    const sent = new Headers(headers);
    expect(["authorization", "content-type", "if-match"].map((name) => sent.get(name))).toEqual([
      "Bearer hf_t",
      "application/json",
      '"3"',
    ]);
  });

  test("that cannot be reached is an error at once", async () => {
    const { calls } = await fresh(false);
    serve = () => {
      throw GONE;
    };
    expect(await outcome(calls.channels())).toBe("network");
    expect(seen).toHaveLength(1);
  });

  test("that says the session is over ends it", async () => {
    const { calls, session } = await fresh(false);
    session.setToken("hf_t");
    serve = () => json({ code: "session_expired" }, 401);
    expect([await outcome(calls.me()), session.getToken()]).toEqual(["session_expired", null]);
  });

  test("may answer with nothing", async () => {
    const { calls } = await fresh(false);
    serve = () => new Response(null, { status: 204 });
    expect(await calls.logout()).toBeUndefined();
  });
});

describe("a pair", () => {
  test("is learned from the header of an answer", async () => {
    const { calls, nodes } = await fresh(false);
    serve = () => new Response("{}", { headers: { "holdfast-nodes": `${A}, ${B}` } });
    await calls.presence();
    expect(nodes.paired()).toBe(true);
  });

  test("gets a message at the other node when the first is gone, with the same client id and token", async () => {
    const { calls, nodes, session } = await fresh(true);
    session.setToken("hf_t");
    active = B;
    serve = ({ node }) => {
      if (node === A) throw GONE;
      return json({ seq: 1 }, 201);
    };
    const sending = calls.sendMessage("7", "c-1", "hello");
    await vi.advanceTimersByTimeAsync(300);
    expect([await sending, nodesAsked(), nodes.here()]).toEqual([{ seq: 1 }, [A, B], B]);
    expect(seen[1]?.init.body).toBe(seen[0]?.init.body);
    expect(new Headers(seen[1]?.init.headers).get("authorization")).toBe("Bearer hf_t");
  });

  test("keeps a request waiting until the promotion is done", async () => {
    const { calls } = await fresh(true);
    active = null;
    serve = ({ node }) => {
      if (node === A || active === null) throw GONE;
      return json({ items: [] });
    };
    let done = false;
    const fetching = calls.channels().then(() => {
      done = true;
    });
    await vi.advanceTimersByTimeAsync(5_000);
    expect(done).toBe(false);
    active = B;
    await vi.advanceTimersByTimeAsync(700);
    await fetching;
    expect(nodesAsked()).toEqual([A, B]);
  });

  test("that stays away is an error within the bounded time", async () => {
    const { calls } = await fresh(true);
    active = null;
    serve = () => {
      throw GONE;
    };
    const failing = outcome(calls.channels());
    await vi.advanceTimersByTimeAsync(15_100);
    expect(await failing).toBe("network");
    expect(seen.length).toBeLessThan(3);
  });

  test("whose active one refuses all the same is not hammered", async () => {
    const { calls } = await fresh(true);
    serve = () => notActive();
    const failing = outcome(calls.markRead("7", 1));
    await vi.advanceTimersByTimeAsync(16_000);
    expect(await failing).toBe("not_active");
    expect(seen.length).toBeLessThan(25);
  });

  test("gets a sign-in where the standby says", async () => {
    const { calls } = await fresh(true);
    active = B;
    serve = ({ node }) => (node === A ? notActive({ active: B }) : json({ token: "hf_n" }));
    expect(await calls.login({ username: "olivia", password: "p", device: "d" })).toEqual({ token: "hf_n" });
    expect(nodesAsked()).toEqual([A, B]);
  });

  test("is not asked twice for what may be done twice", async () => {
    const { calls, nodes } = await fresh(true);
    active = B;
    serve = () => {
      throw GONE;
    };
    expect(await outcome(calls.createChannel({ kind: "public", name: "north" }))).toBe("network");
    await vi.advanceTimersByTimeAsync(300);
    expect([seen.length, nodes.here()]).toEqual([1, B]);
  });

  test("ends a session only by the word of the active one", async () => {
    const { calls, session } = await fresh(true);
    session.setToken("hf_t");
    active = B;
    serve = ({ node }) => (node === A ? json({ code: "unauthenticated" }, 401) : json({ user: { id: "1" } }));
    expect(await calls.me()).toEqual({ user: { id: "1" } });
    serve = () => json({ code: "unauthenticated" }, 401);
    const ended = outcome(calls.me());
    await vi.advanceTimersByTimeAsync(600);
    expect([await ended, session.getToken()]).toEqual(["unauthenticated", null]);
  });

  test("without an active one ends no session", async () => {
    const { calls, session } = await fresh(true);
    session.setToken("hf_t");
    active = null;
    serve = () => json({ code: "unauthenticated" }, 401);
    const failing = outcome(calls.me());
    await vi.advanceTimersByTimeAsync(15_100);
    expect([await failing, session.getToken()]).toEqual(["network", "hf_t"]);
  });

  test("is not waited for when a node went silent and the other took over", async () => {
    const { calls } = await fresh(true);
    active = B;
    serve = ({ node, init }) =>
      node === B
        ? json({ seq: 1 })
        : new Promise((_, reject) => init.signal?.addEventListener("abort", () => reject(GONE)));
    const sending = calls.sendMessage("7", "c-1", "hello");
    await vi.advanceTimersByTimeAsync(4_000);
    expect([await sending, nodesAsked()]).toEqual([{ seq: 1 }, [A, B]]);
  });

  test("is waited for when it is only slow", async () => {
    const { calls } = await fresh(true);
    serve = () => new Promise((resolve) => setTimeout(() => resolve(json({ items: [] })), 9_000));
    const fetching = calls.presence();
    await vi.advanceTimersByTimeAsync(9_100);
    expect([await fetching, nodesAsked()]).toEqual([{ items: [] }, [A]]);
  });

  test("still refuses what is wrong", async () => {
    const { calls } = await fresh(true);
    serve = () => json({ code: "message_too_long" }, 422);
    expect(await outcome(calls.sendMessage("7", "c-1", "x"))).toBe("message_too_long");
    expect(seen).toHaveLength(1);
  });
});
