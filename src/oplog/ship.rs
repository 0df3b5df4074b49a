//! Handing out the log as frames that another log can append, while it is written. Must never hand out what is not durable,
//! and never a frame whose checksum or place in the order does not hold.

use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::error::LogError;
use super::frame::{
    Depth, FrameDecoder, FrameEncoder, FrameHeader, FrameStyle, HEADER_BYTES, LogPosition, Tracker, erased_hashes,
};
use super::reader::{LogReader, Place, Stretch};
use crate::core::entry::Entry;
use crate::limits::LOG_APPEND_BYTES_MAX;

/// A piece of the log: whole frames, which go on after record `first - 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// The frames. Not more than one append of the receiver takes.
    pub frames: Bytes,
    /// Index of the first entry.
    pub first: u64,
    /// Index of the last entry.
    pub last: u64,
    /// Epoch of the last entry: number in the high 48 bits, node in the low 16.
    pub last_epoch: u64,
}

/// Hands out the log from one index on, and goes on as more becomes durable. Keeps one segment open, and no bytes of it.
///
/// - What it hands out joins without gaps or overlaps.
/// - It hands out durable frames only, as they are stored; only the first one may be a part of a stored frame, encoded anew.
/// - After an error it stands where it stood.
pub struct Shipments {
    reader: LogReader,
    /// Index of the first entry that was not handed out.
    next: u64,
    /// No entry from `next` on has a lower epoch.
    epoch: u64,
    /// The frame that holds `next`; `None` or in an earlier segment before anybody looked.
    place: Option<Place>,
    decoder: FrameDecoder,
}

impl LogReader {
    /// Hands out the log from `index` on as frames. `index` may be one beyond the end.
    ///
    /// # Errors
    /// [`LogError::NotInLog`] when `index` was trimmed or is further beyond the end; otherwise what is wrong on disk.
    pub fn shipments_from(&self, index: u64) -> Result<Shipments, LogError> {
        let last = self.last_durable_index();
        if self.stretch_of(index)?.is_none() && index > last + 1 {
            return Err(LogError::NotInLog { wanted: index, first: self.first_index(), last });
        }
        let decoder = FrameDecoder::new(Depth::Chain)
            .map_err(|e| LogError::io("start decompressor for", Path::new("log shipping"), e))?;
        Ok(Shipments { reader: self.clone(), next: index, epoch: 0, place: None, decoder })
    }
}

impl Shipments {
    /// The next frames, `bytes_max` bytes at most, but at least one frame (4 MiB at most) and all of one segment; `None`
    /// when everything durable was handed out: cheap, to be asked again when there is more.
    ///
    /// # Errors
    /// [`LogError::NotInLog`] when what comes next was trimmed; otherwise what is wrong on disk.
    pub fn next_batch(&mut self, bytes_max: usize) -> Result<Option<Shipment>, LogError> {
        let Some(stretch) = self.reader.stretch_of(self.next)? else { return Ok(None) };
        if self.place.as_ref().is_none_or(|place| place.name.first_index != stretch.first_index) {
            self.place = self.reader.locate(self.next)?;
        }
        let Some(place) = &self.place else { return Ok(None) };
        let (shipment, stored_bytes) = if place.before.index + 1 < self.next {
            rest_of_frame(place, &stretch, (self.next, &mut self.decoder))?
        } else {
            let lowest_epoch = self.epoch.max(stretch.epoch_before);
            whole_frames(place, &stretch, bytes_max)?.shipment(place, &stretch, (lowest_epoch, &mut self.decoder))?
        };
        if let Some(place) = &mut self.place {
            place.offset += stored_bytes;
            place.before.index = shipment.last;
        }
        self.next = shipment.last + 1;
        self.epoch = shipment.last_epoch;
        Ok(Some(shipment))
    }

    /// Index of the next entry to be handed out.
    #[must_use]
    pub const fn next_index(&self) -> u64 {
        self.next
    }
}

impl Place {
    fn corrupt(&self, what: impl Into<String>) -> LogError {
        LogError::corrupt(&self.name.path, self.offset, self.before.index + 1, what)
    }

    /// `count` bytes from the place on.
    fn read(&self, count: usize) -> Result<Vec<u8>, LogError> {
        let mut bytes = vec![0; count];
        self.file.read_exact_at(&mut bytes, self.offset).map_err(|e| LogError::io("read", &self.name.path, e))?;
        Ok(bytes)
    }

    /// Durable bytes from the place on: of `bytes_max` at most, but the whole of the frame there.
    fn read_frames(&self, stretch: &Stretch, bytes_max: usize) -> Result<Vec<u8>, LogError> {
        let left = stretch.frames_end.saturating_sub(self.offset);
        let wanted = (bytes_max.clamp(HEADER_BYTES, LOG_APPEND_BYTES_MAX) as u64).min(left);
        let bytes = self.read(wanted as usize)?;
        let first = FrameHeader::parse(&bytes).map_err(|what| self.corrupt(what))?;
        if first.length as u64 > left {
            return Err(self.corrupt("a frame goes beyond the end of its segment"));
        }
        if first.length <= bytes.len() { Ok(bytes) } else { self.read(first.length) }
    }
}

/// The entries from `next` on of the frame at `place`, as a frame of their own; with the bytes that the frame takes on disk.
fn rest_of_frame(
    place: &Place,
    stretch: &Stretch,
    (next, decoder): (u64, &mut FrameDecoder),
) -> Result<(Shipment, u64), LogError> {
    let bytes = place.read_frames(stretch, 0)?;
    let (header, frame) = FrameHeader::parse_whole(&bytes).map_err(|what| place.corrupt(what))?;
    let mut tracker = Tracker::new(place.before);
    let mut verified = decoder.decode(&header, frame, &mut tracker).map_err(|what| place.corrupt(what))?;
    let Some(skipped) = usize::try_from(next - header.first_index).ok().filter(|skipped| *skipped < verified.len())
    else {
        return Err(place.corrupt(format!("the frame does not hold index {next}")));
    };
    let rest = verified.split_off(skipped);
    let before = verified.last().map_or(place.before, |last| LogPosition {
        index: last.entry.index,
        epoch: last.entry.epoch,
        chain: last.chain,
        ..LogPosition::default()
    });
    let erased = erased_hashes(&rest);
    let entries: Vec<Entry> = rest.into_iter().map(|item| item.entry).collect();
    let mut encoder = FrameEncoder::new().map_err(|e| LogError::io("start compressor for", &place.name.path, e))?;
    encoder.encode(&entries, FrameStyle { continues: false, erased: &erased }, &mut Tracker::new(before))?;
    let last_epoch = entries.last().map_or(before.epoch, |entry| entry.epoch);
    let shipment = Shipment { frames: encoder.take(), first: next, last: header.last_index(), last_epoch };
    Ok((shipment, header.length as u64))
}

/// Frames as they are stored, their checksums verified.
struct Stored {
    bytes: Vec<u8>,
    last: FrameHeader,
    /// Where the last frame begins in them.
    last_at: usize,
}

fn whole_frames(place: &Place, stretch: &Stretch, bytes_max: usize) -> Result<Stored, LogError> {
    let mut bytes = place.read_frames(stretch, bytes_max)?;
    let (mut end, mut append_bytes, mut last) = (0, 0, None);
    let mut next = place.before.index + 1;
    while let Some(header) = whole_frame_at(&bytes[end..]) {
        append_bytes += header.append_bytes();
        if append_bytes > LOG_APPEND_BYTES_MAX {
            break;
        }
        let at = |what: &str| LogError::corrupt(&place.name.path, place.offset + end as u64, next, what);
        let (header, frame) = FrameHeader::parse_whole(&bytes[end..]).map_err(at)?;
        if header.first_index != next {
            return Err(at(&format!("the frame starts at index {}, expected is {next}", header.first_index)));
        }
        next = header.last_index() + 1;
        let start = end;
        end += frame.len();
        last = Some((header, start));
    }
    let Some((last, last_at)) = last else { return Err(place.corrupt("there is no frame")) };
    bytes.truncate(end);
    Ok(Stored { bytes, last, last_at })
}

/// The header of the frame at the start of `bytes`, if the whole frame is in them. What is no frame at all is told when it
/// comes first: see `Place::read_frames`.
fn whole_frame_at(bytes: &[u8]) -> Option<FrameHeader> {
    FrameHeader::parse(bytes).ok().filter(|header| header.length <= bytes.len())
}

impl Stored {
    /// `lowest_epoch`: no entry here has a lower one.
    fn shipment(
        self,
        place: &Place,
        stretch: &Stretch,
        (lowest_epoch, decoder): (u64, &mut FrameDecoder),
    ) -> Result<(Shipment, u64), LogError> {
        let last = self.last.last_index();
        // Epochs never fall along the log: where both ends have the same one, nothing needs to be unpacked to know it.
        let last_epoch = if lowest_epoch == stretch.after.epoch || last == stretch.after.index {
            stretch.after.epoch
        } else {
            let frame = &self.bytes[self.last_at..];
            decoder.last_epoch(&self.last, frame).map_err(|what| place.corrupt(what))?
        };
        let stored_bytes = self.bytes.len() as u64;
        let shipment = Shipment { frames: Bytes::from(self.bytes), first: place.before.index + 1, last, last_epoch };
        Ok((shipment, stored_bytes))
    }
}
