// Asks before something that cannot simply be undone, naming its consequence. Stays open with the error when it fails.
import { Button, Modal } from "@mantine/core";
import { useState } from "react";
import { useTranslation } from "react-i18next";
import { ErrorNote } from "../../ui/feedback";

export function Confirm({
  opened,
  title,
  text,
  confirm,
  onConfirm,
  onClose,
}: {
  opened: boolean;
  title: string;
  text: string;
  confirm: string;
  onConfirm: () => Promise<unknown>;
  onClose: () => void;
}) {
  const { t } = useTranslation();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const close = () => {
    setError(null);
    onClose();
  };
  const act = () => {
    setBusy(true);
    setError(null);
    onConfirm()
      .then(close, setError)
      .finally(() => setBusy(false));
  };
  return (
    <Modal opened={opened} onClose={close} title={title} closeButtonProps={{ "aria-label": t("common.close") }}>
      <div className="hf-stack">
        <span>{text}</span>
        <ErrorNote error={error} />
        <div className="hf-row" data-end>
          <Button variant="default" onClick={close} data-autofocus>
            {t("common.cancel")}
          </Button>
          <Button color="red" loading={busy} onClick={act}>
            {confirm}
          </Button>
        </div>
      </div>
    </Modal>
  );
}
