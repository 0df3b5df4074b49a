import react from "@vitejs/plugin-react";
import { defineConfig } from "vitest/config";

// The server embeds `dist`, adds the CSP nonce to index.html and compresses; nothing here may need the network.
export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    outDir: "dist",
    assetsDir: "assets",
    // Data URLs would need a wider CSP; every asset is a file of its own.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    manifest: true,
  },
  test: { environment: "happy-dom", include: ["src/**/*.test.{ts,tsx}"] },
});
