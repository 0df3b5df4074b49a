//! Format 1, byte by byte: what is on customers' disks can be read for ever. And erased payloads.

use super::frame::{Depth, FrameDecoder, FrameEncoder, FrameHeader, FrameStyle, Tracker};
use super::segment::{SegmentFooter, SegmentHeader, SegmentName};
use super::*;

/// A sealed segment of format 1, written by version "0.1.0": one frame for each entry, all stored raw.
const GOLDEN_RAW: &str = include_str!("fixtures/segment-v1-raw.hex");
/// The same with longer payloads and its second frame compressed. Only read: another zstd may pack differently.
const GOLDEN_ZSTD: &str = include_str!("fixtures/segment-v1-zstd.hex");

/// The entries of the golden segments; the second one's text is repeated.
fn golden_entries(repeat: usize) -> Vec<Entry> {
    let base = Entry {
        index: 1,
        epoch: (1 << 16) | 1,
        hlc: Hlc(0x0190_0000_0000_0000),
        origin: Origin { site: 0, node: 1 },
        kind: EntryKind::EpochStarted,
        payload: Bytes::new(),
        erased: false,
    };
    let text = Bytes::from("the quick brown fox. ".repeat(repeat));
    vec![
        base.clone(),
        Entry { index: 2, hlc: Hlc(base.hlc.0 + 1), kind: EntryKind::Command, payload: text, ..base.clone() },
        Entry {
            index: 3,
            epoch: (2 << 16) | 2,
            hlc: Hlc(base.hlc.0 - 5),
            origin: Origin { site: 1, node: 1023 },
            kind: EntryKind::StateHash,
            payload: Bytes::from_static(&[0xab; 12]),
            erased: false,
        },
    ]
}

fn golden_bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    data_encoding::HEXLOWER.decode(&digits).unwrap()
}

/// The segment with these frames as this build writes it, but with the header of version "0.1.0".
fn written_now(frames: &[&[Entry]]) -> Vec<u8> {
    let mut writer = [0; 16];
    writer[..5].copy_from_slice(b"0.1.0");
    let header = SegmentHeader { writer, cluster: CLUSTER, before: LogPosition::default() };
    let mut bytes = header.encode();
    let (mut tracker, mut points) = (Tracker::default(), Vec::new());
    let mut encoder = FrameEncoder::new().unwrap();
    for batch in frames {
        scan::add_point(&mut points, bytes.len() as u64, &tracker.at);
        encoder.encode(batch, FrameStyle::default(), &mut tracker).unwrap();
        bytes.extend(encoder.take());
    }
    let footer = SegmentFooter { entries: tracker.at.index, after: tracker.at, offset: bytes.len() as u64, points };
    bytes.extend(footer.encode());
    bytes
}

#[test]
fn format_1_is_pinned() {
    let all = golden_entries(1);
    let now = written_now(&[&all[..1], &all[1..2], &all[2..]]);
    let (now, golden) = (data_encoding::HEXLOWER.encode(&now), golden_bytes(GOLDEN_RAW));
    assert_eq!(data_encoding::HEXLOWER.encode(&golden), now, "the format changed: it needs a new number");
}

#[test]
fn segments_of_format_1_are_read() {
    for (golden, repeat, frames) in [(GOLDEN_RAW, 1, 3), (GOLDEN_ZSTD, 9, 2)] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(SegmentName::new(dir.path(), 1).path, golden_bytes(golden)).unwrap();
        let report = verified(dir.path());
        assert!(report.is_clean(), "{:?}", report.findings);
        assert_eq!((report.frames, report.entries), (frames, 3));
        let (writer, _) = open(dir.path());
        assert_eq!(read_all(&writer.reader()), golden_entries(repeat));
        assert_eq!((writer.last_epoch(), writer.last_hlc()), ((2 << 16) | 2, Hlc(0x0190_0000_0000_0001)));
    }
}

/// The chain as the document defines it, computed without the module's code.
#[test]
fn the_chain_is_what_the_document_says() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&golden_entries(9)).unwrap();
    let mut chain = [0_u8; 32];
    for entry in golden_entries(9) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&chain).update(&entry.index.to_le_bytes()).update(&entry.epoch.to_le_bytes());
        hasher.update(&entry.hlc.0.to_le_bytes()).update(&entry.origin.site.to_le_bytes());
        hasher.update(&entry.origin.node.to_le_bytes()).update(&[entry.kind as u8]);
        hasher.update(blake3::hash(&entry.payload).as_bytes());
        chain = *hasher.finalize().as_bytes();
        assert_eq!(writer.reader().chain_hash_at(entry.index).unwrap(), chain);
    }
    assert_eq!(writer.chain_hash(), chain);
}

#[test]
fn an_erased_payload_keeps_the_chain() {
    let all = entries(1..=3, 100);
    let mut encoder = FrameEncoder::new().unwrap();
    let mut kept = Tracker::default();
    encoder.encode(&all, FrameStyle::default(), &mut kept).unwrap();
    let before = encoder.take();

    let hash = *blake3::hash(&all[1].payload).as_bytes();
    let mut erased = all.clone();
    erased[1] = Entry { payload: Bytes::new(), erased: true, ..erased[1].clone() };
    let mut rewritten = Tracker::default();
    let style = FrameStyle { erased: &[(2, hash)], ..FrameStyle::default() };
    encoder.encode(&erased, style, &mut rewritten).unwrap();
    let after = encoder.take();
    assert_eq!(kept.at, rewritten.at, "the same chain hash with and without the payload");
    assert!(after.len() < before.len());

    let (header, frame) = FrameHeader::parse_whole(&after).unwrap();
    let mut tracker = Tracker::default();
    let decoded = FrameDecoder::new(Depth::Chain).unwrap().decode(&header, frame, &mut tracker).unwrap();
    assert_eq!(decoded.into_iter().map(|verified| verified.entry).collect::<Vec<_>>(), erased);
    assert_eq!(tracker.at, kept.at);

    // The same in a real segment: it opens, verifies and reads.
    let dir = tempfile::tempdir().unwrap();
    let header = SegmentHeader::new(CLUSTER, LogPosition::default()).encode();
    std::fs::write(SegmentName::new(dir.path(), 1).path, [&header[..], &after].concat()).unwrap();
    assert!(verified(dir.path()).is_clean());
    let (mut writer, _) = open(dir.path());
    writer.append(&[entry(4, 10)]).unwrap();
    assert_eq!(read_all(&writer.reader())[..3], erased);

    // A wrong hash in its place does not verify.
    let style = FrameStyle { erased: &[(2, [1; 32])], ..FrameStyle::default() };
    let mut forged = Tracker::default();
    encoder.encode(&erased, style, &mut forged).unwrap();
    assert_ne!(forged.at.chain, kept.at.chain);
}
