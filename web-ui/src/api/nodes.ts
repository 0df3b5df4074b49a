// Which node this page talks to. A pair has two data nodes and one of them takes writes; this file remembers their
// addresses and finds the active one when the one in use is gone. Without a pair there is one address, the page's own,
// and nothing here ever asks anything. It knows no tokens: finding needs none.

const KEY = "holdfast.nodes";
/** More than a pair ever has; whoever answers nonsense does not fill the storage. */
const NODES_MAX = 8;
/** A search asks one address after the other this far apart (plus jitter), without waiting for answers. */
const QUICK_PAUSE_MS = 200;
const QUICK_JITTER_MS = 80;
/** For this long; a promotion takes 3 to 6 seconds. Then pauses grow between the rounds. */
const QUICK_MS = 10_000;
const ASK_TIMEOUT_MS = 4_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 20_000;

/** The pause before try number `attempt` (from 0): doubling, capped, and spread over its upper half. */
export function backoffMs(attempt: number, random: () => number): number {
  const full = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(attempt, 10));
  return Math.round(full / 2 + (full / 2) * random());
}

const unique = (nodes: readonly string[]): string[] => [...new Set(nodes)];

const own = window.location.origin;
/** All addresses, this page's too, the one to use first; empty without a pair. */
let known = read();
let current = own;
let leaving = new AbortController();

/** The address in use, an origin. */
export const here = (): string => current;

/** Aborts when the page leaves the address in use: what still waits for an answer from there need not. */
export const departure = (): AbortSignal => leaving.signal;

/** Every address that may answer, the one in use first. */
const candidates = (): string[] => unique([current, ...known, own]);

/** Whether there is another node to go to. */
export const paired = (): boolean => candidates().length > 1;

/** What can be an address of this page's server, as origins. */
function clean(told: unknown): string[] {
  if (!Array.isArray(told)) return [];
  const found = told.slice(0, NODES_MAX).flatMap((address) => {
    try {
      const url = new URL(address);
      // Never from https to http, whoever says so.
      return url.protocol === window.location.protocol ? [url.origin] : [];
    } catch {
      return [];
    }
  });
  return unique(found);
}

function read(): string[] {
  try {
    return clean(JSON.parse(localStorage.getItem(KEY) ?? "[]"));
  } catch {
    return [];
  }
}

/** Keeps the addresses for the next page and tells the other tabs: the first is the one in use. */
function save(): void {
  try {
    if (known.length === 0) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, JSON.stringify(known));
  } catch {
    // Storage may be forbidden; the addresses then last as long as the page.
  }
}

/** Takes over the addresses of all data nodes, as one of them told. A single address means that there is no pair. */
export function learn(told: unknown): void {
  if (!Array.isArray(told)) return;
  const found = clean(told);
  const next = found.length > 1 ? unique([...found, own]) : [];
  if (String([...next].sort()) === String([...known].sort())) return;
  // The first stays first: a page that was just loaded from the standby must not lead the other tabs there.
  known = unique([...known, current, ...next]).filter((node) => next.includes(node));
  save();
}

function moveTo(node: string): void {
  if (node === current) return;
  current = node;
  const left = leaving;
  leaving = new AbortController();
  left.abort();
}

/** From now on this node is talked to; it said itself that it is the active one. */
export function settle(node: string): void {
  moveTo(node);
  if (known.length === 0) return;
  known = unique([node, ...known]);
  save();
}

window.addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  known = read();
  if (known[0]) moveTo(known[0]);
});

/** Told when the page cannot go where it has to: it was loaded before the pair existed, and its policy forbids it. */
export const STUCK = "holdfast:stuck";
/** A page that is younger has the policy of now: loading it again would not help. */
const STUCK_AFTER_MS = 60_000;
let forbidden = false;
window.addEventListener("securitypolicyviolation", (event) => {
  if (event.effectiveDirective === "connect-src") forbidden = true;
});

let search: Promise<boolean> | undefined;
let searchUntilMs = 0;
let first: string | undefined;
let last: string | undefined;
let pausing: ((untilMs: number) => void) | undefined;
let wake: (() => void) | undefined;

export interface Finding {
  /** For how long to look. A search that is under way goes on for longer if need be. */
  forMs: number;
  /** Who was said to be the active one: asked first. */
  told?: unknown;
  /** Who just failed: asked last. Without it the one in use is asked first. */
  failed?: string;
  /** Called before each long pause. */
  onPause?: (untilMs: number) => void;
}

/** Looks for the active node; true when `here()` is it, false when the time is over or there is no other node. */
export function find({ forMs, told, failed, onPause }: Finding): Promise<boolean> {
  if (!paired()) return Promise.resolve(false);
  searchUntilMs = Math.max(searchUntilMs, Date.now() + forMs);
  [first] = clean([told]).filter((node) => candidates().includes(node));
  last = failed;
  pausing = onPause ?? pausing;
  if (search && first) wake?.();
  search ??= run();
  return search;
}

/** Ends the pause of a search, if there is one. */
export function hurry(): void {
  wake?.();
}

function run(): Promise<boolean> {
  return new Promise((resolve) => {
    const quickUntilMs = Date.now() + QUICK_MS;
    /** Who has not answered yet: nobody is asked twice at once. */
    const asked = new Set<string>();
    let round: string[] = [];
    let pauses = 0;
    let timer: ReturnType<typeof setTimeout>;

    const end = (found: boolean) => {
      clearTimeout(timer);
      search = pausing = wake = undefined;
      searchUntilMs = 0;
      resolve(found);
    };
    const ask = async (node: string) => {
      const mine = wake;
      asked.add(node);
      const role = await roleOf(node);
      asked.delete(node);
      if (forbidden && role && role !== "active" && node === own && performance.now() > STUCK_AFTER_MS)
        window.dispatchEvent(new Event(STUCK));
      // An answer to a search that is over changes nothing.
      if (role !== "active" || mine !== wake) return;
      settle(node);
      end(true);
    };
    const step = () => {
      clearTimeout(timer);
      const now = Date.now();
      if (now >= searchUntilMs) return end(false);
      if (round.length === 0) {
        const all = candidates();
        round = [...all.filter((node) => node !== last), ...all.filter((node) => node === last)];
      }
      const node = first ?? (round[0] as string);
      first = undefined;
      round = round.filter((other) => other !== node);
      if (!asked.has(node)) void ask(node);
      let pause = QUICK_PAUSE_MS + QUICK_JITTER_MS * Math.random();
      if (round.length === 0 && now > quickUntilMs) {
        pause = backoffMs(pauses, Math.random);
        pauses += 1;
        pausing?.(now + pause);
      }
      timer = setTimeout(step, Math.min(pause, searchUntilMs - now));
    };
    wake = step;
    step();
  });
}

/** The role that a node says it has, if it says anything. Its answer tells the addresses too. */
async function roleOf(node: string): Promise<unknown> {
  try {
    const answer = await fetch(`${node}/api/v1/server`, { signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
    const info = await answer.json();
    if (info.node.role === "active") learn(info.addresses);
    return info.node.role;
  } catch {
    return undefined;
  }
}
