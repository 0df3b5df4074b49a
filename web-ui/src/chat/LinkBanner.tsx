// The state of the event stream, and only of it: other calls that succeed or fail never change this banner.
import { UnstyledButton } from "@mantine/core";
import { useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { useLive, useStore } from "../store/live";
import { useSecondsLeft } from "../ui/feedback";
import { Icon } from "../ui/icons";

const RECONNECTED_SHOWN_MS = 3_000;
/** Short pauses only flicker: below this the number of seconds is not worth showing. */
const COUNTDOWN_FROM_SECONDS = 3;

export function LinkBanner() {
  const { t } = useTranslation();
  const store = useStore();
  const link = useLive((state) => state.link);
  const left = useSecondsLeft(link.retryAtMs);
  const [phase, setPhase] = useState<"fine" | "lost" | "back">("fine");
  useEffect(() => {
    if (link.status === "waiting" || (link.status === "connecting" && link.everOnline)) setPhase("lost");
    if (link.status === "online") setPhase((held) => (held === "lost" ? "back" : held));
  }, [link]);
  useEffect(() => {
    if (phase !== "back") return;
    const timer = setTimeout(() => setPhase("fine"), RECONNECTED_SHOWN_MS);
    return () => clearTimeout(timer);
  }, [phase]);
  return (
    <div role="status" className="ch-banner" data-phase={phase}>
      {phase === "lost" ? (
        <>
          <Icon name="alert" size={16} />
          <span>
            {link.status === "waiting" && left >= COUNTDOWN_FROM_SECONDS
              ? t("link.retry_in", { count: left })
              : t("link.reconnecting")}
          </span>
          {link.status === "waiting" ? (
            <UnstyledButton className="ch-banner-button" onClick={() => store.reconnectNow()}>
              {t("link.retry_now")}
            </UnstyledButton>
          ) : null}
        </>
      ) : null}
      {phase === "back" ? (
        <>
          <Icon name="check" size={16} />
          <span>{t("link.reconnected")}</span>
        </>
      ) : null}
    </div>
  );
}
