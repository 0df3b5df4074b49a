//! The operation log: segment files, the writer (group commit), readers, recovery, verify. The truth; everything else is
//! derived. Also what replication needs of it: handing frames out, taking them in, cutting a diverged tail, archives.
//! `DESIGN.md` beside this file describes the format and why it is so.
//!
//! Must never retry a failed write or fsync, never change a sealed segment (but to cut it, with the writer gone), never skip
//! a record it cannot verify, and never cut anything that could have been acknowledged, unless it is told where.

mod archive;
mod cut;
mod describe;
mod disk;
mod error;
mod export;
mod frame;
mod reader;
mod receive;
mod recovery;
mod scan;
mod segment;
mod ship;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use archive::{ArchiveHeader, ArchiveReader, archive_tail, read_archive};
pub use cut::{CutReport, cut_after};
pub use describe::describe;
pub use error::{LogError, RepairPlace};
pub use export::Exported;
pub use frame::LogPosition;
pub use reader::{EntryIter, LogReader, RecordPosition, dump};
pub use receive::{BatchSummary, ReceivedAppend, summarize};
pub use recovery::{CutTail, RecoveryReport};
pub use segment::SegmentInfo;
pub use ship::{Shipment, Shipments};
pub use verify::{Finding, Progress, VerifyReport, verify};
pub use writer::{Appended, LogOptions, LogWriter};
