//! The pair settings as this node knows them: the row in its state, and ahead of it the records in its log. Kept in a file
//! of their own, so that a node knows the others before it has opened its log, and a new one before it has any state.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prost::Message as _;

use crate::core::command::{Command, Envelope, UpdatePair};
use crate::core::entry::{Entry, EntryKind};
use crate::core::failover::{Member, Settings};
use crate::core::keys::Key;
use crate::core::pair;
use crate::core::rows::{PairMember, PairMemberKind, PairTimings};
use crate::core::view::ViewExt as _;
use crate::node::Node;
use crate::ops::durable_file::write_private;

/// The settings of one version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairSettings(pub crate::core::rows::Pair);

impl PairSettings {
    /// Reads them as they travel between members.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> std::io::Result<Self> {
        decode(bytes).map(Self)
    }

    /// Their bytes, as they travel between members.
    #[must_use]
    pub fn encode(&self) -> bytes::Bytes {
        self.0.encode_to_vec().into()
    }

    /// Counts the changes; 0: there is no pair.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.0.version
    }

    /// The member with this number.
    #[must_use]
    pub fn member(&self, number: Member) -> Option<&PairMember> {
        self.0.members.iter().find(|member| member.number == u32::from(number))
    }

    /// The other data node and the witness, as seen by `me`.
    #[must_use]
    pub fn others(&self, me: Member) -> (Option<Member>, Option<Member>) {
        let of = |kind: PairMemberKind| {
            let found = self.0.members.iter().find(|one| one.kind() == kind && one.number != u32::from(me));
            found.and_then(|one| Member::try_from(one.number).ok())
        };
        (of(PairMemberKind::Data), of(PairMemberKind::Witness))
    }

    /// Where the member can be reached, the main address first.
    #[must_use]
    pub fn addresses(&self, number: Member) -> Vec<String> {
        self.member(number).map(|member| member.addresses.clone()).unwrap_or_default()
    }

    /// How long a link on which something is said every heartbeat may be silent before it is given up and made anew: the
    /// network's delay comes on top. Shorter than the silence that calls for another active.
    #[must_use]
    pub fn unheard_max(&self) -> Duration {
        Duration::from_millis(u64::from(self.timings().fail_after_ms) * 2 / 3)
    }

    /// What clients are told: the addresses of all data nodes, in the order of their numbers.
    #[must_use]
    pub fn client_urls(&self) -> Vec<String> {
        let data = self.0.members.iter().filter(|member| member.kind() == PairMemberKind::Data);
        data.map(|member| member.client_url.clone()).filter(|url| !url.is_empty()).collect()
    }

    /// The address of an always-on host, if one is configured.
    #[must_use]
    pub fn reference(&self) -> Option<&str> {
        Some(self.0.reference.as_str()).filter(|address| !address.is_empty())
    }

    /// The level of commands that all members understand.
    #[must_use]
    pub fn level(&self) -> u32 {
        pair::level_of(&self.0)
    }

    /// What of it the protocol works with.
    #[must_use]
    pub fn protocol(&self) -> Settings {
        let timings = self.timings();
        Settings {
            heartbeat_ms: timings.heartbeat_ms.into(),
            fail_after_ms: timings.fail_after_ms.into(),
            solo_after_ms: timings.solo_after_ms.into(),
            lease_ms: timings.lease_ms.into(),
            promote_after_ms: timings.promote_after_ms.into(),
            auto_promote: self.0.auto_promote,
            reference: self.reference().is_some(),
            ..Settings::default()
        }
    }

    /// The timings.
    #[must_use]
    pub fn timings(&self) -> PairTimings {
        self.0.timings.unwrap_or(pair::TIMINGS_DEFAULT)
    }

    /// The command that changes nothing: to be changed where something is to change.
    #[must_use]
    pub fn to_update(&self) -> UpdatePair {
        UpdatePair {
            version: self.0.version,
            members: self.0.members.clone(),
            // A pair without a witness protects itself unless somebody decided otherwise.
            auto_promote: self.0.version == 0 || self.0.auto_promote,
            reference: self.0.reference.clone(),
            timings: Some(self.timings()),
            level_held: self.0.level_held,
        }
    }

    /// The settings after this change, if it is based on these.
    fn after(&self, update: UpdatePair) -> Option<Self> {
        (update.version == self.0.version).then(|| Self(pair::row_after(&self.0, &update)))
    }
}

/// The settings, and the file they are kept in. Written by the log thread and the driver, read by all.
pub struct SettingsCache {
    path: PathBuf,
    latest: ArcSwap<PairSettings>,
    /// Held while the file and `latest` change: the log thread, the driver and requests come to it at the same moment.
    writing: Mutex<()>,
}

impl SettingsCache {
    /// Reads the file in the pair directory; without one there is no pair.
    ///
    /// # Errors
    /// When it cannot be read or is damaged.
    pub fn open(pair_dir: &Path) -> std::io::Result<Self> {
        let path = pair_dir.join("settings.bin");
        let latest = match std::fs::read(&path) {
            Ok(bytes) => PairSettings(decode(&bytes)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => PairSettings::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, latest: ArcSwap::from_pointee(latest), writing: Mutex::new(()) })
    }

    /// The newest settings known.
    #[must_use]
    pub fn latest(&self) -> Arc<PairSettings> {
        self.latest.load_full()
    }

    /// Takes over what the state says when that is newer.
    ///
    /// # Errors
    /// When the state or the file fails.
    pub(super) fn refresh(&self, node: &Node) -> std::io::Result<Arc<PairSettings>> {
        let row = node.projection().row::<crate::core::rows::Pair>(Key::Pair).map_err(std::io::Error::other)?;
        if let Some(row) = row.filter(|row| row.version > self.latest.load().version()) {
            let _writing = self.writing.lock();
            if row.version > self.latest.load().version() {
                self.keep(PairSettings((*row).clone()))?;
            }
        }
        Ok(self.latest())
    }

    /// Takes over a change that is in the own log but not applied yet: who may acknowledge or vote follows the log, not
    /// the state. Returns whether it was one.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn note(&self, entry: &Entry) -> std::io::Result<bool> {
        if entry.kind != EntryKind::Command || !may_be_update(&entry.payload) {
            return Ok(false);
        }
        let Ok(Envelope { command: Some(Command::UpdatePair(update)), .. }) = Envelope::decode(entry.payload.clone())
        else {
            return Ok(false);
        };
        let _writing = self.writing.lock();
        match self.latest.load().after(update) {
            Some(settings) => self.keep(settings).map(|()| true),
            None => Ok(false),
        }
    }

    /// Keeps these settings: what a new member was told when it joined.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn put(&self, settings: PairSettings) -> std::io::Result<()> {
        let _writing = self.writing.lock();
        self.keep(settings)
    }

    fn keep(&self, settings: PairSettings) -> std::io::Result<()> {
        write_private(&self.path, &settings.0.encode_to_vec())?;
        self.latest.store(Arc::new(settings));
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> std::io::Result<crate::core::rows::Pair> {
    crate::core::rows::Pair::decode(bytes)
        .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidData, e.to_string()))
}

/// Whether a payload can be an `UpdatePair`, by the key of the field behind the actor: decoding every message that passes
/// would cost the log thread more than the rest of its work.
fn may_be_update(payload: &[u8]) -> bool {
    const ACTOR: u8 = 0x0a;
    const UPDATE_PAIR: [u8; 2] = [0x92, 0x03]; // field 50, length-delimited
    let rest = match payload {
        [ACTOR, length, rest @ ..] if *length < 0x80 => rest.get(usize::from(*length)..).unwrap_or_default(),
        // An actor of 128 bytes and more: rare enough to look closer.
        [ACTOR, ..] => return true,
        other => other,
    };
    rest.starts_with(&UPDATE_PAIR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::command::{Actor, SendMessage};

    #[test]
    fn an_update_is_told_from_a_message_by_its_first_bytes() {
        let update = Command::UpdatePair(UpdatePair::default());
        let send = Command::SendMessage(SendMessage { channel: 1, client_id: vec![7; 16].into(), body: "x".into() });
        for actor in [None, Some(Actor::operator()), Some(Actor { user: 5, session: 6, address: "10.0.0.1".into() })] {
            let payload =
                |command: &Command| Envelope { actor: actor.clone(), command: Some(command.clone()) }.encode_to_vec();
            assert!(may_be_update(&payload(&update)));
            assert!(!may_be_update(&payload(&send)));
        }
        let long = Actor { user: 5, session: 6, address: "x".repeat(200) };
        assert!(may_be_update(&Envelope { actor: Some(long), command: Some(update) }.encode_to_vec()));
        assert!(!may_be_update(&[]));
        assert!(!may_be_update(&[0x0a, 0x7f, 0x92]));
    }
}
