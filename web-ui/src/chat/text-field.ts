// Pieces that the composer and the edit box share: growing with the text, counting bytes, wrapping a selection.
import { type RefObject, useLayoutEffect } from "react";

const encoder = new TextEncoder();

/** The length of text as the server counts it. */
export function byteLength(text: string): number {
  return encoder.encode(text).length;
}

/** Makes a text area as high as its text, up to the limit of its style sheet. */
export function useGrowing(area: RefObject<HTMLTextAreaElement | null>, text: string): void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: the text is what changes the height
  useLayoutEffect(() => {
    const box = area.current;
    if (!box) return;
    box.style.height = "auto";
    box.style.height = `${box.scrollHeight}px`;
  }, [text, area]);
}

export type Format = "bold" | "italic" | "code" | "list" | "quote" | "link";

/** The text that replaces the selection, and which part of it is selected then (from its start). */
export function formatted(format: Format, selected: string): { text: string; from: number; to: number } {
  const wrap = (mark: string) => ({
    text: `${mark}${selected}${mark}`,
    from: mark.length,
    to: mark.length + selected.length,
  });
  const lines = (prefix: string) => {
    const text = selected
      .split("\n")
      .map((line) => prefix + line)
      .join("\n");
    return { text, from: text.length, to: text.length };
  };
  switch (format) {
    case "bold":
      return wrap("**");
    case "italic":
      return wrap("_");
    case "code":
      return selected.includes("\n")
        ? { text: `\`\`\`\n${selected}\n\`\`\``, from: 4, to: 4 + selected.length }
        : wrap("`");
    case "list":
      return lines("- ");
    case "quote":
      return lines("> ");
    case "link":
      return { text: `[${selected}](https://)`, from: selected.length + 3, to: selected.length + 11 };
  }
}

/** Puts text in the place of the selection as if it was typed, so that undo works. */
export function applyFormat(area: HTMLTextAreaElement, format: Format): void {
  area.focus();
  const { selectionStart: start, selectionEnd: end, value } = area;
  const { text, from, to } = formatted(format, value.slice(start, end));
  if (!document.execCommand("insertText", false, text)) {
    area.setRangeText(text, start, end, "end");
    area.dispatchEvent(new Event("input", { bubbles: true }));
  }
  area.setSelectionRange(start + from, start + to);
}
