// Languages. Both are complete; each is a chunk of its own, so that a page loads only the one it shows.
// Choice: the account's language, else the last choice in this browser, else the browser's, else the server's default.
import i18next from "i18next";
import { initReactI18next } from "react-i18next";
import type en from "./locales/en.json";

export const LOCALES = ["en", "zh-CN"] as const;
export type Locale = (typeof LOCALES)[number];
const KEY = "holdfast.locale";

declare module "i18next" {
  interface CustomTypeOptions {
    defaultNS: "translation";
    resources: { translation: typeof en };
  }
}

const LOADERS: Record<Locale, () => Promise<{ default: unknown }>> = {
  en: () => import("./locales/en.json"),
  "zh-CN": () => import("./locales/zh-CN.json"),
};

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

export function currentLocale(): Locale {
  return nearestLocale(i18next.language) ?? "en";
}

export async function startI18n(): Promise<void> {
  const locale = storedLocale() ?? navigator.languages.map(nearestLocale).find((found) => found !== null) ?? "en";
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
  if (!i18next.hasResourceBundle(locale, "translation")) {
    const loaded = await LOADERS[locale]();
    i18next.addResourceBundle(locale, "translation", loaded.default);
  }
  await i18next.changeLanguage(locale);
  document.documentElement.lang = locale;
  if (!remember) return;
  try {
    localStorage.setItem(KEY, locale);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

/** Follows the account: its own language, or the organisation's when it has none and nothing was chosen here. */
export function followAccount(accountLocale: string, defaultLocale: string): void {
  const wanted = nearestLocale(accountLocale) ?? storedLocale() ?? nearestLocale(defaultLocale);
  if (wanted && wanted !== currentLocale()) void setLocale(wanted, accountLocale !== "");
}
