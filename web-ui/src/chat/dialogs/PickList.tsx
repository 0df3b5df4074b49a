// A search field over a list, moved through with the arrow keys while the focus stays in the field.
import { TextInput } from "@mantine/core";
import { type ReactNode, useEffect, useId, useRef, useState } from "react";
import { Icon } from "../../ui/icons";
import { useImeGuard } from "../ime";

export interface PickItem {
  id: string;
  content: ReactNode;
}

export function PickList({
  label,
  placeholder,
  empty,
  text,
  onText,
  items,
  onPick,
  busy,
}: {
  label: string;
  placeholder: string;
  empty: string;
  text: string;
  onText: (text: string) => void;
  items: readonly PickItem[];
  onPick: (id: string) => void;
  busy?: boolean;
}) {
  const [at, setAt] = useState(0);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();
  const ime = useImeGuard();
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new search starts at its first result
  useEffect(() => setAt(0), [text]);
  const current = Math.min(at, Math.max(0, items.length - 1));
  const move = (to: number) => {
    setAt(to);
    list.current?.children[to]?.scrollIntoView({ block: "nearest" });
  };
  return (
    <div className="hf-stack">
      <TextInput
        role="combobox"
        aria-label={label}
        aria-expanded={items.length > 0}
        aria-controls={id}
        aria-autocomplete="list"
        aria-activedescendant={items[current] ? `${id}-${items[current].id}` : undefined}
        placeholder={placeholder}
        leftSection={<Icon name="search" size={16} />}
        data-autofocus
        value={text}
        onChange={(event) => onText(event.currentTarget.value)}
        onCompositionStart={ime.onCompositionStart}
        onCompositionEnd={ime.onCompositionEnd}
        onKeyDown={(event) => {
          if (ime.isComposing()) return;
          if (event.key === "ArrowDown") move(Math.min(items.length - 1, current + 1));
          else if (event.key === "ArrowUp") move(Math.max(0, current - 1));
          else if (event.key === "Enter" && items[current]) onPick(items[current].id);
          else return;
          event.preventDefault();
        }}
      />
      {items.length === 0 && !busy ? <div className="hf-empty">{empty}</div> : null}
      <div className="hf-pick" role="listbox" id={id} aria-label={label} ref={list}>
        {items.map((item, index) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: the field above handles the keys of the whole list
          <div
            key={item.id}
            id={`${id}-${item.id}`}
            className="hf-pick-row"
            role="option"
            tabIndex={-1}
            aria-selected={index === current}
            onMouseMove={() => setAt(index)}
            onClick={() => onPick(item.id)}
          >
            {item.content}
          </div>
        ))}
      </div>
    </div>
  );
}
