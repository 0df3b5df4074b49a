// The session token of this browser. Kept in localStorage so that every tab is signed in, and watched so that signing
// out in one tab signs out all of them.

const KEY = "holdfast.token";

type Listener = () => void;
const listeners = new Set<Listener>();

let token: string | null = read();
/** Why the last session ended, shown once on the login page. */
let endReason: "expired" | null = null;

function read(): string | null {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function getToken(): string | null {
  return token;
}

export function getEndReason(): "expired" | null {
  return endReason;
}

export function setToken(next: string | null, reason: "expired" | null = null): void {
  token = next;
  endReason = next === null ? reason : null;
  try {
    if (next === null) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // Storage may be forbidden; the session then lasts as long as the page.
  }
  for (const listener of listeners) listener();
}

export function subscribeToken(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

window.addEventListener("storage", (event) => {
  if (event.key !== KEY) return;
  token = event.newValue;
  for (const listener of listeners) listener();
});
