// Message text to HTML in two independent layers: markdown-it without raw HTML, then DOMPurify with a short list of
// allowed tags. Pictures from addresses would load from outside: their syntax stays text.
import DOMPurify from "dompurify";
import MarkdownIt from "markdown-it";

const markdown = new MarkdownIt({ html: false, linkify: true, breaks: true, typographer: false });
markdown.disable(["image", "html_block", "html_inline", "lheading"]);
markdown.linkify.set({ fuzzyLink: false, fuzzyEmail: false });

const ALLOWED_TAGS = [
  "p",
  "br",
  "strong",
  "em",
  "s",
  "code",
  "pre",
  "blockquote",
  "ul",
  "ol",
  "li",
  "a",
  "h1",
  "h2",
  "h3",
  "h4",
  "h5",
  "h6",
  "hr",
  "table",
  "thead",
  "tbody",
  "tr",
  "th",
  "td",
];

/** Every link opens apart and tells the other side nothing about this one. */
markdown.renderer.rules.link_open = (tokens, index, options, _env, renderer) => {
  tokens[index]?.attrSet("target", "_blank");
  tokens[index]?.attrSet("rel", "noopener noreferrer nofollow");
  return renderer.renderToken(tokens, index, options);
};

/** Bodies seldom change while they are shown, and rows render often. */
const CACHE_MAX = 600;
const cache = new Map<string, string>();

/** Safe HTML of a message body. */
export function renderMarkdown(body: string): string {
  const held = cache.get(body);
  if (held !== undefined) return held;
  const html = DOMPurify.sanitize(markdown.render(body), {
    ALLOWED_TAGS,
    ALLOWED_ATTR: ["href", "target", "rel", "start", "class"],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto|tel):/i,
    ALLOW_DATA_ATTR: false,
  });
  if (cache.size >= CACHE_MAX) cache.delete(cache.keys().next().value ?? "");
  cache.set(body, html);
  return html;
}
