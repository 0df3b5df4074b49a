import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { describe, expect, test } from "vitest";

const ROOT = join(import.meta.dirname, "..");
const LOCALES = join(ROOT, "i18n/locales");

type Texts = { [key: string]: string | Texts };

function flat(texts: Texts, prefix = ""): Map<string, string> {
  const all = new Map<string, string>();
  for (const [key, value] of Object.entries(texts)) {
    if (typeof value === "string") all.set(prefix + key, value);
    else for (const [inner, text] of flat(value, `${prefix + key}.`)) all.set(inner, text);
  }
  return all;
}

const read = (name: string) => flat(JSON.parse(readFileSync(join(LOCALES, name), "utf8")) as Texts);
const placeholders = (text: string) => [...text.matchAll(/\{\{(\w+)\}\}/g)].map((found) => found[1]).sort();

describe.each(["", ".chat"])("the texts of part '%s'", (part) => {
  const en = read(`en${part}.json`);
  const zh = read(`zh-CN${part}.json`);
  test("have the same keys in both languages", () => {
    expect([...zh.keys()].sort()).toEqual([...en.keys()].sort());
  });
  test("have the same placeholders and are never empty", () => {
    for (const [key, text] of en) {
      expect(placeholders(zh.get(key) ?? ""), key).toEqual(placeholders(text));
      expect(text.trim(), key).not.toBe("");
      expect(zh.get(key)?.trim(), key).not.toBe("");
    }
  });
  test("have both plural forms where one is there", () => {
    for (const key of en.keys()) {
      if (key.endsWith("_one"))
        expect(en.has(key.replace(/_one$/, "_other")) || en.has(key.replace(/_one$/, "_two"))).toBe(true);
    }
  });
});

test("the two parts share no group of texts, so that loading one never overwrites the other", () => {
  const groups = (name: string) => Object.keys(JSON.parse(readFileSync(join(LOCALES, name), "utf8")));
  const start = new Set(groups("en.json"));
  expect(groups("en.chat.json").filter((group) => start.has(group))).toEqual([]);
});

/** Attributes whose value people read or hear. */
const SPOKEN = new Set([
  "title",
  "label",
  "placeholder",
  "alt",
  "aria-label",
  "aria-description",
  "description",
  "text",
]);
const LETTERS = /\p{L}/u;

function sources(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return sources(path);
    return entry.name.endsWith(".tsx") && !entry.name.endsWith(".test.tsx") ? [path] : [];
  });
}

/** Names and commands that are the same in every language. */
const ALLOWED = new Set(["holdfast init --link"]);

function literals(path: string): string[] {
  const file = ts.createSourceFile(path, readFileSync(path, "utf8"), ts.ScriptTarget.Latest, true, ts.ScriptKind.TSX);
  const found: string[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isJsxText(node) && LETTERS.test(node.text) && !ALLOWED.has(node.text.trim())) found.push(node.text.trim());
    if (ts.isJsxAttribute(node) && SPOKEN.has(node.name.getText(file)) && node.initializer) {
      const value = ts.isJsxExpression(node.initializer) ? node.initializer.expression : node.initializer;
      if (value && ts.isStringLiteralLike(value) && LETTERS.test(value.text)) found.push(value.text);
    }
    if (ts.isJsxExpression(node) && node.expression && !ts.isJsxAttribute(node.parent)) {
      if (ts.isStringLiteralLike(node.expression) && LETTERS.test(node.expression.text))
        found.push(node.expression.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

test("components hold no text of their own", () => {
  const found = sources(ROOT).flatMap((path) => literals(path).map((text) => `${path.slice(ROOT.length)}: ${text}`));
  expect(found).toEqual([]);
});

test("every error code of the contract has a sentence", () => {
  const codes = read("en.json");
  for (const code of [
    "network",
    "internal",
    "login_failed",
    "rate_limited",
    "message_too_long",
    "disk_full",
    "not_active",
  ]) {
    expect(codes.has(`errors.${code}`), code).toBe(true);
  }
});
