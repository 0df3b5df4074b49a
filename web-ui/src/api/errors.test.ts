import { describe, expect, test } from "vitest";
import { ApiError, NETWORK_ERROR, problemToError, toApiError } from "./errors";

describe("a problem document", () => {
  test("keeps code, field and the time to wait", () => {
    const error = problemToError(429, {
      code: "rate_limited",
      detail: "slow down",
      request_id: "r1",
      retry_after_seconds: 7,
    });
    expect([error.code, error.status, error.requestId, error.retryAfterSeconds]).toEqual([
      "rate_limited",
      429,
      "r1",
      7,
    ]);
    expect(error.retryable).toBe(true);
  });
  test("takes the time to wait from the header when the body has none", () => {
    expect(problemToError(503, { code: "busy" }, new Headers({ "retry-after": "3" })).retryAfterSeconds).toBe(3);
  });
  test("that is none still has a code", () => {
    expect(problemToError(502, "<html>").code).toBe("internal");
    expect(problemToError(404, null).code).toBe("http_404");
  });
  test("of a refusal is not worth repeating", () => {
    expect(problemToError(422, { code: "message_too_long" }).retryable).toBe(false);
  });
});

test("a failed fetch is a network error", () => {
  expect(toApiError(new TypeError("failed")).code).toBe(NETWORK_ERROR);
  const known = new ApiError({ code: "forbidden", status: 403 });
  expect(toApiError(known)).toBe(known);
});
