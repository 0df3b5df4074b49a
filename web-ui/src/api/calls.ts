// Every call the client makes, one function each. The only file that knows paths and parameter places.
import { http, unwrap } from "./client";
import type { components } from "./schema";
import type { ChannelEntry, ChannelKind, MemberRole, Message, Notify, User } from "./types";

type Schemas = components["schemas"];
const V1 = "/api/v1";

const ifMatch = (version: number) => ({ "If-Match": `"${version}"` });

export const server = () => unwrap(http.GET(`${V1}/server`));
export const setupCheck = (token: string) => unwrap(http.POST(`${V1}/setup/check`, { body: { token } }));
export const setupRestoreLook = (body: Schemas["SetupRestoreAsked"]) =>
  unwrap(http.POST(`${V1}/setup/restore/look`, { body }));
export const setupRestore = (body: Schemas["SetupRestoreAsked"]) => unwrap(http.POST(`${V1}/setup/restore`, { body }));
export const setupRestoreJob = (token: string) => unwrap(http.POST(`${V1}/setup/restore/job`, { body: { token } }));
export const setupRestoreCancel = (token: string) =>
  unwrap(http.POST(`${V1}/setup/restore/cancel`, { body: { token } }));
export const setup = (body: Schemas["SetUpBody"]) => unwrap(http.POST(`${V1}/setup`, { body }));
export const login = (body: Schemas["Login"]) => unwrap(http.POST(`${V1}/login`, { body }));
export const logout = () => unwrap(http.POST(`${V1}/logout`));
export const inviteCheck = (token: string) => unwrap(http.POST(`${V1}/invites/check`, { body: { token } }));
export const inviteAccept = (body: Schemas["InviteAccept"]) => unwrap(http.POST(`${V1}/invites/accept`, { body }));

export const me = () => unwrap(http.GET(`${V1}/me`));
export const updateMe = (user: User, body: Schemas["MeUpdate"]) =>
  unwrap(http.PATCH(`${V1}/me`, { params: { header: ifMatch(user.version) }, body }));
export const changePassword = (current_password: string, new_password: string) =>
  unwrap(http.POST(`${V1}/me/password`, { body: { current_password, new_password } }));
export const mySessions = () => unwrap(http.GET(`${V1}/me/sessions`));
export const endMySession = (id: string) =>
  unwrap(http.DELETE(`${V1}/me/sessions/{session_id}`, { params: { path: { session_id: id } } }));

export const users = (query?: string, cursor?: string, limit?: number) =>
  unwrap(
    http.GET(`${V1}/users`, {
      params: { query: { ...(query ? { query } : {}), ...(cursor ? { cursor } : {}), ...(limit ? { limit } : {}) } },
    }),
  );
export const user = (id: string) => unwrap(http.GET(`${V1}/users/{user_id}`, { params: { path: { user_id: id } } }));
export const createInvite = (body: Schemas["InviteCreate"]) => unwrap(http.POST(`${V1}/invites`, { body }));

/** What the server gives for a channel one is in always has one's membership. */
const own = (entry: Schemas["ChannelEntry"]) => entry as ChannelEntry;

export const channels = async () => {
  const page = await unwrap(http.GET(`${V1}/channels`));
  return { ...page, items: page.items.map(own) };
};
export const browseChannels = (query: string, cursor?: string) =>
  unwrap(
    http.GET(`${V1}/channels/browse`, {
      params: { query: { ...(query ? { query } : {}), ...(cursor ? { cursor } : {}) } },
    }),
  );
export const channel = (id: string) =>
  unwrap(http.GET(`${V1}/channels/{channel_id}`, { params: { path: { channel_id: id } } }));
export const createChannel = async (body: { kind: ChannelKind; name: string; topic?: string; member_ids?: string[] }) =>
  own(await unwrap(http.POST(`${V1}/channels`, { body })));
export const openDirect = async (user_id: string) =>
  own(await unwrap(http.POST(`${V1}/channels/direct`, { body: { user_id } })));
export const updateChannel = (id: string, version: number, body: Schemas["ChannelUpdate"]) =>
  unwrap(
    http.PATCH(`${V1}/channels/{channel_id}`, { params: { path: { channel_id: id }, header: ifMatch(version) }, body }),
  );
export const members = (id: string, cursor?: string) =>
  unwrap(
    http.GET(`${V1}/channels/{channel_id}/members`, {
      params: { path: { channel_id: id }, query: { limit: 200, ...(cursor ? { cursor } : {}) } },
    }),
  );
export const putMember = (id: string, user_id: string, role?: MemberRole) =>
  unwrap(
    http.PUT(`${V1}/channels/{channel_id}/members/{user_id}`, {
      params: { path: { channel_id: id, user_id } },
      body: role ? { role } : {},
    }),
  );
export const removeMember = (id: string, user_id: string) =>
  unwrap(
    http.DELETE(`${V1}/channels/{channel_id}/members/{user_id}`, { params: { path: { channel_id: id, user_id } } }),
  );
export const setNotify = (id: string, notify: Notify) =>
  unwrap(
    http.PATCH(`${V1}/channels/{channel_id}/membership`, { params: { path: { channel_id: id } }, body: { notify } }),
  );

/** Where a page of messages starts; nothing means the newest. */
export type PageAt = { before: number } | { after: number } | { around: number } | Record<string, never>;
export const messages = (id: string, at: PageAt, limit: number) =>
  unwrap(
    http.GET(`${V1}/channels/{channel_id}/messages`, { params: { path: { channel_id: id }, query: { ...at, limit } } }),
  );
export const sendMessage = (id: string, client_id: string, body: string) =>
  unwrap(
    http.POST(`${V1}/channels/{channel_id}/messages`, {
      params: { path: { channel_id: id } },
      body: { client_id, body },
    }),
  );
export const editMessage = (message: Message, body: string) =>
  unwrap(
    http.PATCH(`${V1}/channels/{channel_id}/messages/{seq}`, {
      params: { path: { channel_id: message.channel_id, seq: message.seq }, header: ifMatch(message.version) },
      body: { body },
    }),
  );
export const deleteMessage = (message: Message) =>
  unwrap(
    http.DELETE(`${V1}/channels/{channel_id}/messages/{seq}`, {
      params: { path: { channel_id: message.channel_id, seq: message.seq }, header: ifMatch(message.version) },
    }),
  );
export const markRead = (id: string, seq: number) =>
  unwrap(http.POST(`${V1}/channels/{channel_id}/read`, { params: { path: { channel_id: id } }, body: { seq } }));
export const presence = () => unwrap(http.GET(`${V1}/presence`));
export const typing = (id: string) =>
  unwrap(http.POST(`${V1}/channels/{channel_id}/typing`, { params: { path: { channel_id: id } } }));
