//! Archives of a diverged tail: every record comes back as it was, and no changed line passes.

use std::io::Write as _;

use proptest::prelude::*;
use prost::Message as _;

use super::frame::{FrameEncoder, FrameStyle, Tracker};
use super::ship::{batches, build};
use super::*;
use crate::core::command::{Actor, Command, Envelope, SetPassword, StateHashRecord};
use crate::limits::{LOG_ARCHIVE_LINE_BYTES_MAX, LOG_PAYLOAD_BYTES_MAX};

fn archived(reader: &LogReader, from: u64) -> (Vec<u8>, ArchiveHeader) {
    let mut out = Vec::new();
    let header = archive_tail(reader, from, &mut out).unwrap();
    (out, header)
}

/// Reads an archive back: its header, the records before the first error, and that.
fn read_back(bytes: &[u8]) -> Result<(ArchiveHeader, Vec<Entry>, Option<LogError>), LogError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let mut reader = read_archive(file.path())?;
    let (mut entries, mut failed) = (Vec::new(), None);
    for item in reader.by_ref() {
        match item {
            Ok(entry) => entries.push(entry),
            Err(error) => failed = Some(error),
        }
    }
    assert!(reader.next().is_none());
    Ok((*reader.header(), entries, failed))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn every_record_comes_back_as_it_was(batches in batches(20)) {
        let dir = tempfile::tempdir().unwrap();
        let (reader, all) = build(dir.path(), &batches);
        for from in (1..=all.len() as u64 + 1).step_by(3) {
            let (bytes, header) = archived(&reader, from);
            prop_assert_eq!((header.cluster, header.fork, header.last), (CLUSTER, from, all.len() as u64));
            prop_assert_eq!(header.before, reader.position_at(from - 1).unwrap());
            let (read, entries, failed) = read_back(&bytes).unwrap();
            prop_assert!(failed.is_none(), "{:?}", failed);
            prop_assert_eq!(read, header);
            prop_assert_eq!(&entries[..], &all[from as usize - 1..]);
        }
        prop_assert_eq!(archive_tail(&reader, 0, &mut Vec::new()).unwrap_err().code(), "log_index_not_present");
        let beyond = all.len() as u64 + 2;
        prop_assert_eq!(archive_tail(&reader, beyond, &mut Vec::new()).unwrap_err().code(), "log_index_not_present");
    }
}

/// Records of every kind, one of them erased, with payloads that decode.
fn of_every_kind() -> (TempDir, LogWriter, Vec<Entry>) {
    let envelope = Envelope {
        actor: Some(Actor { user: 77, address: "10.0.0.9".to_owned(), ..Actor::default() }),
        command: Some(Command::SetPassword(SetPassword {
            user: 7,
            password_hash: "$argon2id$hash".to_owned(),
            keep_session: 0,
            must_change: true,
        })),
    };
    let hash = StateHashRecord { index: 1, hash: Bytes::from(vec![0xab; 32]) };
    let at = |index: u64| Entry { hlc: Hlc((1_790_000_000_123 + index) << 16), ..entry(index, 50) };
    let all = vec![
        Entry { kind: EntryKind::EpochStarted, payload: Bytes::new(), ..at(1) },
        Entry { payload: Bytes::from(envelope.encode_to_vec()), ..at(2) },
        Entry { kind: EntryKind::StateHash, payload: Bytes::from(hash.encode_to_vec()), ..at(3) },
        Entry { payload: Bytes::new(), erased: true, ..at(4) },
        Entry { payload: Bytes::from(vec![0xff; LOG_PAYLOAD_BYTES_MAX]), ..at(5) },
        Entry { payload: long_command(), ..at(6) },
    ];
    let mut encoder = FrameEncoder::new().unwrap();
    let style = FrameStyle { continues: false, erased: &[(4, *blake3::hash(b"it was this").as_bytes())] };
    encoder.encode(&all, style, &mut Tracker::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append_received(&[encoder.take()]).unwrap();
    (dir, writer, all)
}

/// A command as long as a record can be, of characters that take the most room when they are shown.
fn long_command() -> Bytes {
    let long = SetPassword { password_hash: String::new(), ..SetPassword::default() };
    let text = "\"\u{1}".repeat(LOG_PAYLOAD_BYTES_MAX / 2 - 40);
    let actor = Actor { address: text, ..Actor::default() };
    let envelope = Envelope { actor: Some(actor), command: Some(Command::SetPassword(long)) };
    Bytes::from(envelope.encode_to_vec())
}

#[test]
fn an_archive_is_readable() {
    let (_dir, writer, all) = of_every_kind();
    let (bytes, _) = archived(&writer.reader(), 1);
    let lines: Vec<serde_json::Value> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert_eq!((lines[0]["format"].as_str(), lines[0]["fork"].as_u64()), (Some("holdfast-log-archive"), Some(1)));
    assert_eq!(lines[0]["cluster"], data_encoding::HEXLOWER.encode(&CLUSTER));
    assert_eq!((lines[1]["kind"].as_str(), lines[1]["epoch"].as_u64()), (Some("epoch_started"), Some(1)));
    assert_eq!(lines[2]["at"], "2026-09-21T14:13:20.125Z");
    assert_eq!(lines[2]["at_ms"], 1_790_000_000_125_u64);
    assert_eq!(lines[2]["payload"]["actor"], "77");
    let command = lines[2]["payload"]["command"].as_str().unwrap();
    assert!(command.contains("SetPassword") && command.contains("[redacted]"), "{command}");
    assert_eq!(lines[3]["payload"]["hash"], "ab".repeat(32));
    assert_eq!((lines[4]["erased"].as_bool(), lines[4]["payload"].is_null()), (Some(true), true));
    assert!(lines[5]["payload"]["undecodable"].is_string());
    assert!(lines[6]["payload"]["beginning"].as_str().unwrap().len() <= 64 << 10);
    assert_eq!(lines[6]["chain"], data_encoding::HEXLOWER.encode(&writer.chain_hash()));
    assert!(bytes.split(|byte| *byte == b'\n').all(|line| line.len() < LOG_ARCHIVE_LINE_BYTES_MAX));
    let (_, entries, failed) = read_back(&bytes).unwrap();
    assert!(failed.is_none() && entries == all, "{failed:?}");
}

#[test]
fn a_changed_record_does_not_pass() {
    let (_dir, writer, all) = of_every_kind();
    let bytes = archived(&writer.reader(), 1).0;
    let text = String::from_utf8(bytes).unwrap();
    let lines: Vec<&str> = text.lines().take(5).collect();
    let exact = ["index", "epoch", "epoch_node", "hlc", "site", "node", "kind", "erased", "chain", "payload_base64"];
    for (number, line) in lines.iter().enumerate().skip(1) {
        for field in exact.iter().chain(&["payload_hash"]) {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            record[*field] = match &record[*field] {
                serde_json::Value::Number(n) => (n.as_u64().unwrap() + 1).into(),
                serde_json::Value::Bool(flag) => (!flag).into(),
                serde_json::Value::String(text) if *field == "kind" && text == "command" => "state_hash".into(),
                serde_json::Value::String(text) if *field == "hlc" => format!("{text}1").into(),
                serde_json::Value::String(text) if text.starts_with('A') => format!("B{}", &text[1..]).into(),
                serde_json::Value::String(text) if text.starts_with('0') => format!("1{}", &text[1..]).into(),
                serde_json::Value::String(text) if text.is_empty() => "QUJD".into(),
                serde_json::Value::String(text) => format!("0{}", &text[1..]).into(),
                _ => "00".repeat(32).into(),
            };
            let changed = text.replace(line, &record.to_string());
            assert_ne!(changed, text);
            let (_, entries, failed) = read_back(changed.as_bytes()).unwrap();
            let Some(LogError::BadArchive { line: bad, .. }) = failed else { panic!("{field} of line {number}") };
            assert_eq!((bad, &entries[..]), (number as u64 + 1, &all[..number - 1]), "{field}");
        }
    }
}

#[test]
fn an_archive_that_is_not_whole_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 3);
    let bytes = archived(&open(dir.path()).0.reader(), 4).0;
    let first = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for end in 0..bytes.len() {
        match read_back(&bytes[..end]) {
            Err(error) => assert!(end < first && error.code() == "log_archive_damaged", "byte {end}: {error}"),
            Ok((_, entries, failed)) => {
                assert_eq!(failed.unwrap().code(), "log_archive_damaged", "byte {end}");
                assert!(end >= first && entries[..] == all[3..3 + entries.len()]);
            }
        }
    }
    let failure = |bytes: &[u8]| match read_back(bytes) {
        Err(error) => error.to_string(),
        Ok((_, _, failed)) => failed.unwrap().to_string(),
    };
    let twice = [&bytes[..], &bytes[first..]].concat();
    assert!(failure(&twice).contains("more behind its last record"));
    let mut long = bytes[..first].to_vec();
    long.resize(first + LOG_ARCHIVE_LINE_BYTES_MAX + 5, b' ');
    assert!(failure(&long).contains("longer than any line"));
    assert!(failure(b"{\"format\":\"x\"}\n").contains("no archive of records"));
    let other = String::from_utf8(bytes.clone()).unwrap().replacen("\"version\":1", "\"version\":2", 1);
    assert!(failure(other.as_bytes()).contains("version 2 is not known"));
    let impossible = String::from_utf8(bytes).unwrap().replacen("\"fork\":4", "\"fork\":0", 1);
    assert!(failure(impossible.as_bytes()).contains("impossible"));
    assert_eq!(read_archive(&dir.path().join("none")).err().unwrap().code(), "log_io");
}

#[test]
fn an_archive_that_cannot_be_written_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 2);
    assert_eq!(archive_tail(&open(dir.path()).0.reader(), 2, &mut Full).unwrap_err().code(), "log_io");
}
