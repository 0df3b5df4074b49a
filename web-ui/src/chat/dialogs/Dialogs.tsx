// The dialogs that the address can open. Each loads when it is first needed.
import { Modal } from "@mantine/core";
import { type ComponentType, lazy, Suspense, useEffect, useState } from "react";
import { useTranslation } from "react-i18next";
import { Loading } from "../../ui/feedback";
import { type DialogName, useGo, useView } from "../router";

const CONTENT: Record<DialogName, ComponentType<{ onClose: () => void }>> = {
  create: lazy(() => import("./CreateChannel")),
  browse: lazy(() => import("./BrowseChannels")),
  direct: lazy(() => import("./NewDirect")),
  invite: lazy(() => import("./Invite")),
  preferences: lazy(() => import("./Preferences")),
  switcher: lazy(() => import("./Switcher")),
};

export function Dialogs() {
  const { t } = useTranslation();
  const go = useGo();
  const { dialog } = useView();
  // The last one keeps its content while the dialog fades out.
  const [shown, setShown] = useState<DialogName | undefined>(dialog);
  useEffect(() => {
    if (dialog) setShown(dialog);
  }, [dialog]);
  const titles: Record<DialogName, string> = {
    create: t("create.title"),
    browse: t("browse.title"),
    direct: t("people.title"),
    invite: t("invites.title"),
    preferences: t("prefs.title"),
    switcher: t("switcher.title"),
  };
  const name = dialog ?? shown;
  const Content = name ? CONTENT[name] : null;
  const close = () => go.dialog(undefined);
  return (
    <Modal
      opened={dialog !== undefined}
      onClose={close}
      size={name === "preferences" ? 640 : 480}
      title={name ? titles[name] : ""}
      closeButtonProps={{ "aria-label": t("common.close") }}
      classNames={{ title: "ch-dialog-title" }}
    >
      {Content ? (
        <Suspense fallback={<Loading />}>
          <FocusFirst />
          <Content onClose={close} />
        </Suspense>
      ) : null}
    </Modal>
  );
}

/** The dialog looked for a first field before its content was loaded: look again when it is there. */
function FocusFirst() {
  useEffect(() => {
    document.querySelector<HTMLElement>('[role="dialog"] [data-autofocus]')?.focus();
  }, []);
  return null;
}
