// Logging out, with a question first when messages are still unsent.
import { Menu } from "@mantine/core";
import { useTranslation } from "react-i18next";
import * as calls from "../../api/calls";
import { setToken } from "../../api/session";
import { useLive } from "../../store/live";
import { Icon } from "../../ui/icons";

/** Ends the session here even when the server cannot be told: it would end by its own time. */
export async function logOut(): Promise<void> {
  try {
    await calls.logout();
  } catch {
    // The token is forgotten either way.
  }
  setToken(null);
}

export function LogoutItem({ onAsk }: { onAsk: () => void }) {
  const { t } = useTranslation();
  const unsent = useLive((state) => state.outbox.length);
  return (
    <Menu.Item leftSection={<Icon name="logout" size={16} />} onClick={() => (unsent > 0 ? onAsk() : void logOut())}>
      {t("common.logout")}
    </Menu.Item>
  );
}
