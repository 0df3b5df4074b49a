//! A place that fails when it is told to.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::backup::repository::Place;
use crate::backup::target::{Stored, TargetError};

/// Every operation from the n-th on fails: to the repository that is the same as a kill there.
pub(super) struct Failing {
    pub(super) inner: Arc<dyn Place>,
    pub(super) left: AtomicUsize,
}

impl Failing {
    fn step(&self, path: &str) -> Result<(), TargetError> {
        let taken = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        let broken = |_| TargetError::Unreachable { op: "use", path: path.to_owned(), cause: "killed".to_owned() };
        taken.map(drop).map_err(broken)
    }
}

impl Place for Failing {
    fn put(&self, path: &str, source: &mut dyn Read) -> Result<u64, TargetError> {
        self.step(path)?;
        self.inner.put(path, source)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, TargetError> {
        self.step(path)?;
        self.inner.open(path)
    }

    fn size(&self, path: &str) -> Result<Option<u64>, TargetError> {
        self.step(path)?;
        self.inner.size(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stored>, TargetError> {
        self.step(prefix)?;
        self.inner.list(prefix)
    }

    fn remove(&self, path: &str) -> Result<(), TargetError> {
        self.step(path)?;
        self.inner.remove(path)
    }

    fn settle(&self) -> Result<(), TargetError> {
        self.step("")?;
        self.inner.settle()
    }
}

/// Nothing is replaced or removed.
pub(super) struct AppendOnly {
    pub(super) inner: Arc<dyn Place>,
}

impl Place for AppendOnly {
    fn put(&self, path: &str, source: &mut dyn Read) -> Result<u64, TargetError> {
        if self.inner.size(path)?.is_some() {
            return Err(TargetError::Denied { op: "replace", path: path.to_owned(), cause: "append-only".to_owned() });
        }
        self.inner.put(path, source)
    }

    fn open(&self, path: &str) -> Result<Box<dyn Read + Send>, TargetError> {
        self.inner.open(path)
    }

    fn size(&self, path: &str) -> Result<Option<u64>, TargetError> {
        self.inner.size(path)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stored>, TargetError> {
        self.inner.list(prefix)
    }

    fn remove(&self, path: &str) -> Result<(), TargetError> {
        Err(TargetError::Denied { op: "remove", path: path.to_owned(), cause: "append-only".to_owned() })
    }

    fn settle(&self) -> Result<(), TargetError> {
        self.inner.settle()
    }
}
