import { expect, test } from "vitest";
import { renderMarkdown } from "./markdown";

test("markdown becomes HTML", () => {
  expect(renderMarkdown("**bold** and `code`")).toContain("<strong>bold</strong> and <code>code</code>");
  expect(renderMarkdown("one\ntwo")).toContain("<br>");
});

test("HTML in a message stays text", () => {
  const html = renderMarkdown("<img src=x onerror=alert(1)><script>alert(1)</script>");
  expect(html).not.toContain("<img");
  expect(html).not.toContain("<script");
  expect(html).toContain("&lt;script&gt;");
});

test("links cannot run code and open apart", () => {
  expect(renderMarkdown("[x](javascript:alert(1))")).not.toContain("href");
  expect(renderMarkdown("[x](data:text/html,1)")).not.toContain("href");
  const html = renderMarkdown("https://example.org/a");
  expect(html).toContain('href="https://example.org/a"');
  expect(html).toContain('rel="noopener noreferrer nofollow"');
});

test("pictures never load from an address", () => {
  expect(renderMarkdown("![x](https://example.org/a.png)")).not.toContain("<img");
});
