// The names the rest of the client uses for the server's shapes. Only re-exports of the generated schema live here:
// after the server's document changed, `npm run generate` and the compiler show what to adapt.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Role = Schemas["Role"];
export type ChannelKind = Schemas["ChannelKind"];
export type MemberRole = Schemas["MemberRole"];
export type Notify = Schemas["NotifyLevel"];
export type User = Schemas["User"];
export type Settings = Schemas["Settings"];
export type Session = Schemas["Session"];
export type Invite = Schemas["Invite"];
export type InviteInfo = Schemas["InviteInfo"];
export type CreatedInvite = Schemas["InviteCreated"];
export type Channel = Schemas["Channel"];
export type OwnMember = Schemas["OwnMember"];
/** A channel that one is a member of: what the live store holds. */
export type ChannelEntry = Schemas["ChannelEntry"] & { member: OwnMember };
export type Member = Schemas["Member"];
export type Message = Schemas["Message"];
export type MessagePage = Schemas["MessagePage"];
export type ServerInfo = Schemas["ServerInfo"];
export type SignedIn = Schemas["SignedIn"];
export type Me = Schemas["Me"];
export type Audit = Schemas["Audit"];
export type NodeStatus = Schemas["NodeStatus"];
export type CertificateInfo = Schemas["CertificateInfo"];
export type Problem = Schemas["Problem"];
export type RestorePlace = Schemas["BackupPlaceWanted"];
export type SetupRestoreFound = Schemas["SetupRestoreFound"];
export type SetupRestoreJob = Schemas["RestoreJob_RestoreReport"];
