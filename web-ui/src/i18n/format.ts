// Dates, times and numbers as the language of the page writes them, in the time zone of the device.
import { currentLocale } from "./index";

const cache = new Map<string, Intl.DateTimeFormat>();

function formatter(name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = `${currentLocale()} ${name}`;
  let found = cache.get(key);
  if (!found) {
    found = new Intl.DateTimeFormat(currentLocale(), options);
    cache.set(key, found);
  }
  return found;
}

/** "14:05" */
export function timeOfDay(ms: number): string {
  return formatter("time", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(ms);
}

/** "Saturday, 21 November 2026 at 14:05" */
export function fullDate(ms: number): string {
  return formatter("full", { dateStyle: "full", timeStyle: "short" }).format(ms);
}

/** "21 Nov 2026, 14:05" */
export function shortDate(ms: number): string {
  return formatter("short", { dateStyle: "medium", timeStyle: "short" }).format(ms);
}

/** "Saturday, November 21"; with the year when it is not this one. */
export function dayName(ms: number, nowMs: number): string {
  const sameYear = new Date(ms).getFullYear() === new Date(nowMs).getFullYear();
  return formatter(sameYear ? "day" : "day-year", {
    weekday: "long",
    month: "long",
    day: "numeric",
    ...(sameYear ? {} : { year: "numeric" }),
  }).format(ms);
}

export function number(value: number): string {
  return new Intl.NumberFormat(currentLocale()).format(value);
}

/** The local day as a number that grows by one per day, for comparing days. */
export function dayNumber(ms: number): number {
  const date = new Date(ms);
  return Math.round(Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000);
}
