//! What a repository needs of the place where it lies. [`Target`] is one; tests put failing ones in between.

use std::io::Read;

use super::super::target::{Stored, Target, TargetError};

/// Stores whole files under names. Its calls block; several threads may make them at once.
pub trait Place: Send + Sync {
    /// See [`Target::put`].
    ///
    /// # Errors
    /// [`TargetError`]; nothing new is under `path` then.
    fn put(&self, path: &str, source: &mut dyn Read) -> Result<u64, TargetError>;

    /// See [`Target::open`].
    ///
    /// # Errors
    /// [`TargetError`].
    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, TargetError>;

    /// See [`Target::size`].
    ///
    /// # Errors
    /// [`TargetError`].
    fn size(&self, path: &str) -> Result<Option<u64>, TargetError>;

    /// See [`Target::list`].
    ///
    /// # Errors
    /// [`TargetError`].
    fn list(&self, prefix: &str) -> Result<Vec<Stored>, TargetError>;

    /// See [`Target::remove`].
    ///
    /// # Errors
    /// [`TargetError`].
    fn remove(&self, path: &str) -> Result<(), TargetError>;

    /// See [`Target::settle`].
    ///
    /// # Errors
    /// [`TargetError`].
    fn settle(&self) -> Result<(), TargetError>;

    /// Reads a small file as a whole.
    ///
    /// # Errors
    /// As [`open`](Place::open); [`TargetError::TooLarge`] when it has more than `bytes_max` bytes.
    fn read(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, TargetError> {
        let mut bytes = Vec::new();
        self.open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(|source| TargetError::Io {
            op: "read",
            path: path.to_owned(),
            source,
        })?;
        if bytes.len() > bytes_max {
            return Err(TargetError::TooLarge { path: path.to_owned(), bytes_max });
        }
        Ok(bytes)
    }
}

impl Place for Target {
    fn put(&self, path: &str, source: &mut dyn Read) -> Result<u64, TargetError> {
        Self::put(self, path, source)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, TargetError> {
        Self::open(self, path)
    }

    fn size(&self, path: &str) -> Result<Option<u64>, TargetError> {
        Self::size(self, path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stored>, TargetError> {
        Self::list(self, prefix)
    }

    fn remove(&self, path: &str) -> Result<(), TargetError> {
        Self::remove(self, path)
    }

    fn settle(&self) -> Result<(), TargetError> {
        Self::settle(self)
    }
}
