//! The durable state of a member: one small file in the pair directory, replaced as a whole and synced. One that is there
//! but cannot be read is an error, never an empty state: the member would vote twice in one epoch.

use std::path::{Path, PathBuf};

use crate::core::failover::{Durable, Unreadable, WitnessDurable};
use crate::ops::durable_file::{create_private_dir, write_private};

/// Where the state is.
pub(super) struct DurableFile {
    path: PathBuf,
}

impl DurableFile {
    /// The file in the pair directory, which is made if it is not there.
    pub(super) fn at(pair_dir: &Path) -> std::io::Result<Self> {
        create_private_dir(pair_dir)?;
        Ok(Self { path: pair_dir.join("durable.bin") })
    }

    /// Gives a member that has just joined an empty state: under its new number it has voted for nobody. One that has none
    /// at all later has lost it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(pair_dir: &Path) -> std::io::Result<()> {
        Self::at(pair_dir)?.save(&Durable::default())
    }

    /// The data node's state; `None` when it never had one.
    pub(super) fn load(&self) -> std::io::Result<Option<Durable>> {
        self.read()?.map(|bytes| Durable::from_bytes(&bytes).map_err(|e| self.unreadable(e))).transpose()
    }

    /// The witness's state; `None` when it never had one.
    pub(super) fn load_witness(&self) -> std::io::Result<Option<WitnessDurable>> {
        self.read()?.map(|bytes| WitnessDurable::from_bytes(&bytes).map_err(|e| self.unreadable(e))).transpose()
    }

    /// Replaces the state; it is durable when this returns.
    pub(super) fn save(&self, state: &Durable) -> std::io::Result<()> {
        write_private(&self.path, &state.to_bytes())
    }

    /// The same for a witness.
    pub(super) fn save_witness(&self, state: &WitnessDurable) -> std::io::Result<()> {
        write_private(&self.path, &state.to_bytes())
    }

    fn read(&self) -> std::io::Result<Option<Vec<u8>>> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn unreadable(&self, error: Unreadable) -> std::io::Error {
        let text = format!(
            "{}: {error} ({}). This node has lost its memory of votes: let it join again under a new number",
            self.path.display(),
            error.code()
        );
        std::io::Error::new(std::io::ErrorKind::InvalidData, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::failover::Epoch;

    #[test]
    fn a_state_comes_back_as_it_was_and_damage_is_no_empty_state() {
        let dir = tempfile::tempdir().unwrap();
        let file = DurableFile::at(&dir.path().join("pair")).unwrap();
        assert_eq!(file.load().unwrap(), None);
        let state = Durable { epoch: Epoch::new(7, 2), was_active: true, ..Durable::default() };
        file.save(&state).unwrap();
        assert_eq!(file.load().unwrap(), Some(state));
        assert!(file.load_witness().is_err(), "it is a data node's");
        std::fs::write(&file.path, b"").unwrap();
        let error = file.load().unwrap_err();
        assert!(error.to_string().contains("join again"), "{error}");
    }
}
