// Message text to HTML in two independent layers: markdown-it without raw HTML, then DOMPurify with a short list of
// allowed tags. Pictures from addresses would load from outside: their syntax stays text.
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });
markdown.disable(["image", "html_block", "html_inline", "lheading"]);
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false });

const ALLOWED_TAGS = [
  "p", "br", "strong", "em", "s", "code", "pre", "blockquote", "ul", "ol", "li", "a",
  "h1", "h2", "h3", "h4", "h5", "h6", "hr", "table", "thead", "tbody", "tr", "th", "td",
];

const purifier = DOMPurify(window);
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer nofollow");
});

/** Bodies seldom change while they are shown, and rows render often. */
const CACHE_MAX = 600;
const cache = new Map<string, string>();

/** Safe HTML of a message body. */
export function renderMarkdown(body: string): string {
  const held = cache.get(body);
  if (held !== undefined) return held;
  const html = purifier.sanitize(markdown.render(body), {
    ALLOWED_TAGS,
    ALLOWED_ATTR: ["href", "start", "class"],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto|tel):/i,
    ALLOW_DATA_ATTR: false,
  });
  if (cache.size >= CACHE_MAX) cache.delete(cache.keys().next().value ?? "");
  cache.set(body, html);
  return html;
}
