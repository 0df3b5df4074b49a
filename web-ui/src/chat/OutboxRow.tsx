// A message that the server has not confirmed: shown at once, and kept with retry and delete when it did not get through.
import { UnstyledButton } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useLive, useStore } from "../store/live";
import type { OutboxItem } from "../store/state";
import { useErrorText } from "../ui/error-text";
import { Icon } from "../ui/icons";
import { Body, MessageHead } from "./MessageRow";

export function OutboxRow({ item }: { item: OutboxItem }) {
  const { t } = useTranslation();
  const store = useStore();
  const errorText = useErrorText();
  const me = useLive((state) => state.me);
  const failed = item.status === "failed";
  return (
    <article className="ch-msg" data-row="" data-unsent={item.status} tabIndex={-1} aria-label={me.display_name}>
      <MessageHead id={me.id} name={me.display_name} atMs={item.created_ms} grouped={false}>
        <Body message={{ body: item.body, edited_ms: null }} />
        <div className="ch-mark" data-failed={failed || undefined}>
          <Icon name={failed ? "alert" : "clock"} size={14} />
          <span>
            {item.status === "sending"
              ? t("chat.sending")
              : failed
                ? t("chat.failed", { reason: errorText({ code: item.code ?? "internal" }) })
                : t("chat.waiting")}
          </span>
          {item.status === "sending" ? null : (
            <>
              <UnstyledButton className="ch-link" onClick={() => store.retry(item)}>
                {t("chat.retry_send")}
              </UnstyledButton>
              <UnstyledButton className="ch-link" onClick={() => store.discard(item)}>
                {t("chat.discard")}
              </UnstyledButton>
            </>
          )}
        </div>
      </MessageHead>
    </article>
  );
}
