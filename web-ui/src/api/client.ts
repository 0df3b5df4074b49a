// The typed HTTP client. It adds the token, turns every failure into an ApiError, and ends the session when the server
// says that it is over. With a pair it goes to the active node, and repeats what failed there for a bounded time while
// the active node is being found, if that may be repeated; else it never retries: callers know what may be.
import type { Client } from "openapi-fetch";
import { ApiError, NETWORK_ERROR, problemToError } from "./errors";
import { backoffMs, departure, find, here, learn, paired } from "./nodes";
import type { paths } from "./schema";
import { getToken, setToken } from "./session";

const SESSION_OVER = new Set(["unauthenticated", "session_expired"]);
/** The answers of a node that does not take the request now while the other one may. */
const GO_ELSEWHERE = new Set(["not_active", "shutting_down"]);
/** POSTs that do no harm twice: by a client id, or by what they do. An answer that was lost may have been a yes. */
const REPEATABLE_POST = /\/(messages|read|log(in|out)|check|direct)$/;

/** How long a request is repeated while the active node is being found: twice the longest promotion. */
export const PATIENCE_MS = 15_000;
/** After this time without an answer the client looks whether the other node has taken over. */
const SLOW_MS = 3_000;
/** The longest pause between two tries: a node that says it is active may still refuse for a moment. */
const AGAIN_MAX_MS = 1_000;

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

interface Options {
  params?: { path?: Record<string, unknown>; query?: Record<string, unknown>; header?: Record<string, unknown> };
  body?: unknown;
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

const call =
  (method: string) =>
  (template: string, { params = {}, body }: Options = {}): Promise<Answer<unknown>> => {
    const query = new URLSearchParams(params.query as Record<string, string>).toString();
    const path = template.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(String(params.path?.[name])));
    const headers = new Headers(params.header as Record<string, string>);
    const init: RequestInit = { method, headers };
    if (body !== undefined) {
      headers.set("content-type", "application/json");
      init.body = JSON.stringify(body);
    }
    return exchange(query ? `${path}?${query}` : path, init, method !== "POST" || REPEATABLE_POST.test(template));
  };

/** The paths and shapes are those of the server's document; only the types come from the package. */
export const http = {
  GET: call("GET"),
  PUT: call("PUT"),
  POST: call("POST"),
  DELETE: call("DELETE"),
  PATCH: call("PATCH"),
} as unknown as Pick<Client<paths>, "GET" | "PUT" | "POST" | "DELETE" | "PATCH">;

/** One answer, from whichever node gives it. Throws ApiError when none does. */
async function exchange(path: string, init: RequestInit, repeatable: boolean): Promise<Answer<unknown>> {
  const deadline = Date.now() + PATIENCE_MS;
  for (let tries = 0; ; tries += 1) {
    const node = here();
    const answer = await once(node, path, init);
    const failure = answer instanceof ApiError ? answer : null;
    const problem = (answer instanceof ApiError ? answer : (answer.error ?? {})) as Record<string, unknown>;
    // A node that lags behind may not know a session yet: only the active one's word ends it.
    const stranger = SESSION_OVER.has(String(problem.code)) && getToken() !== null;
    if (paired() && (failure || stranger || GO_ELSEWHERE.has(String(problem.code)))) {
      learnSeveral(problem.addresses);
      const left = deadline - Date.now();
      const finding = node === here() ? find({ forMs: left, told: problem.active, failed: node }) : true;
      const found = (repeatable || stranger) && left > 0 && (await Promise.race([finding, pause(left)]));
      if (found && !(stranger && node === here())) {
        if (tries > 0) await pause(Math.min(backoffMs(tries - 1, Math.random), AGAIN_MAX_MS, left));
        continue;
      }
      if (stranger && !found) throw new ApiError({ code: NETWORK_ERROR });
    }
    if (failure) throw failure;
    return answer as Answer<unknown>;
  }
}

/** Takes over addresses from a node that may not know all: one address says nothing. */
function learnSeveral(addresses: unknown): void {
  if (Array.isArray(addresses) && addresses.length > 1) learn(addresses);
}

/** One try at one node; a network error is given back, not thrown. */
async function once(node: string, path: string, init: RequestInit): Promise<Answer<unknown> | ApiError> {
  const headers = new Headers(init.headers);
  const token = getToken();
  if (token) headers.set("authorization", `Bearer ${token}`);
  const slow = paired() ? setInterval(() => void find({ forMs: SLOW_MS }), SLOW_MS) : undefined;
  try {
    const response = await fetch(node + path, { ...init, headers, signal: departure() });
    learnSeveral(response.headers.get("holdfast-nodes")?.split(","));
    const text = await response.text();
    const body = parsed(text);
    return response.ok ? { data: body, response } : { error: body, response };
  } catch (cause) {
    return new ApiError({ code: NETWORK_ERROR, detail: cause instanceof Error ? cause.message : "" });
  } finally {
    clearInterval(slow);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text || undefined;
  }
}

/** The body of a good answer; throws ApiError for any other. */
export async function unwrap<T>(answering: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answering;
  if (response.ok) return data as T;
  const problem = problemToError(response.status, error, response.headers);
  if (SESSION_OVER.has(problem.code) && getToken()) setToken(null, "expired");
  throw problem;
}
