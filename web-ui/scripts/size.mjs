// Checks what the browser loads against the budgets, in KiB of gzip: exit 1 when one is exceeded.
// usage: node scripts/size.mjs (after `npm run build`)
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

const DIST = new URL("../dist/", import.meta.url).pathname;
const manifest = JSON.parse(readFileSync(join(DIST, ".vite/manifest.json"), "utf8"));

/** All files that the given modules load at once, by kind. */
function closure(entries) {
  const files = { js: new Set(), css: new Set() };
  const seen = new Set();
  const visit = (key) => {
    if (seen.has(key)) return;
    seen.add(key);
    const chunk = manifest[key];
    if (!chunk) throw new Error(`no module ${key} in the build`);
    if (chunk.file.endsWith(".js")) files.js.add(chunk.file);
    for (const css of chunk.css ?? []) files.css.add(css);
    for (const next of chunk.imports ?? []) visit(next);
  };
  entries.forEach(visit);
  return files;
}

const gzip = (files) =>
  [...files].reduce((sum, file) => sum + gzipSync(readFileSync(join(DIST, file)), { level: 9 }).length, 0) / 1024;
const bytes = (path) =>
  statSync(path).isDirectory()
    ? readdirSync(path).reduce((sum, name) => sum + bytes(join(path, name)), 0)
    : statSync(path).size;

const texts = (part) => ["en", "zh-CN"].map((locale) => `src/i18n/locales/${locale}${part}.json`);
const worst = (entries, parts) =>
  Math.max(...[0, 1].map((language) => gzip(closure([...entries, ...parts.map((part) => texts(part)[language])]).js)));
const login = worst(["index.html"], [""]);
const chat = worst(["index.html", "src/chat/ChatApp.tsx"], ["", ".chat"]);
const css = gzip(closure(["index.html", "src/chat/ChatApp.tsx"]).css);

const rows = [
  ["login JS, gzip KiB", login, 120],
  ["chat first load JS, gzip KiB", chat, 300],
  ["chat CSS, gzip KiB", css, 60],
  ["dist, MiB", bytes(DIST) / 1024 / 1024, 5],
];
let failed = false;
for (const [name, value, limit] of rows) {
  if (value > limit) failed = true;
  console.log(`${value > limit ? "FAIL" : "ok  "} ${name.padEnd(30)} ${value.toFixed(1).padStart(7)} of ${limit}`);
}
process.exit(failed ? 1 : 0);
