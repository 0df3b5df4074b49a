// The typed HTTP client. It adds the token, turns every failure into an ApiError, and ends the session when the server
// says that it is over. It never retries: callers know what may be repeated.
import createClient from "openapi-fetch";
import { ApiError, NETWORK_ERROR, problemToError } from "./errors";
import type { paths } from "./schema";
import { getToken, setToken } from "./session";

const SESSION_OVER = new Set(["unauthenticated", "session_expired"]);

export const http = createClient<paths>({
  baseUrl: window.location.origin,
  fetch: async (request: Request) => {
    const token = getToken();
    if (token && !request.headers.has("authorization")) request.headers.set("authorization", `Bearer ${token}`);
    try {
      return await fetch(request);
    } catch (cause) {
      throw new ApiError({ code: NETWORK_ERROR, detail: cause instanceof Error ? cause.message : "" });
    }
  },
});

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The body of a good answer; throws ApiError for any other. */
export async function unwrap<T>(call: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await call;
  if (response.ok) return data as T;
  const problem = problemToError(response.status, error, response.headers);
  if (SESSION_OVER.has(problem.code) && getToken()) setToken(null, "expired");
  throw problem;
}
