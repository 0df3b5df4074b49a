// The chat entry: language, theme, then the gate that decides which screen this visitor gets.
import "./ui/base.css";
import { MantineProvider } from "@mantine/core";
import { setNonce } from "get-nonce";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Gate } from "./gate";
import { startI18n } from "./i18n";
import { resolveVariables, theme } from "./ui/theme";

const nonce = document.querySelector<HTMLMetaElement>('meta[name="csp-nonce"]')?.content ?? "";
// Styles that Mantine's scroll lock injects ask this package for the nonce.
setNonce(nonce);

const root = document.getElementById("root");
if (root) {
  startI18n().then(() => {
    createRoot(root).render(
      <StrictMode>
        <MantineProvider
          theme={theme}
          cssVariablesResolver={resolveVariables}
          defaultColorScheme="auto"
          getStyleNonce={() => nonce}
        >
          <Gate />
        </MantineProvider>
      </StrictMode>,
    );
  });
}
