// Codes of the server as sentences in the language of the page.
import { useTranslation } from "react-i18next";
import type { ApiError } from "../api/errors";

export function useErrorText(): (error: Pick<ApiError, "code">) => string {
  const { t, i18n } = useTranslation();
  return ({ code }) => {
    const key = `errors.${code}`;
    // The server may know codes that this build does not: show the code itself rather than nothing.
    return i18n.exists(key) ? t(key as "errors.internal") : t("errors.unknown", { code });
  };
}
