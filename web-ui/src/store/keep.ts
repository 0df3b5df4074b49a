// What must survive a reload: drafts and unsent messages, in localStorage, one key each so that tabs never overwrite
// each other's work. When storage is forbidden or full the page still works, only without this safety.
import type { OutboxItem } from "./state";

const draftKey = (userId: string, channelId: string) => `holdfast.draft.${userId}.${channelId}`;
const outboxPrefix = (userId: string) => `holdfast.outbox.${userId}.`;

function attempt<T>(act: () => T, otherwise: T): T {
  try {
    return act();
  } catch {
    return otherwise;
  }
}

export function loadDraft(userId: string, channelId: string): string {
  return attempt(() => localStorage.getItem(draftKey(userId, channelId)) ?? "", "");
}

export function saveDraft(userId: string, channelId: string, text: string): void {
  attempt(() => {
    if (text === "") localStorage.removeItem(draftKey(userId, channelId));
    else localStorage.setItem(draftKey(userId, channelId), text);
  }, undefined);
}

export function saveOutboxItem(userId: string, item: OutboxItem): void {
  attempt(() => localStorage.setItem(outboxPrefix(userId) + item.client_id, JSON.stringify(item)), undefined);
}

export function removeOutboxItem(userId: string, clientId: string): void {
  attempt(() => localStorage.removeItem(outboxPrefix(userId) + clientId), undefined);
}

/** The unsent messages of a former page, oldest first; what cannot be read is skipped. */
export function loadOutbox(userId: string): OutboxItem[] {
  const prefix = outboxPrefix(userId);
  return attempt(() => {
    const items: OutboxItem[] = [];
    for (let index = 0; index < localStorage.length; index += 1) {
      const key = localStorage.key(index);
      if (!key?.startsWith(prefix)) continue;
      const item = attempt(() => JSON.parse(localStorage.getItem(key) ?? "") as OutboxItem, null);
      if (item && typeof item.client_id === "string" && typeof item.body === "string") items.push(item);
    }
    return items.sort((a, b) => a.created_ms - b.created_ms);
  }, []);
}
