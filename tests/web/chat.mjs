// Two people chat with each other through a running server, in two browsers and two languages.
//
// HOLDFAST_URL           origin of the server, for example https://127.0.0.1:8443
// HOLDFAST_SETUP_LINK    its one-time set-up link (the server must not be set up yet)
// HOLDFAST_RESTART_CMD   a command that restarts the server at the same address, or
// HOLDFAST_RESTART_FILE  a file that this test creates to ask for a restart; whoever started the server removes the file,
//                        stops the server and starts it again. Without either the restart test is skipped.
// HOLDFAST_CHROMIUM      the browser (default /usr/bin/chromium)
//
// run: node --test tests/web/chat.mjs   (after `npm ci && npm run build` in web-ui)
import assert from "node:assert/strict";
import { exec } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test as runTest } from "node:test";

const WEB = new URL("../../web-ui/", import.meta.url);
const require = createRequire(new URL("package.json", WEB));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const URL_BASE = (process.env.HOLDFAST_URL ?? "").replace(/\/$/, "");
const SETUP_LINK = process.env.HOLDFAST_SETUP_LINK ?? "";
const WAIT_MS = 20_000;
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
/** The text with its placeholders filled in. */
const fill = (text, values) => text.replace(/\{\{(\w+)\}\}/g, (_, name) => values[name]);

const OWNER = { name: "Olivia Stone", username: "olivia", password: "harbour lantern violet 42" };
const GUEST = { name: "林晓雨", username: "xiaoyu", password: "pebble autumn ladder 77" };
const ORGANISATION = "Northwind";
const CHANNEL = "north-project";

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
let owner;
let guest;
const problems = [];
/** Console errors that a step provokes on purpose. */
let tolerated = null;

/** A page of its own browser context, watched: no request may leave the server, nothing may fail in the console. */
async function openPage(name, locale, options = {}) {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true,
    locale,
    viewport: { width: 1280, height: 800 },
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const origin = new URL(URL_BASE).origin;
  const allowed = [origin, origin.replace(/^http/, "ws")];
  const check = (url) => {
    if (!/^(data|blob):/.test(url) && !allowed.includes(new URL(url).origin)) problems.push(`${name}: request to ${url}`);
  };
  page.on("request", (request) => check(request.url()));
  page.on("websocket", (socket) => check(socket.url()));
  page.on("pageerror", (error) => problems.push(`${name}: ${error}`));
  page.on("console", (message) => {
    const text = message.text();
    if (/Content.Security.Policy/i.test(text)) problems.push(`${name}: ${text}`);
    else if (message.type() === "error" && !tolerated?.test(text)) problems.push(`${name}: ${text}`);
  });
  return page;
}

const seen = (locator) => locator.waitFor({ state: "visible" });
const gone = (locator) => locator.waitFor({ state: "hidden" });
const log = (page) => page.getByRole("log");
const message = (page, text) => log(page).getByRole("article").filter({ hasText: text }).last();
const composer = (page, t) => page.getByRole("textbox", { name: fill(t.composer.label, { name: CHANNEL }) });
const channelLink = (page, t) =>
  page.getByRole("navigation", { name: t.nav.label }).getByRole("link", { name: new RegExp(`^${CHANNEL}`) });

/** Waits until a condition holds in Node; the deadline is generous, the check is cheap. */
async function until(what, condition) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) assert.fail(`waited too long for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function audit(page, where) {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: "reduce" });
    await until(`${scheme} theme`, () =>
      page.evaluate((wanted) => document.documentElement.dataset.mantineColorScheme === wanted, scheme),
    );
    // Colours fade over; contrast is only right when no transition runs any more.
    await until("end of transitions", () =>
      page.evaluate(() => document.getAnimations().every((animation) => animation.playState !== "running")),
    );
    await page.evaluate(AXE);
    const found = await page.evaluate(async () => {
      const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
      const result = await globalThis.axe.run(document, { runOnly: { type: "tag", values: tags } });
      return result.violations
        .filter(({ impact }) => impact === "serious" || impact === "critical")
        .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
    });
    assert.deepEqual(found, [], `accessibility of ${where}, ${scheme}`);
  }
  await page.emulateMedia({ colorScheme: null, reducedMotion: null });
}

async function fillAccount(page, t, person) {
  await page.getByLabel(t.account.display_name, { exact: true }).fill(person.name);
  await page.getByLabel(t.account.username, { exact: true }).fill(person.username);
  await page.getByLabel(t.login.password, { exact: true }).fill(person.password);
  await page.getByLabel(t.password.repeat, { exact: true }).fill(person.password);
}

before(async () => {
  assert.ok(URL_BASE && SETUP_LINK, "HOLDFAST_URL and HOLDFAST_SETUP_LINK must be set");
  browser = await chromium.launch({ executablePath: process.env.HOLDFAST_CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

after(async () => {
  await browser?.close();
});

test("before set-up the login page says what to do", async () => {
  const page = await openPage("visitor", "en-US");
  await page.goto(URL_BASE);
  await seen(page.getByRole("heading", { name: en.login.not_set_up_title }));
  await page.context().close();
});

test("the owner sets the server up by the link", async () => {
  owner = await openPage("owner", "en-US");
  await owner.goto(SETUP_LINK);
  await seen(owner.getByRole("heading", { name: en.setup.language_title }));
  await audit(owner, "set-up, language");
  await owner.getByRole("radio", { name: en.language["zh-CN"] }).click();
  await seen(owner.getByRole("heading", { name: zh.setup.language_title }));
  await owner.getByRole("radio", { name: zh.language.en }).click();
  await owner.getByRole("button", { name: en.common.next }).click();
  await owner.getByLabel(en.setup.org_name, { exact: true }).fill(ORGANISATION);
  await owner.getByLabel(en.setup.time_zone, { exact: true }).selectOption("Asia/Shanghai");
  await audit(owner, "set-up, organisation");
  await owner.getByRole("button", { name: en.common.next }).click();
  await fillAccount(owner, en, OWNER);
  await audit(owner, "set-up, account");
  await owner.getByRole("button", { name: en.setup.create }).click();
  await seen(owner.getByRole("heading", { name: fill(en.setup.ready, { organisation: ORGANISATION }) }));
  const info = await owner.evaluate(async () => (await fetch("/api/v1/server")).json());
  assert.equal(info.organisation, ORGANISATION);
  if (info.ca_fingerprint) {
    await seen(owner.getByText(info.ca_fingerprint));
    await seen(owner.getByRole("link", { name: en.cert.download }));
  }
  await audit(owner, "set-up, summary");
  await owner.getByRole("button", { name: en.setup.enter }).click();
  await seen(owner.getByRole("navigation", { name: en.nav.label }));
});

test("the owner creates a channel and writes in it", async () => {
  await owner.getByRole("main").getByRole("button", { name: en.nav.create }).click();
  const dialog = owner.getByRole("dialog");
  await dialog.getByLabel(en.create.name, { exact: true }).fill(CHANNEL);
  await dialog.getByLabel(en.create.topic, { exact: true }).fill("The project in the north");
  await dialog.getByRole("button", { name: en.create.submit }).click();
  await seen(owner.getByRole("heading", { name: CHANNEL, level: 1 }));
  await composer(owner, en).fill("First **bold** words");
  await owner.keyboard.press("Enter");
  await seen(message(owner, "First bold words"));
  assert.equal(await message(owner, "First bold words").locator("strong", { hasText: "bold" }).count(), 1);
  assert.equal(await composer(owner, en).inputValue(), "");
});

test("the second person joins by an invite link, in Chinese", async () => {
  await owner.getByRole("button", { name: en.nav.invite }).click();
  const dialog = owner.getByRole("dialog");
  await dialog.getByRole("checkbox", { name: CHANNEL }).check();
  await dialog.getByRole("button", { name: en.invites.create }).click();
  const link = await dialog.getByLabel(en.invites.link, { exact: true }).inputValue();
  await owner.keyboard.press("Escape");
  await gone(dialog);

  guest = await openPage("guest", "zh-CN");
  await guest.goto(`${URL_BASE}/invite${new URL(link).hash}`);
  await seen(guest.getByRole("heading", { name: fill(zh.invite.title, { organisation: ORGANISATION }) }));
  assert.equal(await guest.evaluate(() => document.documentElement.lang), "zh-CN");
  await audit(guest, "invite");
  await fillAccount(guest, zh, GUEST);
  await guest.getByRole("button", { name: zh.invite.accept }).click();
  await channelLink(guest, zh).click();
  await seen(message(guest, "First bold words"));
});

test("an invite that was used up is refused with a reason", async () => {
  const page = await openPage("late", "en-US");
  tolerated = /Failed to load resource/;
  await page.goto(`${URL_BASE}/invite#hfi_not-a-real-token`);
  await seen(page.getByRole("heading", { name: en.invite.bad_link }));
  await page.context().close();
  tolerated = null;
});

test("messages, typing, edits and deletions reach the other person", async () => {
  await composer(guest, zh).fill("大家好，我到了");
  await guest.keyboard.press("Enter");
  await seen(message(owner, "大家好，我到了"));

  await composer(owner, en).pressSequentially("Welcome abord", { delay: 20 });
  await seen(guest.getByText(fill(zh.chat.typing_one, { name: OWNER.name })));
  await owner.keyboard.press("Enter");
  await seen(message(guest, "Welcome abord"));
  await gone(guest.getByText(fill(zh.chat.typing_one, { name: OWNER.name })));

  // ArrowUp in the empty composer edits the last own message.
  await composer(owner, en).press("ArrowUp");
  const editor = owner.getByRole("textbox", { name: en.composer.edit_label });
  await editor.fill("Welcome aboard");
  await editor.press("Enter");
  await seen(message(guest, "Welcome aboard").getByText(zh.chat.edited));
  await gone(guest.getByText("Welcome abord"));

  await message(guest, "大家好，我到了").hover();
  await guest.getByRole("button", { name: zh.chat.delete }).click();
  const dialog = guest.getByRole("dialog");
  await seen(dialog.getByText(zh.chat.delete_hint));
  await dialog.getByRole("button", { name: zh.chat.delete }).click();
  await seen(log(owner).getByText(en.chat.deleted));
  await gone(owner.getByText("大家好，我到了"));
});

test("unread messages are counted, shown and read", async () => {
  await owner.goto(`${URL_BASE}/`);
  await seen(channelLink(owner, en));
  for (const text of ["第一条未读", "第二条未读"]) {
    await composer(guest, zh).fill(text);
    await guest.keyboard.press("Enter");
    await seen(message(guest, text));
  }
  await seen(channelLink(owner, en).getByText(fill(en.nav.unread_other, { count: 2 })));
  await until("the count in the title", async () => (await owner.title()).startsWith("(2)"));
  await channelLink(owner, en).click();
  await seen(log(owner).getByText(en.chat.new_messages));
  await seen(message(owner, "第二条未读"));
  await until("no unread count any more", async () => (await owner.title()) === ORGANISATION);
});

test("a direct conversation shows who is online", async () => {
  await owner.getByRole("button", { name: en.nav.new_direct }).click();
  const dialog = owner.getByRole("dialog");
  await dialog.getByRole("combobox").fill(GUEST.username);
  await seen(dialog.getByRole("option", { name: new RegExp(GUEST.name) }));
  await until("only the wanted person", async () => (await dialog.getByRole("option").count()) === 1);
  await owner.keyboard.press("Enter");
  await seen(owner.getByRole("heading", { name: GUEST.name, level: 1 }));
  await seen(owner.getByRole("banner").or(owner.locator("header")).getByText(en.nav.online).first());
  await owner.getByRole("textbox", { name: fill(en.composer.label, { name: GUEST.name }) }).fill("Only for you");
  await owner.keyboard.press("Enter");
  const link = guest.getByRole("navigation", { name: zh.nav.label }).getByRole("link", { name: new RegExp(OWNER.name) });
  await link.click();
  await seen(message(guest, "Only for you"));
  await channelLink(guest, zh).click();
  await channelLink(owner, en).click();
});

test("Enter that belongs to an input method does not send", async () => {
  const field = composer(guest, zh);
  await field.click();
  const cdp = await guest.context().newCDPSession(guest);
  const articles = await log(guest).getByRole("article").count();
  await cdp.send("Input.imeSetComposition", { text: "nihao", selectionStart: 5, selectionEnd: 5 });
  await until("the composition in the field", async () => (await field.inputValue()) === "nihao");
  const enter = { key: "Enter", code: "Enter", windowsVirtualKeyCode: 13, nativeVirtualKeyCode: 13 };
  await cdp.send("Input.dispatchKeyEvent", { type: "rawKeyDown", ...enter });
  await cdp.send("Input.dispatchKeyEvent", { type: "keyUp", ...enter });
  await cdp.send("Input.insertText", { text: "你好" });
  await until("the committed text", async () => (await field.inputValue()).includes("你好"));
  // Some input methods send the confirming Enter right after the end of the composition, in the same tick.
  await field.evaluate((area) => {
    area.dispatchEvent(new CompositionEvent("compositionstart", { bubbles: true }));
    area.dispatchEvent(new CompositionEvent("compositionend", { bubbles: true, data: "好" }));
    area.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true }));
  });
  assert.match(await field.inputValue(), /你好/);
  assert.equal(await log(guest).getByRole("article").count(), articles);
  // An Enter of its own sends, also for somebody whose Enter reports the key code of an input method.
  await field.fill("你好");
  await field.press("Enter");
  await seen(message(owner, "你好"));
  await cdp.detach();
});

test("drafts stay with their conversation and survive a reload", async () => {
  await composer(owner, en).fill("half a thought");
  await owner.reload();
  await until("the draft", async () => (await composer(owner, en).inputValue()) === "half a thought");
  await composer(owner, en).fill("");
});

test("a restart of the server shows the banner and loses nothing", async (t) => {
  const { HOLDFAST_RESTART_CMD: command, HOLDFAST_RESTART_FILE: file } = process.env;
  if (!command && !file) return t.skip("no way to restart the server was given");
  tolerated = /WebSocket connection|Failed to load resource|ERR_/;
  if (file) writeFileSync(file, "restart\n");
  else exec(command, (error) => error && problems.push(`restart: ${error}`));
  await seen(owner.getByText(/Connection lost/));
  await composer(owner, en).fill("written while it was away");
  await owner.keyboard.press("Enter");
  await composer(owner, en).fill("still typing");
  await seen(message(owner, "written while it was away"));
  await seen(owner.getByText(en.link.reconnected));
  await gone(message(owner, "written while it was away").getByText(en.chat.waiting));
  await gone(message(owner, "written while it was away").getByText(en.chat.sending));
  await seen(message(guest, "written while it was away"));
  assert.equal(await log(guest).getByText("written while it was away").count(), 1);
  assert.equal(await composer(owner, en).inputValue(), "still typing");
  await gone(owner.getByText(/Connection lost/));
  await composer(owner, en).fill("");
  tolerated = null;
});

test("the chat has no serious accessibility problem in either theme and language", async () => {
  await message(owner, "Welcome aboard").hover();
  await audit(owner, "chat");
  await audit(guest, "chat in Chinese");
  await owner.getByRole("button", { name: en.chat.details, exact: true }).click();
  await seen(owner.getByRole("complementary", { name: en.chat.details }).getByText(GUEST.name));
  await audit(owner, "chat with details");
  await owner.getByRole("button", { name: en.nav.menu }).click();
  await owner.getByRole("menuitem", { name: en.nav.preferences }).click();
  await seen(owner.getByRole("dialog").getByLabel(en.account.display_name, { exact: true }));
  await audit(owner, "preferences");
  await owner.keyboard.press("Escape");
});

test("on a phone the channel list is a drawer and nothing is cut off", async () => {
  await guest.setViewportSize({ width: 360, height: 700 });
  await guest.getByRole("button", { name: zh.nav.open }).click();
  await seen(channelLink(guest, zh));
  await audit(guest, "phone with the drawer");
  await channelLink(guest, zh).click();
  await gone(channelLink(guest, zh));
  const overflow = await guest.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(overflow, 0);
  await guest.setViewportSize({ width: 1280, height: 800 });
});

test("the tabs of a browser share one connection and take it over", async () => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, locale: "en-US" });
  const counts = [0, 0];
  const pages = [];
  for (const index of [0, 1]) {
    const page = await context.newPage();
    page.setDefaultTimeout(WAIT_MS);
    page.on("websocket", () => {
      counts[index] += 1;
    });
    pages.push(page);
    await page.goto(URL_BASE);
    if (index === 0) {
      await page.getByLabel(en.login.username, { exact: true }).fill(OWNER.username);
      await page.getByLabel(en.login.password, { exact: true }).fill(OWNER.password);
      await page.getByRole("button", { name: en.login.submit }).click();
    }
    await channelLink(page, en).click();
    await seen(message(page, "Welcome aboard"));
    await seen(page.getByRole("button", { name: en.nav.menu }).getByText(en.nav.online));
  }
  await composer(guest, zh).fill("到两个标签页");
  await guest.keyboard.press("Enter");
  await seen(message(pages[1], "到两个标签页"));
  assert.deepEqual(counts, [1, 0]);
  await pages[0].close();
  await until("the second tab to connect", () => counts[1] === 1);
  await composer(guest, zh).fill("到剩下的标签页");
  await guest.keyboard.press("Enter");
  await seen(message(pages[1], "到剩下的标签页"));
  await context.close();
});

test("older messages load while scrolling up, and the newest stay one click away", async () => {
  const channelId = new URL(guest.url()).pathname.split("/").at(-1);
  await guest.evaluate(
    async ({ id, count }) => {
      const headers = {
        authorization: `Bearer ${localStorage.getItem("holdfast.token")}`,
        "content-type": "application/json",
      };
      for (let index = 1; index <= count; ) {
        const body = JSON.stringify({
          client_id: `00000000-0000-4000-8000-${String(index).padStart(12, "0")}`,
          body: `history ${index} of ${count}`,
        });
        const answer = await fetch(`/api/v1/channels/${id}/messages`, { method: "POST", headers, body });
        if (answer.ok) index += 1;
        else if (answer.status !== 429) throw new Error(`sending failed with ${answer.status}`);
        else await new Promise((resolve) => setTimeout(resolve, 1_000 * Number(answer.headers.get("retry-after") ?? 1)));
      }
    },
    { id: channelId, count: 150 },
  );
  await seen(message(guest, "history 150 of 150"));
  await guest.reload();
  await seen(log(guest).getByRole("article").first());
  const counted = fill(zh.chat.jump_newest_count_other, { count: "\\d+" });
  const toNewest = guest.getByRole("button", { name: new RegExp(`${zh.chat.jump_newest}|${counted}`) });
  // The last read marks may not have reached the server before the reload; then it opens at the first unread.
  if (await toNewest.isVisible()) await toNewest.click();
  await seen(message(guest, "history 150 of 150"));
  assert.ok((await log(guest).getByRole("article").count()) < 150);
  await log(guest).hover();
  const start = log(guest).getByRole("heading", { name: fill(zh.chat.start, { name: CHANNEL }) });
  await until("the start of the channel", async () => {
    await guest.mouse.wheel(0, -4_000);
    return start.isVisible();
  });
  await seen(message(guest, "First bold words"));
  await toNewest.click();
  await until("the newest in view", () =>
    message(guest, "history 150 of 150").evaluate((row) => row.getBoundingClientRect().bottom <= window.innerHeight),
  );
});

test("signing in and sending need no mouse", async () => {
  const page = await openPage("keyboard", "en-US");
  await page.goto(URL_BASE);
  await seen(page.getByRole("heading", { name: en.login.title }));
  await audit(page, "login");
  tolerated = /status of 401/;
  await page.getByLabel(en.login.username, { exact: true }).focus();
  await page.keyboard.type(OWNER.username);
  await page.keyboard.press("Tab");
  await page.keyboard.type("not the password");
  await page.keyboard.press("Enter");
  await seen(page.getByRole("alert").getByText(en.errors.login_failed));
  tolerated = null;
  await page.keyboard.press("ControlOrMeta+A");
  await page.keyboard.type(OWNER.password);
  await page.keyboard.press("Enter");
  await seen(page.getByRole("navigation", { name: en.nav.label }));
  await page.keyboard.press("Control+K");
  await seen(page.getByRole("dialog").getByRole("combobox"));
  await until("the focus in the switcher", () => page.evaluate(() => document.activeElement?.role === "combobox"));
  await page.keyboard.type(CHANNEL);
  await page.keyboard.press("Enter");
  await gone(page.getByRole("dialog"));
  await until("the focus in the composer", () => page.evaluate(() => document.activeElement?.tagName === "TEXTAREA"));
  await page.keyboard.type("no mouse was used");
  await page.keyboard.press("Enter");
  await seen(message(guest, "no mouse was used"));
  await page.getByRole("button", { name: en.nav.menu }).focus();
  await page.keyboard.press("Enter");
  await seen(page.getByRole("menuitem", { name: en.common.logout }));
  await until("the focus on the last item", async () => {
    await page.keyboard.press("ArrowDown");
    return page.evaluate((label) => document.activeElement?.textContent === label, en.common.logout);
  });
  await page.keyboard.press("Enter");
  await seen(page.getByRole("heading", { name: en.login.title }));
  await page.context().close();
});

test("no request left the server and nothing failed in the console", () => {
  assert.deepEqual(problems, []);
});
