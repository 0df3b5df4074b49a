//! Attachments as a content-addressed store: `blobs/ab/cd/<blake3 hex>`. Synchronous: call it from blocking threads.
//!
//! A blob is durable (file and directory synced) before its hash is returned, so the log may refer to it. Must never serve a
//! blob that does not match its name: it is set aside under another name and reported.

mod hash;
mod store;

pub use hash::BlobHash;
pub use store::{BlobEntry, BlobError, BlobReader, BlobStore, BlobWriter, StoredBlob};
