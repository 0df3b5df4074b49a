// Shown when no conversation is open: what to do next.
import { ActionIcon, Button } from "@mantine/core";
import { useTranslation } from "react-i18next";
import { useLive } from "../store/live";
import { Icon } from "../ui/icons";
import mark from "../ui/mark.svg";
import { useNav } from "./nav";
import { useGo } from "./router";

export function NavButton() {
  const { t } = useTranslation();
  const nav = useNav();
  if (!nav.narrow) return null;
  return (
    <ActionIcon
      variant="subtle"
      color="gray"
      className="ch-icon"
      size="lg"
      aria-label={t("nav.open")}
      onClick={nav.open}
    >
      <Icon name="menu" size={20} />
    </ActionIcon>
  );
}

export function Welcome() {
  const { t } = useTranslation();
  const go = useGo();
  const organisation = useLive((state) => state.settings.organisation);
  const none = useLive((state) => Object.keys(state.channels).length === 0);
  const guest = useLive((state) => state.me.role === "guest");
  return (
    <main className="ch-page" id="messages" tabIndex={-1}>
      <header className="ch-header ch-only-narrow">
        <NavButton />
        <h1>{organisation}</h1>
      </header>
      <div className="ch-welcome">
        <img src={mark} width={56} height={56} alt="" />
        <h1>{none ? t("chat.first_title") : t("chat.welcome", { organisation })}</h1>
        <p className="hf-dim">{none ? t("chat.first_hint") : t("chat.welcome_hint")}</p>
        <div className="hf-row ch-welcome-actions">
          {guest ? null : (
            <>
              <Button leftSection={<Icon name="plus" size={16} />} onClick={() => go.dialog("create")}>
                {t("nav.create")}
              </Button>
              <Button variant="default" onClick={() => go.dialog("browse")}>
                {t("nav.browse")}
              </Button>
            </>
          )}
          <Button variant="default" onClick={() => go.dialog("direct")}>
            {t("nav.new_direct")}
          </Button>
        </div>
      </div>
    </main>
  );
}
