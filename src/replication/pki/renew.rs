//! Another certificate for a data node that is in a pair: made beside the one that is shown, and shown as soon as the
//! pair's settings name it. A data node has the CA's key and needs nobody for this; a witness has not.
//!
//! The file is `member-next.pem`, like `member.pem`. It takes that one's place by a rename: a crash leaves one or the other.

use std::fs;
use std::path::Path;

use super::error::PkiError;
use super::files::{MEMBER_FILE, NEXT_FILE, PairPki, Writer, load_certificate, pem_text, read_optional};
use super::identity::{Fingerprint, fingerprint, valid_until};
use super::issue::JoinKey;
use super::tls::PeerTls;
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::ops::durable_file::sync_dir;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// Until when the pair's certificates on a member are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The member's own, in seconds since the Unix epoch.
    pub certificate_until: i64,
    /// The CA's.
    pub ca_until: i64,
    /// Which kind of member it is.
    pub kind: PairMemberKind,
}

impl Validity {
    /// Whole days until the first of them ends; negative afterwards.
    #[must_use]
    pub fn days_left(&self, now_unix_seconds: i64) -> i64 {
        (self.certificate_until.min(self.ca_until) - now_unix_seconds).div_euclid(DAY_SECONDS)
    }

    /// Whether it is time for another certificate, and the CA can give one that lasts longer.
    pub(in crate::replication) const fn is_due(&self, now_unix_seconds: i64) -> bool {
        let begins_to_end = self.certificate_until - now_unix_seconds < limits::PAIR_RENEW_DAYS * DAY_SECONDS;
        let gains = self.ca_until - self.certificate_until > DAY_SECONDS;
        matches!(self.kind, PairMemberKind::Data) && begins_to_end && gains
    }

    /// Both in one sentence.
    #[must_use]
    pub fn text(&self, now_unix_seconds: i64) -> String {
        let days = |until: i64| match (until - now_unix_seconds).div_euclid(DAY_SECONDS) {
            days @ ..0 => format!("expired {} days ago", -days),
            days => format!("valid for {days} days more"),
        };
        let (own, ca) = (days(self.certificate_until), days(self.ca_until));
        format!("this member's certificate for the pair is {own}, the pair's CA is {ca}")
    }

    /// What a person has to do soon, because nothing does it by itself; `None` when there is time.
    #[must_use]
    pub fn trouble(&self, now_unix_seconds: i64) -> Option<&'static str> {
        let soon = |until: i64| until - now_unix_seconds < limits::PAIR_CERTIFICATE_WARN_DAYS * DAY_SECONDS;
        if soon(self.ca_until) {
            Some(
                "Make the pair anew: remove the other members, stop this node, move pair/ away, start it, invite them again.",
            )
        } else if !soon(self.certificate_until) {
            None
        } else if self.kind == PairMemberKind::Data {
            Some("Run holdfast pair renew on this node while the pair has an active node that it reaches.")
        } else {
            Some("Invite a witness on the active node and join with it here again: holdfast witness --join BLOB.")
        }
    }

    /// How long the certificates are valid and what is to be done about it; `None` while there is nothing to do.
    #[must_use]
    pub fn warning(&self, now_unix_seconds: i64) -> Option<String> {
        Some(format!("{}. {}", self.text(now_unix_seconds), self.trouble(now_unix_seconds)?))
    }
}

impl PairPki {
    /// Until when the certificates are valid. What cannot be read counts as expired.
    #[must_use]
    pub fn validity(&self) -> Validity {
        Validity {
            certificate_until: valid_until(&self.certificate).unwrap_or(0),
            ca_until: valid_until(&self.ca).unwrap_or(0),
            kind: self.membership().kind,
        }
    }

    /// The certificate that waits for the pair's settings to name it.
    ///
    /// # Errors
    /// [`PkiError::Damaged`], [`PkiError::Io`].
    pub(in crate::replication) fn next(dir: &Path) -> Result<Option<Fingerprint>, PkiError> {
        if read_optional(&dir.join(NEXT_FILE))?.is_none() {
            return Ok(None);
        }
        load_certificate(dir, NEXT_FILE).map(|certificate| Some(fingerprint(&certificate)))
    }

    /// Makes another certificate with a new key. The one that is shown stays.
    ///
    /// # Errors
    /// [`PkiError::NoCaKey`] on a witness; [`PkiError::Issue`], [`PkiError::Io`].
    pub(in crate::replication) fn prepare(&self, dir: &Path, now_unix_seconds: i64) -> Result<Fingerprint, PkiError> {
        let (ca, key) = (self.ca()?, JoinKey::make()?);
        let own = self.membership();
        let certificate = ca.sign(&key.request()?, (&own.cluster, own.member), now_unix_seconds)?;
        let text = format!("{}{}", pem_text("CERTIFICATE", &certificate), key.pem());
        Writer { dir }.pem(NEXT_FILE, &text)?;
        Ok(fingerprint(&certificate))
    }

    /// Lets the certificate that waits take the place of the one that is shown, for good and on every link from now on.
    ///
    /// # Errors
    /// [`PkiError::Damaged`], [`PkiError::Io`], [`PkiError::Issue`].
    pub(in crate::replication) fn install_next(dir: &Path, tls: &PeerTls) -> Result<PairPki, PkiError> {
        let (from, to) = (dir.join(NEXT_FILE), dir.join(MEMBER_FILE));
        fs::rename(&from, &to).map_err(PkiError::io("rename", &from))?;
        sync_dir(dir).map_err(PkiError::io("sync", dir))?;
        let gone = || PkiError::Damaged { path: to.clone(), reason: "the pair directory vanished".to_owned() };
        let renewed = PairPki::load(dir)?.ok_or_else(gone)?;
        if let PeerTls::Certificates(shown) = tls {
            shown.show(&renewed.ca, renewed.shown())?;
        }
        Ok(renewed)
    }
}
