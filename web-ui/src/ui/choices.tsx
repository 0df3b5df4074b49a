// Language and appearance, offered on every page before and after signing in.
import { type MantineColorScheme, useMantineColorScheme } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { currentLocale, LOCALES, type Locale, setLocale } from "../i18n";

export function LanguageChoice() {
  const { t } = useTranslation();
  return (
    <select
      className="hf-select"
      aria-label={t("language.label")}
      value={currentLocale()}
      onChange={(event) => void setLocale(event.currentTarget.value as Locale)}
    >
      {LOCALES.map((locale) => (
        <option key={locale} value={locale} lang={locale}>
          {t(`language.${locale}`)}
        </option>
      ))}
    </select>
  );
}

export function ThemeChoice() {
  const { t } = useTranslation();
  const { colorScheme, setColorScheme } = useMantineColorScheme();
  return (
    <select
      className="hf-select"
      aria-label={t("theme.label")}
      value={colorScheme}
      onChange={(event) => setColorScheme(event.currentTarget.value as MantineColorScheme)}
    >
      {(["auto", "light", "dark"] as const).map((scheme) => (
        <option key={scheme} value={scheme}>
          {t(`theme.${scheme}`)}
        </option>
      ))}
    </select>
  );
}
