//! The operation log: segment files, the writer (group commit), readers, recovery, verify. The truth; everything else is
//! derived. `DESIGN.md` beside this file describes the format and why it is so.
//!
//! Must never retry a failed write or fsync, never change a sealed segment, never skip a record it cannot verify, and never
//! cut anything that could have been acknowledged.

mod describe;
mod disk;
mod error;
mod frame;
mod reader;
mod recovery;
mod scan;
mod segment;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use describe::describe;
pub use error::{LogError, RepairPlace};
pub use frame::LogPosition;
pub use reader::{EntryIter, LogReader, dump};
pub use recovery::{CutTail, RecoveryReport};
pub use segment::SegmentInfo;
pub use verify::{Finding, Progress, VerifyReport, verify};
pub use writer::{Appended, LogOptions, LogWriter};
