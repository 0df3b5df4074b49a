// The frame of the chat: the channel list (a drawer on small screens), the banner of the event stream, the dialogs, and
// the keys that work everywhere.
import { Drawer } from "@mantine/core";
import { useDisclosure, useMediaQuery } from "@mantine/hooks";
import { Outlet, useRouterState } from "@tanstack/react-router";
import { useEffect } from "react";
import { useTranslation } from "react-i18next";
import { STUCK } from "../api/nodes";
import { followAccount } from "../i18n";
import { useLive } from "../store/live";
import { unreadCount } from "../store/state";
import { Dialogs } from "./dialogs/Dialogs";
import { LinkBanner } from "./LinkBanner";
import { NavContext } from "./nav";
import { useGo } from "./router";
import { Sidebar } from "./Sidebar";

export function Shell() {
  const { t } = useTranslation();
  const narrow = useMediaQuery("(max-width: 767px)", false, { getInitialValueInEffect: false });
  const [opened, drawer] = useDisclosure(false);
  const place = useRouterState({ select: (state) => state.location.href });
  // biome-ignore lint/correctness/useExhaustiveDependencies: going anywhere closes the drawer
  useEffect(() => drawer.close(), [place]);
  useTitle();
  useAccountLanguage();
  useGlobalKeys();
  useFreshPage();
  return (
    <NavContext value={{ narrow: narrow ?? false, open: drawer.open, close: drawer.close }}>
      <a className="ch-skip" href="#messages">
        {t("nav.skip")}
      </a>
      <div className="ch-shell">
        {narrow ? (
          <Drawer.Root opened={opened} onClose={drawer.close} size={304} padding={0}>
            <Drawer.Overlay backgroundOpacity={0.45} />
            <Drawer.Content className="ch-drawer" aria-label={t("nav.label")}>
              <Drawer.Body className="ch-drawer-body">
                <Sidebar />
              </Drawer.Body>
            </Drawer.Content>
          </Drawer.Root>
        ) : (
          <Sidebar />
        )}
        <div className="ch-main">
          <LinkBanner />
          <Outlet />
        </div>
      </div>
      <Dialogs />
    </NavContext>
  );
}

/**
 * Loads the page anew when it cannot follow the active node and its own node answers again. Drafts and unsent messages
 * are kept; what is typed elsewhere is waited for.
 */
function useFreshPage(): void {
  useEffect(() => {
    const onStuck = () => {
      if (!document.querySelector('.ch-edit, [role="dialog"]')) window.location.reload();
    };
    window.addEventListener(STUCK, onStuck);
    return () => window.removeEventListener(STUCK, onStuck);
  }, []);
}

function useTitle(): void {
  const unread = useLive((state) =>
    Object.values(state.channels).reduce(
      (sum, entry) => sum + (entry.member.notify === "muted" ? 0 : unreadCount(entry)),
      0,
    ),
  );
  const organisation = useLive((state) => state.settings.organisation);
  useEffect(() => {
    document.title = unread > 0 ? `(${unread}) ${organisation}` : organisation;
  }, [unread, organisation]);
}

/** The account's language may be changed on another device. */
function useAccountLanguage(): void {
  const locale = useLive((state) => state.me.locale);
  const fallback = useLive((state) => state.settings.default_locale);
  useEffect(() => followAccount(locale, fallback), [locale, fallback]);
}

function useGlobalKeys(): void {
  const go = useGo();
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.isComposing || event.altKey || event.shiftKey) return;
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
        event.preventDefault();
        go.dialog("switcher");
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [go]);
}
