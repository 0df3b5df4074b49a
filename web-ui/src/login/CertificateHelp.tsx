// How to make a device trust the server's own certificate authority: the file, its fingerprint, the steps per system.
import { Button } from "@mantine/core";
import { useId, useState } from "react";
import { useTranslation } from "react-i18next";
import type { ServerInfo } from "../api/types";
import { Icon } from "../ui/icons";

const SYSTEMS = ["windows", "macos", "linux", "ios", "android"] as const;
type System = (typeof SYSTEMS)[number];

function guessSystem(): System {
  const agent = navigator.userAgent;
  if (/iPhone|iPad/.test(agent)) return "ios";
  if (/Android/.test(agent)) return "android";
  if (/Mac OS/.test(agent)) return "macos";
  return /Windows/.test(agent) ? "windows" : "linux";
}

export function CertificateDetails({ server }: { server: ServerInfo }) {
  const { t } = useTranslation();
  const [system, setSystem] = useState<System>(guessSystem);
  const id = useId();
  if (!server.ca_fingerprint) return <p>{t("cert.none")}</p>;
  return (
    <>
      <p>{t("cert.intro")}</p>
      <Fingerprint value={server.ca_fingerprint} />
      <p>{t("cert.compare")}</p>
      <CaDownload />
      <div>
        <label className="lg-field-label" htmlFor={id}>
          {t("cert.system")}
        </label>
        <select
          id={id}
          className="lg-native"
          value={system}
          onChange={(event) => setSystem(event.currentTarget.value as System)}
        >
          {SYSTEMS.map((name) => (
            <option key={name} value={name}>
              {t(`cert.${name}`)}
            </option>
          ))}
        </select>
      </div>
      <ol>
        {t(`cert.${system}_steps`)
          .split("\n")
          .map((step) => (
            <li key={step}>{step}</li>
          ))}
      </ol>
    </>
  );
}

export function Fingerprint({ value }: { value: string }) {
  const { t } = useTranslation();
  return (
    <div>
      <div className="lg-field-label">{t("cert.fingerprint")}</div>
      <code className="hf-code">{value}</code>
    </div>
  );
}

export function CaDownload() {
  const { t } = useTranslation();
  return (
    <Button
      className="lg-noprint"
      component="a"
      variant="default"
      href="/api/v1/tls/ca.pem"
      download="holdfast-ca.crt"
      leftSection={<Icon name="shield" size={16} />}
    >
      {t("cert.download")}
    </Button>
  );
}

/** The same, folded away until somebody needs it. */
export function CertificateHelp({ server }: { server: ServerInfo }) {
  const { t } = useTranslation();
  if (!server.ca_fingerprint) return null;
  return (
    <details className="lg-cert">
      <summary>{t("cert.link")}</summary>
      <div>
        <CertificateDetails server={server} />
      </div>
    </details>
  );
}
