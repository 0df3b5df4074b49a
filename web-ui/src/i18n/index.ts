// Languages. Both are complete. Each has two parts, before and after signing in, so that a page loads only what it shows.
// Choice: the account's language, else the last choice in this browser, else the browser's, else the server's default.
import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import type chat from "./locales/en.chat.json";
import type start from "./locales/en.json";

export const LOCALES = ["en", "zh-CN"] as const;
export type Locale = (typeof LOCALES)[number];
const KEY = "holdfast.locale";

declare module "i18next" {
  interface CustomTypeOptions {
    defaultNS: "translation";
    resources: { translation: typeof start & typeof chat };
  }
}

type Part = "start" | "chat";

const LOADERS: Record<Locale, Record<Part, () => Promise<{ default: unknown }>>> = {
  en: { start: () => import("./locales/en.json"), chat: () => import("./locales/en.chat.json") },
  "zh-CN": { start: () => import("./locales/zh-CN.json"), chat: () => import("./locales/zh-CN.chat.json") },
};

/** The parts that the page needs in whatever language it is shown. */
const parts = new Set<Part>(["start"]);
const loaded = new Set<string>();

async function loadParts(locale: Locale): Promise<void> {
  const missing = [...parts].filter((part) => !loaded.has(`${locale} ${part}`));
  await Promise.all(
    missing.map(async (part) => {
      const texts = await LOADERS[locale][part]();
      i18next.addResourceBundle(locale, "translation", texts.default, true, true);
      loaded.add(`${locale} ${part}`);
    }),
  );
}

/** Loads the texts of the chat, now and for every language chosen later. */
export async function needChatTexts(): Promise<void> {
  parts.add("chat");
  await loadParts(currentLocale());
}

/** The supported language nearest to a language tag, if any: every Chinese tag means Simplified Chinese here. */
export function nearestLocale(tag: string | null | undefined): Locale | null {
  if (!tag) return null;
  const language = tag.toLowerCase().split("-")[0];
  if (language === "zh") return "zh-CN";
  return language === "en" ? "en" : null;
}

function storedLocale(): Locale | null {
  try {
    return nearestLocale(localStorage.getItem(KEY));
  } catch {
    return null;
  }
}

function browserLocale(): Locale | null {
  return navigator.languages.map(nearestLocale).find((found) => found !== null) ?? null;
}

export function currentLocale(): Locale {
  return nearestLocale(i18next.language) ?? "en";
}

export async function startI18n(): Promise<void> {
  const locale = storedLocale() ?? browserLocale() ?? "en";
  await i18next.use(initReactI18next).init({
    resources: {},
    lng: locale,
    fallbackLng: false,
    interpolation: { escapeValue: false },
    returnNull: false,
    initAsync: false,
  });
  await setLocale(locale, false);
}

/** Shows everything in another language; `remember` keeps the choice in this browser. */
export async function setLocale(locale: Locale, remember = true): Promise<void> {
  await loadParts(locale);
  await i18next.changeLanguage(locale);
  document.documentElement.lang = locale;
  if (!remember) return;
  try {
    localStorage.setItem(KEY, locale);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

/** Follows the account's language; without one: the choice in this browser, the browser's language, the server's default. */
export function followAccount(accountLocale: string, defaultLocale: string): void {
  const wanted =
    nearestLocale(accountLocale) ?? storedLocale() ?? browserLocale() ?? nearestLocale(defaultLocale) ?? "en";
  if (wanted !== currentLocale()) void setLocale(wanted, false);
}

/** Forgets the choice made in this browser. */
export function forgetChoice(): void {
  try {
    localStorage.removeItem(KEY);
  } catch {
    // Nothing was kept then.
  }
}
