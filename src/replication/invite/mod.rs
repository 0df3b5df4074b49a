//! How a machine becomes a member: the invitation that a person carries over, the one-time tokens behind it, and both sides
//! of the joining link. Must never store or log a token, nor believe a joining machine anything but that it holds one.
//!
//! The joining machine trusts the CA whose fingerprint is in the invitation; the inviting one trusts the token. The token
//! is shown only to a server that proved to be of that CA. It is spent when the log names the new member; until then a
//! failed attempt gives it back. Open invitations live in memory: a restart ends them.

mod blob;
mod desk;
mod error;
mod join;
mod tokens;

pub use blob::Invitation;
pub use desk::{Admitted, Inviter, JoinDesk, NewMember};
pub use error::{InviteError, JoinError};
pub use join::{Applicant, join};
pub use tokens::{Invites, OpenInvite};

#[cfg(test)]
mod tests;
