//! Taking in frames that another node sent. Must never write a byte of them before all of them verified, and never let what
//! a peer sent stop this node's writer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::error::LogError;
use super::frame::{FLAG_CONTINUES, FrameDecoder, FrameHeader, Tracker, Verified, set_continues};
use super::writer::{Appended, FrameStarts, LogWriter};
use crate::core::entry::Entry;
use crate::limits::{LOG_APPEND_BYTES_MAX, LOG_ORIGINS_MAX, LOG_PAYLOAD_BYTES_MAX};

/// What was taken in by one append.
#[derive(Clone, Debug)]
pub struct ReceivedAppend {
    /// The entries, each verified and durable, in order. Their payloads share the memory of their frames' bodies.
    pub entries: Vec<Entry>,
    /// The write.
    pub appended: Appended,
}

/// What a batch of frames says of itself, unverified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSummary {
    /// How many frames.
    pub frames: usize,
    /// Index of its first entry.
    pub first: u64,
    /// Index of its last entry.
    pub last: u64,
    /// What it counts towards `LOG_APPEND_BYTES_MAX` of one [`LogWriter::append_received`], in bytes.
    pub append_bytes: usize,
}

/// Reads the frame headers of a batch, to tell whether it is wanted and what fits into one append. Checks that the frames
/// are whole and their indexes follow one another; nothing else.
///
/// # Errors
/// [`LogError::BadShipment`] when these are no frames, or none at all.
pub fn summarize(batch: &[u8]) -> Result<BatchSummary, LogError> {
    let mut summary = BatchSummary { frames: 0, first: 0, last: 0, append_bytes: 0 };
    let mut rest = batch;
    while summary.frames == 0 || !rest.is_empty() {
        let bad = |what: &str| LogError::BadShipment { index: summary.last + 1, what: what.to_owned() };
        let header = FrameHeader::parse(rest).map_err(bad)?;
        if summary.frames > 0 && header.first_index != summary.last + 1 {
            return Err(bad("the indexes of its frames do not follow one another"));
        }
        rest = rest.get(header.length..).ok_or_else(|| bad("the bytes end inside a frame"))?;
        summary = BatchSummary {
            frames: summary.frames + 1,
            first: if summary.frames == 0 { header.first_index } else { summary.first },
            last: header.last_index(),
            append_bytes: summary.append_bytes.saturating_add(header.append_bytes()),
        };
    }
    Ok(summary)
}

impl LogWriter {
    /// Appends frames of another node's log (`Shipment::frames`), several batches as one write and one fdatasync. They must
    /// go on exactly where this log ends: the caller leaves out batches that it has already. Everything is verified first:
    /// checksums, bounds, order, every payload's hash and the chain, against this log's own end.
    ///
    /// # Errors
    /// [`LogError::BadShipment`]: nothing was written, and the writer goes on as before. Otherwise as [`LogWriter::append`].
    pub fn append_received(&mut self, batches: &[Bytes]) -> Result<ReceivedAppend, LogError> {
        self.guarded(|writer| {
            let verified = Received::verify(batches, &writer.tracker, &mut writer.decoder)?;
            if verified.starts.is_empty() {
                let appended = Appended { frames: Bytes::new(), fsync: Duration::ZERO, after: writer.tracker.at };
                return Ok(ReceivedAppend { entries: Vec::new(), appended });
            }
            let frames = verified.one_write(batches);
            let appended = writer.write(frames, &verified.starts, verified.after)?;
            Ok(ReceivedAppend { entries: verified.entries, appended })
        })
    }
}

/// Batches that verified.
struct Received {
    entries: Vec<Entry>,
    /// The frames of all batches, as offsets into their bytes put one behind the other.
    starts: FrameStarts,
    after: Tracker,
    /// Every frame but the first is marked as continuing the write already.
    marked: bool,
}

impl Received {
    fn verify(batches: &[Bytes], tracker: &Tracker, decoder: &mut FrameDecoder) -> Result<Self, LogError> {
        let mut received = Self { entries: Vec::new(), starts: Vec::new(), after: tracker.clone(), marked: true };
        let (mut offset, mut append_bytes) = (0, 0_usize);
        for batch in batches {
            let mut rest = &batch[..];
            while !rest.is_empty() {
                let index = received.after.at.index + 1;
                let bad = |what: String| LogError::BadShipment { index, what };
                let (header, frame) = FrameHeader::parse_whole(rest).map_err(|what| bad(what.to_owned()))?;
                append_bytes = append_bytes.saturating_add(header.append_bytes());
                if append_bytes > LOG_APPEND_BYTES_MAX {
                    return Err(bad("this is more than one append takes".to_owned()));
                }
                received.frame(offset, (&header, frame), decoder).map_err(bad)?;
                offset += header.length;
                rest = &rest[header.length..];
            }
        }
        Ok(received)
    }

    fn frame(
        &mut self,
        offset: usize,
        (header, frame): (&FrameHeader, &[u8]),
        decoder: &mut FrameDecoder,
    ) -> Result<(), String> {
        let before = self.after.at;
        let entries = decoder.decode(header, frame, &mut self.after)?;
        if self.after.origins() > LOG_ORIGINS_MAX {
            return Err("its entries come from more nodes than there can be".to_owned());
        }
        self.marked &= (header.flags & FLAG_CONTINUES != 0) != self.starts.is_empty();
        self.starts.push((offset, before));
        self.entries.reserve(entries.len());
        for Verified { entry, .. } in entries {
            if entry.payload.len() > LOG_PAYLOAD_BYTES_MAX {
                return Err(format!("the payload of entry {} is larger than the log takes", entry.index));
            }
            self.entries.push(entry);
        }
        Ok(())
    }

    /// The bytes to write: the frames as they came, but marked as what they become here: the first one begins a write, all
    /// others continue it. Recovery must see this node's writes, not the sender's.
    fn one_write(&self, batches: &[Bytes]) -> Bytes {
        let mut filled = batches.iter().filter(|batch| !batch.is_empty());
        if self.marked
            && let (Some(only), None) = (filled.next(), filled.next())
        {
            return only.clone();
        }
        let mut out = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
        batches.iter().for_each(|batch| out.extend_from_slice(batch));
        for (number, (offset, _)) in self.starts.iter().enumerate() {
            let end = self.starts.get(number + 1).map_or(out.len(), |(next, _)| *next);
            set_continues(&mut out[*offset..end], number > 0);
        }
        out.freeze()
    }
}
