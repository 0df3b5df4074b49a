import { expect, test, vi } from "vitest";
import { createImeGuard } from "./ime";

test("Enter in the same tick as the end of a composition still belongs to it", () => {
  vi.useFakeTimers();
  const guard = createImeGuard();
  expect(guard.isComposing()).toBe(false);
  guard.onCompositionStart();
  expect(guard.isComposing()).toBe(true);
  guard.onCompositionEnd();
  expect(guard.isComposing()).toBe(true);
  vi.runAllTimers();
  expect(guard.isComposing()).toBe(false);
  vi.useRealTimers();
});

test("a composition that starts at once after another is not cleared by the first one's end", () => {
  vi.useFakeTimers();
  const guard = createImeGuard();
  guard.onCompositionStart();
  guard.onCompositionEnd();
  guard.onCompositionStart();
  vi.runAllTimers();
  expect(guard.isComposing()).toBe(true);
  vi.useRealTimers();
});
