// What went wrong, as the rest of the client sees it: always a stable code, never the server's English text alone.

/** Codes made by the client itself, for what never reached the server. */
export const NETWORK_ERROR = "network";

/** A refused or failed call. `code` is translated by `errors.<code>` in the locale files. */
export class ApiError extends Error {
  readonly code: string;
  readonly status: number;
  readonly requestId: string;
  readonly field: string | undefined;
  /** Seconds until another try makes sense (429 and 503). */
  readonly retryAfterSeconds: number | undefined;
  /** The record as it is now (412 stale_version). */
  readonly current: unknown;

  constructor(parts: {
    code: string;
    status?: number;
    detail?: string;
    requestId?: string;
    field?: string | undefined;
    retryAfterSeconds?: number | undefined;
    current?: unknown;
  }) {
    super(parts.detail || parts.code);
    this.name = "ApiError";
    this.code = parts.code;
    this.status = parts.status ?? 0;
    this.requestId = parts.requestId ?? "";
    this.field = parts.field;
    this.retryAfterSeconds = parts.retryAfterSeconds;
    this.current = parts.current;
  }

  /** True when the same call may succeed later without any change to it. */
  get retryable(): boolean {
    return this.code === NETWORK_ERROR || this.status === 429 || this.status >= 500;
  }
}

/** Reads a problem document (RFC 9457) of unknown quality into an ApiError. */
export function problemToError(status: number, body: unknown, headers?: Headers): ApiError {
  const problem = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const text = (key: string): string | undefined => {
    const value = problem[key];
    return typeof value === "string" ? value : undefined;
  };
  const fromHeader = Number(headers?.get("retry-after") ?? Number.NaN);
  const fromBody = problem.retry_after_seconds;
  return new ApiError({
    code: text("code") ?? (status >= 500 ? "internal" : `http_${status}`),
    status,
    detail: text("detail") ?? "",
    requestId: text("request_id") ?? headers?.get("x-request-id") ?? "",
    field: text("field"),
    retryAfterSeconds: typeof fromBody === "number" ? fromBody : Number.isFinite(fromHeader) ? fromHeader : undefined,
    current: problem.current,
  });
}

/** Any thrown value as an ApiError: a failed fetch is a network error. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError({ code: NETWORK_ERROR, detail: error instanceof Error ? error.message : String(error) });
}
