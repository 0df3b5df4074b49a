// The routes of the chat. The address holds the whole view: the conversation, the message in it (`m`), the side panel and
// the open dialog, so that a reload or a shared link shows the same.
import { createRootRoute, createRoute, createRouter, useNavigate, useSearch } from "@tanstack/react-router";
import { Conversation } from "./Conversation";
import { Shell } from "./Shell";
import { Welcome } from "./Welcome";

export const DIALOGS = ["create", "browse", "direct", "invite", "preferences", "switcher"] as const;
export type DialogName = (typeof DIALOGS)[number];

export interface ViewSearch {
  /** The sequence number of the message to show. */
  m?: number;
  panel?: "details";
  dialog?: DialogName;
}

function readSearch(raw: Record<string, unknown>): ViewSearch {
  const m = Number(raw.m);
  return {
    ...(Number.isSafeInteger(m) && m > 0 ? { m } : {}),
    ...(raw.panel === "details" ? { panel: "details" as const } : {}),
    ...(DIALOGS.includes(raw.dialog as DialogName) ? { dialog: raw.dialog as DialogName } : {}),
  };
}

const root = createRootRoute({ component: Shell, validateSearch: readSearch, notFoundComponent: Welcome });
const home = createRoute({ getParentRoute: () => root, path: "/", component: Welcome });
const conversation = createRoute({ getParentRoute: () => root, path: "/c/$channelId", component: ConversationRoute });

function ConversationRoute() {
  const { channelId } = conversation.useParams();
  return <Conversation key={channelId} channelId={channelId} />;
}

export function createChatRouter() {
  return createRouter({ routeTree: root.addChildren([home, conversation]) });
}

declare module "@tanstack/react-router" {
  interface Register {
    router: ReturnType<typeof createChatRouter>;
  }
}

/** The view part of the address. */
export function useView(): ViewSearch {
  return useSearch({ from: "__root__" });
}

/** Changes to the address that screens ask for. */
export function useGo() {
  const navigate = useNavigate();
  return {
    channel: (channelId: string, m?: number) =>
      void navigate({ to: "/c/$channelId", params: { channelId }, search: m ? { m } : {} }),
    home: () => void navigate({ to: "/", search: {} }),
    dialog: (dialog: DialogName | undefined) =>
      void navigate({ to: ".", search: (held: ViewSearch) => ({ ...held, dialog }), replace: dialog === undefined }),
    panel: (panel: "details" | undefined) =>
      void navigate({ to: ".", search: (held: ViewSearch) => ({ ...held, panel }), replace: true }),
    message: (m: number | undefined) =>
      void navigate({ to: ".", search: (held: ViewSearch) => ({ ...held, m }), replace: true }),
  };
}
