// A page goes on working while the node it talks to dies, comes back, and is switched over: nothing that was typed is
// lost, nothing is sent twice, and no error is ever shown.
//
// HOLDFAST_URL         origin of the active node of a pair
// HOLDFAST_OTHER_URL   origin of the standby
// HOLDFAST_SETUP_LINK  the pair's one-time set-up link (it must not be set up yet)
// HOLDFAST_PAIR_FILE   a file that this test writes one word into; whoever started the nodes does it, then removes the
//                      file: `kill` the active node at once, `start` the node that is dead and wait until it follows,
//                      `switch` over to the standby
// HOLDFAST_CHROMIUM    the browser (default /usr/bin/chromium)
//
// run: node --test tests/web/failover.mjs   (after `npm ci && npm run build` in web-ui)
import assert from "node:assert/strict";
import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test as runTest } from "node:test";

const WEB = new URL("../../web-ui/", import.meta.url);
const require = createRequire(new URL("package.json", WEB));
const { chromium } = require("playwright-core");

const [FIRST, SECOND] = [process.env.HOLDFAST_URL, process.env.HOLDFAST_OTHER_URL].map((url) => (url ?? "").replace(/\/$/, ""));
const SETUP_LINK = process.env.HOLDFAST_SETUP_LINK ?? "";
const PAIR_FILE = process.env.HOLDFAST_PAIR_FILE ?? "";
const WAIT_MS = 30_000;
const FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

const texts = (locale) =>
  [`${locale}.json`, `${locale}.chat.json`]
    .map((name) => JSON.parse(readFileSync(new URL(`src/i18n/locales/${name}`, WEB), "utf8")))
    .reduce((all, part) => ({ ...all, ...part }), {});
const en = texts("en");
const zh = texts("zh-CN");
const fill = (text, values) => text.replace(/\{\{(\w+)\}\}/g, (_, name) => values[name]);

const PERSON = { username: "olivia", password: "harbour lantern violet 42" };
const CHANNEL = "north-project";
const QUIET = "south-project";

/** The steps build on each other: after the first failure the rest would only wait for what cannot come. */
let failed = false;
function test(name, act) {
  runTest(name, async (t) => {
    if (failed) return t.skip("an earlier step failed");
    failed = true;
    await act(t);
    failed = false;
  });
}

let browser;
/** Olivia's browser: two tabs that share a session, and so one WebSocket; then her small one, in Chinese. */
let tab;
let otherTab;
let phone;
const ids = {};
const problems = [];

function watch(page, name) {
  page.setDefaultTimeout(WAIT_MS);
  const allowed = [FIRST, SECOND].flatMap((origin) => [origin, origin.replace(/^http/, "ws")]);
  const check = (url) => {
    if (!/^(data|blob):/.test(url) && !allowed.includes(new URL(url).origin)) problems.push(`${name}: request to ${url}`);
  };
  page.on("request", (request) => check(request.url()));
  page.on("websocket", (socket) => check(socket.url()));
  page.on("pageerror", (error) => problems.push(`${name}: ${error}`));
  page.on("console", (message) => {
    // A dead node is no news: the browser itself logs every request that fails.
    if (/Content.Security.Policy|CORS/i.test(message.text())) problems.push(`${name}: ${message.text()}`);
  });
  return page;
}

/** Notes every error that is shown from now on, however short. */
const noteAlerts = (page) =>
  page.evaluate(() => {
    globalThis.alerts = [];
    const look = () => {
      for (const found of document.querySelectorAll('[role="alert"], [data-unsent="failed"]'))
        globalThis.alerts.push(found.textContent);
    };
    look();
    new MutationObserver(look).observe(document.body, { childList: true, subtree: true, attributes: true });
  });

const open = (options) =>
  browser.newContext({ ignoreHTTPSErrors: true, locale: "en-US", viewport: { width: 1280, height: 800 }, ...options });
const seen = (locator) => locator.waitFor({ state: "visible" });
const gone = (locator) => locator.waitFor({ state: "hidden" });
const rows = (page, text) => page.getByRole("log").getByRole("article").filter({ hasText: text });
const message = (page, text) => rows(page, text).last();
const composer = (page, t) => page.getByRole("textbox", { name: fill(t.composer.label, { name: CHANNEL }) });
const banner = (page, text) => page.getByRole("status").getByText(text);
const confirmed = async (page, text) => {
  await seen(page.locator(`article[data-seq]`).filter({ hasText: text }));
  assert.equal(await rows(page, text).count(), 1, `"${text}" is there exactly once`);
};

async function say(page, t, text) {
  await composer(page, t).fill(text);
  await composer(page, t).press("Enter");
}

async function until(what, condition) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) assert.fail(`waited too long for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Asks for something to be done to the pair; `done` waits until it was. */
function wish(word) {
  writeFileSync(`${PAIR_FILE}.new`, `${word}\n`);
  renameSync(`${PAIR_FILE}.new`, PAIR_FILE);
  return { done: () => until(word, () => !existsSync(PAIR_FILE)) };
}

const call = (page, method, path, body, more = {}) =>
  page.evaluate(
    async ([verb, at, what, also]) => {
      const token = localStorage.getItem("holdfast.token");
      const headers = { "content-type": "application/json", ...also };
      if (token) headers.authorization = `Bearer ${token}`;
      const answer = await fetch(`/api/v1${at}`, { method: verb, headers, body: JSON.stringify(what) });
      if (!answer.ok) throw new Error(`${at}: ${answer.status} ${await answer.text()}`);
      return answer.json();
    },
    [method, path, body, more],
  );

before(async () => {
  assert.ok(FIRST && SECOND && SETUP_LINK && PAIR_FILE, "the variables must be set");
  browser = await chromium.launch({ executablePath: process.env.HOLDFAST_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

after(async () => {
  await browser?.close();
});

test("a person signs in, in two tabs and on a small screen", async () => {
  const context = await open();
  tab = watch(await context.newPage(), "first tab");
  await tab.goto(FIRST);
  const signedIn = await call(tab, "POST", "/setup", {
    token: new URL(SETUP_LINK).hash.slice(1),
    organisation: "Northwind",
    locale: "en",
    time_zone: "UTC",
    username: PERSON.username,
    display_name: "Olivia Stone",
    password: PERSON.password,
  });
  await tab.evaluate((token) => localStorage.setItem("holdfast.token", token), signedIn.token);
  // Each browser shows its own language.
  await call(tab, "PATCH", "/me", { locale: "" }, { "If-Match": `"${signedIn.user.version}"` });
  for (const name of [CHANNEL, QUIET]) {
    ids[name] = (await call(tab, "POST", "/channels", { kind: "public", name, topic: "" })).channel.id;
    for (let index = 1; index <= 5; index += 1) {
      const client_id = crypto.randomUUID();
      await call(tab, "POST", `/channels/${ids[name]}/messages`, { client_id, body: `${name}, note ${index}` });
    }
  }
  await tab.goto(`${FIRST}/c/${ids[CHANNEL]}`);
  await seen(message(tab, "note 5"));
  otherTab = watch(await context.newPage(), "second tab");
  await otherTab.goto(`${FIRST}/c/${ids[CHANNEL]}`);
  await seen(message(otherTab, "note 5"));

  const small = await open({ viewport: { width: 390, height: 800 }, locale: "zh-CN", colorScheme: "dark" });
  phone = watch(await small.newPage(), "phone");
  await phone.goto(FIRST);
  await phone.getByLabel(zh.login.username, { exact: true }).fill(PERSON.username);
  await phone.getByLabel(zh.login.password, { exact: true }).fill(PERSON.password);
  await phone.getByRole("button", { name: zh.login.submit }).click();
  // On small screens the channel list is a drawer; the address leads there as well.
  await until("the session", () => phone.evaluate(() => localStorage.getItem("holdfast.token") !== null));
  await phone.goto(`${FIRST}/c/${ids[CHANNEL]}`);
  await seen(message(phone, "note 5"));
  for (const page of [tab, otherTab, phone]) await noteAlerts(page);
});

test("the active node is killed while somebody types and sends", async () => {
  await composer(phone, zh).fill("写到一半的话");
  await say(tab, en, "said before");
  await confirmed(phone, "said before");
  const killed = wish("kill");
  await killed.done();
  await seen(banner(tab, en.link.reconnecting));
  await seen(banner(phone, zh.link.reconnecting));
  await say(tab, en, "said meanwhile");
  await say(tab, en, "and another");
  await composer(tab, en).fill("half a thought");
  for (const page of [tab, phone, otherTab]) {
    await confirmed(page, "said meanwhile");
    await confirmed(page, "and another");
  }
  assert.equal(await composer(tab, en).inputValue(), "half a thought");
  assert.equal(await composer(phone, zh).inputValue(), "写到一半的话");
  const order = await tab.getByRole("log").getByRole("article").allInnerTexts();
  const at = ["said before", "said meanwhile", "and another"].map((text) => order.findIndex((row) => row.includes(text)));
  assert.deepEqual(at, [...at].sort((a, b) => a - b), "the order is that of writing");
  // After the switch nothing remains.
  await gone(tab.locator(".ch-banner"));
  await gone(phone.locator(".ch-banner"));
});

test("a tab without a connection of its own sends too, and fetches go to the node that answers", async () => {
  await say(otherTab, en, "from the second tab");
  await confirmed(phone, "from the second tab");
  // Tabs share the draft of a conversation: the one that just sent has emptied it.
  await composer(tab, en).fill("half a thought more");
  await tab.getByRole("navigation", { name: en.nav.label }).getByRole("link", { name: new RegExp(`^${QUIET}`) }).click();
  await seen(message(tab, `${QUIET}, note 1`));
  await tab.goBack();
  assert.equal(await composer(tab, en).inputValue(), "half a thought more");
});

test("only addresses are kept for the next page", async () => {
  const kept = JSON.parse(await tab.evaluate(() => localStorage.getItem("holdfast.nodes")));
  assert.deepEqual(kept, [SECOND, FIRST]);
});

test("a page of the node that came back works, and one can sign in there", async () => {
  const started = wish("start");
  await started.done();
  await tab.reload();
  await seen(message(tab, "from the second tab"));
  assert.equal(new URL(tab.url()).origin, FIRST);
  assert.equal(await composer(tab, en).inputValue(), "half a thought more");
  await noteAlerts(tab);
  await say(tab, en, "after the reload");
  await confirmed(phone, "after the reload");

  const context = await open();
  const page = watch(await context.newPage(), "newcomer");
  await page.goto(FIRST);
  await seen(page.getByRole("heading", { name: en.login.title }));
  await noteAlerts(page);
  await page.getByLabel(en.login.username, { exact: true }).fill(PERSON.username);
  await page.getByLabel(en.login.password, { exact: true }).fill(PERSON.password);
  await page.getByRole("button", { name: en.login.submit }).click();
  await seen(page.getByRole("navigation", { name: en.nav.label }));
  assert.deepEqual(await page.evaluate(() => globalThis.alerts), []);
  await context.close();
});

test("a switchover in the middle of a flow of messages loses and doubles none", async () => {
  const count = 30;
  let switched = null;
  for (let index = 1; index <= count; index += 1) {
    await say(tab, en, `flow ${index}.`);
    if (index === 10) switched = wish("switch");
  }
  await switched.done();
  await confirmed(phone, `flow ${count}.`);
  for (let index = 1; index <= count; index += 1) await confirmed(phone, `flow ${index}.`);
  await gone(tab.locator(".ch-banner"));
  const kept = JSON.parse(await tab.evaluate(() => localStorage.getItem("holdfast.nodes")));
  assert.deepEqual(kept, [FIRST, SECOND]);
});

test("no error was shown, nothing left the pair and nothing was forbidden", async () => {
  for (const page of [tab, otherTab, phone]) assert.deepEqual(await page.evaluate(() => globalThis.alerts), []);
  assert.deepEqual(problems, []);
});
