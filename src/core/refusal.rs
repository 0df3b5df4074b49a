//! Why a change was refused: deterministic, equal on every node, with a stable code. A failure that another node might
//! not have is never a refusal; it is a [`ViewError`](super::view::ViewError), and stops the node that has it.

use super::event::{Backups, Channel, Conflict, Message, Pair, Settings, User};

macro_rules! refusal_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:literal, $title:literal;)*) => {
        /// A reason to refuse. The code is part of the API and never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RefusalCode {
            $($(#[$doc])* $name,)*
        }

        impl RefusalCode {
            /// Every code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The stable code.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// The closest HTTP status.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// One short English sentence; clients translate the code instead.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

refusal_codes! {
    /// The actor may not do this.
    Forbidden = "forbidden", 403, "You may not do this.";
    /// No such user.
    UserNotFound = "user_not_found", 404, "There is no such user.";
    /// No such channel, or not for the actor's eyes.
    ChannelNotFound = "channel_not_found", 404, "There is no such channel.";
    /// No such message.
    MessageNotFound = "message_not_found", 404, "There is no such message.";
    /// No such invitation.
    InviteNotFound = "invite_not_found", 404, "There is no such invitation.";
    /// No such session.
    SessionNotFound = "session_not_found", 404, "There is no such session.";
    /// The actor is not a member of the channel.
    NotAMember = "not_a_member", 403, "You are not a member of this channel.";
    /// The account is disabled.
    UserDisabled = "user_disabled", 403, "This account is disabled.";
    /// Another user has this sign-in name.
    UsernameTaken = "username_taken", 409, "Somebody has this name already.";
    /// Another public channel has this name.
    ChannelNameTaken = "channel_name_taken", 409, "A channel has this name already.";
    /// The record was changed since the editor read it.
    StaleVersion = "stale_version", 412, "It was changed in the meantime.";
    /// The channel is archived.
    ChannelArchived = "channel_archived", 409, "This channel is archived.";
    /// Only managers post here.
    ChannelReadOnly = "channel_read_only", 403, "Only managers post in this channel.";
    /// The organisation is set up already.
    AlreadySetUp = "already_set_up", 409, "This server is set up already.";
    /// The organisation is not set up yet.
    SetupRequired = "setup_required", 409, "This server is not set up yet.";
    /// No such invitation token.
    InviteInvalid = "invite_invalid", 404, "This invitation does not exist.";
    /// The invitation is too old.
    InviteExpired = "invite_expired", 410, "This invitation has expired.";
    /// The invitation was accepted as often as it may be.
    InviteUsedUp = "invite_used_up", 410, "This invitation was used already.";
    /// The invitation was taken back.
    InviteRevoked = "invite_revoked", 410, "This invitation was taken back.";
    /// A message without text.
    MessageEmpty = "message_empty", 422, "A message needs some text.";
    /// A message beyond the limit.
    MessageTooLong = "message_too_long", 422, "This message is too long.";
    /// Too late to edit.
    EditWindowClosed = "edit_window_closed", 403, "It is too late to edit this message.";
    /// It would leave the organisation without an owner.
    LastOwner = "last_owner", 409, "There must be at least one owner.";
    /// The operation does not fit the kind of channel.
    WrongChannelKind = "wrong_channel_kind", 409, "This cannot be done in a channel of this kind.";
    /// A member of the pair does not understand it yet.
    UpgradePending = "upgrade_pending", 409, "Not all servers of the pair have been upgraded yet.";
    /// The members of the pair cannot be these.
    PairMembersInvalid = "pair_members_invalid", 422, "A pair has two data nodes and at most one witness, each complete.";
    /// An address of the pair is none.
    PairAddressInvalid = "pair_address_invalid", 422, "An address of the pair has the form host:port.";
    /// A member's number was used before, or is not the next.
    PairNumberUsed = "pair_number_used", 409, "A member of the pair never gets a number that was used before.";
    /// The timings of the pair contradict each other.
    PairTimingsInvalid = "pair_timings_invalid", 422, "These timings of the pair do not fit together.";
    /// The pair has agreed on a level that the change would take back.
    PairLevelFalls = "pair_level_falls", 409, "The pair cannot go back to an older version.";
    /// No such conflict.
    ConflictNotFound = "conflict_not_found", 404, "There is no such conflict.";
    /// Somebody has decided it already.
    ConflictResolved = "conflict_resolved", 409, "This conflict has been decided already.";
    /// This conflict cannot be decided so.
    ConflictDecisionInvalid = "conflict_decision_invalid", 422, "This conflict cannot be decided in this way.";
    /// A record of a diverged tail before this one is missing.
    SalvageGap = "salvage_gap", 409, "An earlier record of the same diverged tail is missing.";
    /// A target of the backups is not complete, or there are too many.
    BackupTargetInvalid = "backup_target_invalid", 422, "A backup target is not complete, or its name is used twice.";
    /// The authority's certificates of a target are none, or too many.
    BackupCaInvalid = "backup_ca_invalid", 422, "The authority's certificate is not usable: it has to be PEM.";
    /// A public key of the backups is none.
    BackupRecipientInvalid = "backup_recipient_invalid", 422, "This is no public key of age: it begins with age1.";
    /// A schedule of the backups is not complete, or names a target that is not there.
    BackupScheduleInvalid = "backup_schedule_invalid", 422, "A backup schedule is not complete, or names an unknown target.";
    /// More backups are to be kept than can be.
    BackupRetentionInvalid = "backup_retention_invalid", 422, "The number of backups to keep is too large.";
    /// The target was moved: its password or key must be entered again.
    BackupSecretNeeded = "backup_secret_needed", 422, "The target is another one: enter its password or key again.";
    /// The command's form is wrong in a way that only a faulty client produces.
    InvalidCommand = "invalid_command", 422, "The request does not make sense.";
}

/// The record as it is now, for an editor whose version was stale.
#[derive(Clone, Debug, PartialEq)]
pub enum Current {
    /// A user.
    User(User),
    /// A channel.
    Channel(Channel),
    /// A message.
    Message(Message),
    /// The settings.
    Settings(Settings),
    /// The pair.
    Pair(Pair),
    /// A conflict.
    Conflict(Conflict),
    /// The settings of the backups.
    Backups(Backups),
}

/// A refused change.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Why.
    pub code: RefusalCode,
    /// With [`RefusalCode::StaleVersion`]: the record as it is now.
    pub current: Option<Box<Current>>,
}

impl From<RefusalCode> for Refusal {
    fn from(code: RefusalCode) -> Self {
        Self { code, current: None }
    }
}

impl Refusal {
    /// A stale version, with the record as it is now.
    #[must_use]
    pub fn stale(current: Current) -> Self {
        Self { code: RefusalCode::StaleVersion, current: Some(Box::new(current)) }
    }
}

/// What a rule ends with when it does not succeed.
#[derive(Debug)]
pub enum RuleError {
    /// An answer: the same on every node.
    Refused(Refusal),
    /// A failure of this node: it must stop.
    View(super::view::ViewError),
}

impl From<RefusalCode> for RuleError {
    fn from(code: RefusalCode) -> Self {
        Self::Refused(code.into())
    }
}

impl From<Refusal> for RuleError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<super::view::ViewError> for RuleError {
    fn from(error: super::view::ViewError) -> Self {
        Self::View(error)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_stable_words_and_stand_for_one_reason_each() {
        let codes: BTreeSet<&str> = RefusalCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), RefusalCode::ALL.len());
        for code in RefusalCode::ALL {
            assert!(code.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code:?}");
            assert!((400..500).contains(&code.status()), "{code:?} is an answer, not a failure");
            assert!(code.title().ends_with('.'), "{code:?} has a sentence");
        }
    }
}
