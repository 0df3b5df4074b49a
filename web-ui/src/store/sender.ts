// Sends what the user wrote: in order per channel, with a client id that makes repeats harmless. A message leaves the
// outbox only when the server has confirmed it or the user deletes it.
import * as calls from "../api/calls";
import { toApiError } from "../api/errors";
import type { Message } from "../api/types";
import { removeOutboxItem, saveOutboxItem } from "./keep";
import type { OutboxItem } from "./state";

export interface SenderOptions {
  userId: string;
  /** Shows the item as it is now. */
  put: (item: OutboxItem) => void;
  drop: (clientId: string) => void;
  /** The server confirmed the message. */
  confirmed: (message: Message) => void;
  /** The item is still wanted (not deleted, not confirmed by the stream meanwhile). */
  wanted: (clientId: string) => boolean;
}

export class Sender {
  private readonly chains = new Map<string, Promise<void>>();

  constructor(private readonly options: SenderOptions) {}

  send(channelId: string, body: string): void {
    this.enqueue({
      client_id: newClientId(),
      channel_id: channelId,
      body,
      created_ms: Date.now(),
      status: "sending",
      code: null,
    });
  }

  retry(item: OutboxItem): void {
    this.enqueue({ ...item, status: "sending", code: null });
  }

  remove(item: OutboxItem): void {
    removeOutboxItem(this.options.userId, item.client_id);
    this.options.drop(item.client_id);
  }

  private enqueue(item: OutboxItem): void {
    saveOutboxItem(this.options.userId, item);
    this.options.put(item);
    const before = this.chains.get(item.channel_id) ?? Promise.resolve();
    this.chains.set(
      item.channel_id,
      before.then(() => this.deliver(item)),
    );
  }

  private async deliver(item: OutboxItem): Promise<void> {
    if (!this.options.wanted(item.client_id)) {
      removeOutboxItem(this.options.userId, item.client_id);
      return;
    }
    try {
      const message = await calls.sendMessage(item.channel_id, item.client_id, item.body);
      removeOutboxItem(this.options.userId, item.client_id);
      this.options.confirmed(message);
    } catch (cause) {
      const error = toApiError(cause);
      // A repeat may have been confirmed through the stream while this call failed.
      if (!this.options.wanted(item.client_id)) return removeOutboxItem(this.options.userId, item.client_id);
      const kept: OutboxItem = { ...item, status: error.retryable ? "waiting" : "failed", code: error.code };
      saveOutboxItem(this.options.userId, kept);
      this.options.put(kept);
    }
  }
}

/** A random UUID (v4); `crypto.randomUUID` needs a secure context, this does not. */
export function newClientId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = ((bytes[6] ?? 0) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] ?? 0) & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
