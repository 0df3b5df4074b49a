// Every call the client makes, one function each. The only file that knows paths and parameter places.
import { http, unwrap } from "./client";
import type { components } from "./schema";
import type { ChannelKind, MemberRole, Message, Notify, User } from "./types";

type Schemas = components["schemas"];
const V1 = "/api/v1";

const ifMatch = (version: number) => ({ "If-Match": `"${version}"` });

export const server = () => unwrap(http.GET(`${V1}/server`));
export const setupCheck = (token: string) => unwrap(http.POST(`${V1}/setup/check`, { body: { token } }));
export const setup = (body: Schemas["SetupRequest"]) => unwrap(http.POST(`${V1}/setup`, { body }));
export const login = (body: Schemas["LoginRequest"]) => unwrap(http.POST(`${V1}/login`, { body }));
export const logout = () => unwrap(http.POST(`${V1}/logout`));
export const inviteCheck = (token: string) => unwrap(http.POST(`${V1}/invites/check`, { body: { token } }));
export const inviteAccept = (body: Schemas["AcceptInviteRequest"]) =>
  unwrap(http.POST(`${V1}/invites/accept`, { body }));

export const me = () => unwrap(http.GET(`${V1}/me`));
export const updateMe = (user: User, body: Schemas["UpdateMeRequest"]) =>
  unwrap(http.PATCH(`${V1}/me`, { params: { header: ifMatch(user.version) }, body }));
export const changePassword = (current_password: string, new_password: string) =>
  unwrap(http.POST(`${V1}/me/password`, { body: { current_password, new_password } }));
export const mySessions = () => unwrap(http.GET(`${V1}/me/sessions`));
export const endMySession = (id: string) => unwrap(http.DELETE(`${V1}/me/sessions/{id}`, { params: { path: { id } } }));

export const users = (query?: string, cursor?: string, limit?: number) =>
  unwrap(
    http.GET(`${V1}/users`, {
      params: { query: { ...(query ? { query } : {}), ...(cursor ? { cursor } : {}), ...(limit ? { limit } : {}) } },
    }),
  );
export const user = (id: string) => unwrap(http.GET(`${V1}/users/{id}`, { params: { path: { id } } }));
export const createInvite = (body: Schemas["CreateInviteRequest"]) => unwrap(http.POST(`${V1}/invites`, { body }));

export const channels = () => unwrap(http.GET(`${V1}/channels`));
export const browseChannels = (query: string, cursor?: string) =>
  unwrap(
    http.GET(`${V1}/channels/browse`, {
      params: { query: { ...(query ? { query } : {}), ...(cursor ? { cursor } : {}) } },
    }),
  );
export const channel = (id: string) => unwrap(http.GET(`${V1}/channels/{id}`, { params: { path: { id } } }));
export const createChannel = (body: { kind: ChannelKind; name: string; topic?: string; member_ids?: string[] }) =>
  unwrap(http.POST(`${V1}/channels`, { body: body as Schemas["CreateChannelRequest"] }));
export const openDirect = (user_id: string) => unwrap(http.POST(`${V1}/channels/direct`, { body: { user_id } }));
export const updateChannel = (id: string, version: number, body: Schemas["UpdateChannelRequest"]) =>
  unwrap(http.PATCH(`${V1}/channels/{id}`, { params: { path: { id }, header: ifMatch(version) }, body }));
export const members = (id: string, cursor?: string) =>
  unwrap(
    http.GET(`${V1}/channels/{id}/members`, {
      params: { path: { id }, query: { limit: 200, ...(cursor ? { cursor } : {}) } },
    }),
  );
export const putMember = (id: string, user_id: string, role?: MemberRole) =>
  unwrap(
    http.PUT(`${V1}/channels/{id}/members/{user_id}`, {
      params: { path: { id, user_id } },
      body: role ? { role } : {},
    }),
  );
export const removeMember = (id: string, user_id: string) =>
  unwrap(http.DELETE(`${V1}/channels/{id}/members/{user_id}`, { params: { path: { id, user_id } } }));
export const setNotify = (id: string, notify: Notify) =>
  unwrap(http.PATCH(`${V1}/channels/{id}/membership`, { params: { path: { id } }, body: { notify } }));

/** Where a page of messages starts; nothing means the newest. */
export type PageAt = { before: number } | { after: number } | { around: number } | Record<string, never>;
export const messages = (id: string, at: PageAt, limit: number) =>
  unwrap(http.GET(`${V1}/channels/{id}/messages`, { params: { path: { id }, query: { ...at, limit } } }));
export const sendMessage = (id: string, client_id: string, body: string) =>
  unwrap(http.POST(`${V1}/channels/{id}/messages`, { params: { path: { id } }, body: { client_id, body } }));
export const editMessage = (message: Message, body: string) =>
  unwrap(
    http.PATCH(`${V1}/channels/{id}/messages/{seq}`, {
      params: { path: { id: message.channel_id, seq: message.seq }, header: ifMatch(message.version) },
      body: { body },
    }),
  );
export const deleteMessage = (message: Message) =>
  unwrap(
    http.DELETE(`${V1}/channels/{id}/messages/{seq}`, {
      params: { path: { id: message.channel_id, seq: message.seq }, header: ifMatch(message.version) },
    }),
  );
export const markRead = (id: string, seq: number) =>
  unwrap(http.POST(`${V1}/channels/{id}/read`, { params: { path: { id } }, body: { seq } }));
export const presence = () => unwrap(http.GET(`${V1}/presence`));
export const typing = (id: string) => unwrap(http.POST(`${V1}/channels/{id}/typing`, { params: { path: { id } } }));
