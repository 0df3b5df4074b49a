// The picture of a person: initials on a colour that belongs to the id. Decoration: the name stands beside it.
const COLOURS = ["#1d6f8a", "#7a4fa3", "#a8461f", "#2f7540", "#a33a63", "#4a5fb0", "#80620f", "#556270"];

/** Below this there is room for one letter only. */
const SMALL_PX = 26;

function colourOf(id: string): string {
  let hash = 0;
  for (const char of id) hash = (hash * 31 + char.charCodeAt(0)) >>> 0;
  return COLOURS[(hash ^ (hash >>> 7)) % COLOURS.length] ?? "#556270";
}

/** Two letters: of the first and last word, or the last two characters of a Chinese name. */
export function initials(name: string): string {
  const trimmed = name.trim();
  const han = [...trimmed].filter((char) => /\p{Script=Han}/u.test(char));
  if (han.length > 0) return han.slice(-2).join("");
  const words = trimmed.split(/\s+/).filter(Boolean);
  const first = [...(words[0] ?? "?")][0] ?? "?";
  const last = words.length > 1 ? ([...(words.at(-1) ?? "")][0] ?? "") : "";
  return (first + last).toUpperCase();
}

export function Avatar({ id, name, size = 36, online }: { id: string; name: string; size?: number; online?: boolean }) {
  return (
    <span className="hf-avatar" aria-hidden="true" style={{ width: size, height: size }}>
      <span
        className="hf-avatar-face"
        style={{
          background: colourOf(id),
          fontSize: Math.round(size * (size < SMALL_PX ? 0.52 : 0.38)),
          borderRadius: Math.round(size * 0.28),
        }}
      >
        {size < SMALL_PX ? [...initials(name)].at(/\p{Script=Han}/u.test(name) ? -1 : 0) : initials(name)}
      </span>
      {online === undefined ? null : <span className="hf-dot" data-online={online || undefined} />}
    </span>
  );
}
