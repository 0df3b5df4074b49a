//! The operation log: segment files, the writer (group commit), readers, recovery, verify. The truth; everything else is derived. Must never retry a failed fsync.
