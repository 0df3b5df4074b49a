import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

const OWN = window.location.origin;
const SCHEME = window.location.protocol;
const A = OWN;
const B = `${SCHEME}//b.test:8443`;
const KEY = "holdfast.nodes";

type Nodes = typeof import("./nodes");
/** What each address answers: a role, or nothing (`null`: refused at once, `undefined`: silent for ever). */
let roles: Record<string, "active" | "standby" | null | undefined>;
let asked: { node: string; atMs: number }[];
let addresses: string[];

function stubFetch(): void {
  vi.stubGlobal("fetch", (url: string) => {
    const node = new URL(url).origin;
    asked.push({ node, atMs: Date.now() });
    const role = roles[node];
    if (role === undefined) return new Promise(() => undefined);
    if (role === null) return Promise.reject(new TypeError("refused"));
    return Promise.resolve(new Response(JSON.stringify({ node: { role }, addresses })));
  });
}

/** The module as a page that was just loaded has it. */
async function fresh(): Promise<Nodes> {
  vi.resetModules();
  return import("./nodes");
}

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 });
  vi.spyOn(Math, "random").mockReturnValue(1);
  localStorage.clear();
  asked = [];
  addresses = [A, B];
  roles = { [A]: "active", [B]: "standby" };
  stubFetch();
});

afterEach(() => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  vi.unstubAllGlobals();
});

describe("a single node", () => {
  test("is never searched for and stores nothing", async () => {
    const nodes = await fresh();
    nodes.learn(["https://its-public-name.test"]);
    expect([nodes.here(), nodes.paired(), await nodes.find({ forMs: 1_000 })]).toEqual([OWN, false, false]);
    expect([asked.length, localStorage.getItem(KEY)]).toEqual([0, null]);
  });
});

describe("the addresses", () => {
  test("are remembered, and nothing else", async () => {
    (await fresh()).learn([`${A}/`, B]);
    expect(JSON.parse(localStorage.getItem(KEY) ?? "")).toEqual([A, B]);
    const later = await fresh();
    expect([later.paired(), later.here()]).toEqual([true, OWN]);
  });

  test("are forgotten when the pair ends", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    nodes.learn([A]);
    expect([nodes.paired(), localStorage.getItem(KEY)]).toEqual([false, null]);
  });

  test("are only origins of the page's own scheme, and only a few", async () => {
    const nodes = await fresh();
    nodes.learn([A, "ftp://b.test", "not an address", 7, null]);
    expect(nodes.paired()).toBe(false);
    nodes.learn("nonsense");
    nodes.learn(Array.from({ length: 100 }, (_, index) => `${SCHEME}//n${index}.test`));
    expect(JSON.parse(localStorage.getItem(KEY) ?? "").length).toBeLessThan(10);
  });

  test("that another page left damaged do no harm", async () => {
    localStorage.setItem(KEY, '{"a":');
    expect((await fresh()).paired()).toBe(false);
  });

  test("follow another tab that went on to the other node", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    const departed = nodes.departure();
    localStorage.setItem(KEY, JSON.stringify([B, A]));
    window.dispatchEvent(new StorageEvent("storage", { key: KEY, newValue: localStorage.getItem(KEY) }));
    expect([nodes.here(), departed.aborted]).toEqual([B, true]);
  });
});

test("a new address does not change which one is used first", async () => {
  localStorage.setItem(KEY, JSON.stringify([B, A]));
  const nodes = await fresh();
  const third = `${SCHEME}//c.test`;
  nodes.learn([A, B, third]);
  expect(JSON.parse(localStorage.getItem(KEY) ?? "")).toEqual([B, A, third]);
});

test("a page that its policy keeps from the other node says so, but not when it is fresh", async () => {
  const nodes = await fresh();
  nodes.learn([A, B]);
  roles = { [A]: "standby", [B]: null };
  const violation = new Event("securitypolicyviolation");
  window.dispatchEvent(Object.assign(violation, { effectiveDirective: "connect-src" }));
  let stuck = 0;
  window.addEventListener(nodes.STUCK, () => {
    stuck += 1;
  });
  const age = vi.spyOn(performance, "now").mockReturnValue(5_000);
  const finding = nodes.find({ forMs: 2_000 });
  await vi.advanceTimersByTimeAsync(2_500);
  expect([await finding, stuck]).toEqual([false, 0]);
  age.mockReturnValue(90_000);
  void nodes.find({ forMs: 300 });
  await vi.advanceTimersByTimeAsync(600);
  expect(stuck).toBeGreaterThan(0);
});

describe("a search", () => {
  test("asks the one that was said to be active first, and goes there", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    roles = { [A]: "standby", [B]: "active" };
    const departed = nodes.departure();
    expect(await nodes.find({ forMs: 5_000, told: B, failed: A })).toBe(true);
    expect([nodes.here(), asked.map(({ node }) => node), departed.aborted]).toEqual([B, [B], true]);
    expect(JSON.parse(localStorage.getItem(KEY) ?? "")).toEqual([B, A]);
  });

  test("does not go to an address that nobody but the answer knows", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    await nodes.find({ forMs: 5_000, told: `${SCHEME}//stranger.test` });
    expect(asked.map(({ node }) => node)).toEqual([A]);
  });

  test("does not wait for a silent node before it asks the next", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    roles = { [A]: undefined, [B]: "standby" };
    const finding = nodes.find({ forMs: 60_000 });
    await vi.advanceTimersByTimeAsync(3_000);
    const gaps = asked
      .filter(({ node }) => node === B)
      .map(({ atMs }, index, all) => atMs - (all[index - 1]?.atMs ?? 0));
    expect(asked[1]).toMatchObject({ node: B, atMs: 1_000_280 });
    expect(Math.max(...gaps.slice(1))).toBeLessThanOrEqual(2 * 280);
    expect(asked.filter(({ node }) => node === A)).toHaveLength(1);
    roles[B] = "active";
    await vi.advanceTimersByTimeAsync(600);
    expect([await finding, nodes.here()]).toEqual([true, B]);
  });

  test("is quick at first and never hammers", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    roles = { [A]: null, [B]: null };
    const pauses: number[] = [];
    const finding = nodes.find({ forMs: 600_000, onPause: (untilMs) => pauses.push(untilMs - Date.now()) });
    await vi.advanceTimersByTimeAsync(5_000);
    const gaps = asked.slice(1).map(({ atMs }, index) => atMs - (asked[index]?.atMs ?? 0));
    expect(Math.max(...gaps)).toBeLessThan(300);
    await vi.advanceTimersByTimeAsync(5_000);
    const quick = asked.length;
    expect(quick).toBeLessThan(60);
    await vi.advanceTimersByTimeAsync(600_000);
    expect(await finding).toBe(false);
    // After the quick start: pauses of up to 20 seconds, two questions a round.
    expect(asked.length - quick).toBeLessThan(80);
    expect(pauses.slice(0, 6)).toEqual([500, 1_000, 2_000, 4_000, 8_000, 16_000]);
    expect(Math.max(...pauses)).toBeLessThanOrEqual(20_000);
  });

  test("is shared by all who ask, and lasts as long as the most patient", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    roles = { [A]: null, [B]: null };
    const short = nodes.find({ forMs: 1_000 });
    const long = nodes.find({ forMs: 4_000 });
    await vi.advanceTimersByTimeAsync(1_500);
    const before = asked.length;
    roles[B] = "active";
    await vi.advanceTimersByTimeAsync(600);
    expect([await short, await long]).toEqual([true, true]);
    expect(asked.length - before).toBeLessThan(4);
  });

  test("that pauses goes on at once when somebody is in a hurry", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    roles = { [A]: null, [B]: null };
    const finding = nodes.find({ forMs: 600_000 });
    await vi.advanceTimersByTimeAsync(60_000);
    const before = asked.length;
    roles = { [A]: "active", [B]: "active" };
    nodes.hurry();
    expect(await finding).toBe(true);
    expect(asked.length).toBe(before + 1);
  });

  test("that is over does not listen to late answers", async () => {
    const nodes = await fresh();
    nodes.learn([A, B]);
    let answerLate: (answer: Response) => void = () => undefined;
    roles = { [A]: null };
    vi.stubGlobal("fetch", (url: string) =>
      new URL(url).origin === B
        ? new Promise((resolve) => {
            answerLate = resolve;
          })
        : Promise.reject(new TypeError("refused")),
    );
    const finding = nodes.find({ forMs: 1_000 });
    await vi.advanceTimersByTimeAsync(1_500);
    expect(await finding).toBe(false);
    answerLate(new Response(JSON.stringify({ node: { role: "active" }, addresses })));
    await vi.advanceTimersByTimeAsync(10);
    expect(nodes.here()).toBe(A);
  });
});
