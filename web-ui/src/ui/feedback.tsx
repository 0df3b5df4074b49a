// What is shown while something loads, when it failed, and after something was copied.
import { Button, Loader } from "@mantine/core";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { type ApiError, toApiError } from "../api/errors";
import { useErrorText } from "./error-text";
import { Icon } from "./icons";

/** An error in words, with the request id that helps an administrator to find it in the logs. */
export function ErrorNote({ error, onRetry }: { error: unknown; onRetry?: () => void }) {
  const { t } = useTranslation();
  const errorText = useErrorText();
  if (!error) return null;
  const problem: ApiError = toApiError(error);
  return (
    <div className="hf-note" data-tone="danger" role="alert">
      {errorText(problem)}
      {problem.status >= 500 && problem.requestId ? (
        <small>{t("common.request_id", { id: problem.requestId })}</small>
      ) : null}
      {onRetry ? (
        <div>
          <Button variant="subtle" color="red" size="compact-sm" mt={6} onClick={onRetry}>
            {t("common.retry")}
          </Button>
        </div>
      ) : null}
    </div>
  );
}

export function Loading() {
  const { t } = useTranslation();
  return (
    <div className="hf-center" role="status">
      <Loader size="sm" />
      <span className="hf-dim">{t("common.loading")}</span>
    </div>
  );
}

/** Copies text; works without a secure context too. */
export function CopyButton({ text, label }: { text: string; label?: string }) {
  const { t } = useTranslation();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 2_000);
    return () => clearTimeout(timer);
  }, [copied]);
  return (
    <Button
      variant="default"
      size="sm"
      leftSection={<Icon name={copied ? "check" : "copy"} size={16} />}
      onClick={() => void copyText(text).then(setCopied)}
    >
      <span aria-live="polite">{copied ? t("common.copied") : (label ?? t("common.copy"))}</span>
    </Button>
  );
}

export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Seconds left until `untilMs`, counting down; 0 when over or not set. */
export function useSecondsLeft(untilMs: number | null): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (untilMs === null) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 250);
    return () => clearInterval(timer);
  }, [untilMs]);
  return untilMs === null ? 0 : Math.max(0, Math.ceil((untilMs - now) / 1_000));
}
