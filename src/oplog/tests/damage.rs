//! Damage is found, named with its place, and never opened, cut or skipped.

use super::*;

/// The place of a refusal to open.
fn refused(dir: &Path) -> (RepairPlace, String) {
    let error = open_err(dir);
    let text = error.to_string();
    assert!(text.contains("holdfast log verify") && text.contains("holdfast restore"), "{text}");
    match error {
        LogError::Corrupt { place, what } => (place, what),
        other => panic!("not the expected refusal: {other}"),
    }
}

#[test]
fn a_flipped_byte_anywhere_in_a_sealed_segment_is_found() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 60);
    let names = files(dir.path());
    let (victim, first) = (&names[1], segment::list(dir.path()).unwrap().segments[1].first_index);
    let after = segment::list(dir.path()).unwrap().segments[2].first_index;
    for offset in (0..length(victim)).step_by(3) {
        flip(victim, offset);
        let report = verified(dir.path());
        let finding = report.findings.first().unwrap_or_else(|| panic!("byte {offset} is not found"));
        assert_eq!(&finding.path, victim, "byte {offset}");
        assert!((first..=after).contains(&finding.index), "byte {offset}: index {}", finding.index);
        assert!(finding.offset <= offset.max(length(victim)));
        flip(victim, offset);
    }
    assert!(verified(dir.path()).is_clean());
}

#[test]
fn verify_goes_on_behind_damage() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let names = files(dir.path());
    let middle = length(&names[0]) / 2;
    flip(&names[0], middle);
    flip(&names[2], middle);
    let mut progress = Vec::new();
    let report = verify(dir.path(), &mut |step| progress.push(step)).unwrap();
    assert_eq!(report.findings.len(), 2, "{:?}", report.findings);
    assert_eq!(report.findings[1].path, names[2]);
    assert!(report.findings[0].what.contains("good entries follow at byte"));
    assert_eq!(report.entries, all.len() as u64 - 6, "two frames of three entries are lost, all others are read");
    assert_eq!(report.last.unwrap().index, all.len() as u64);
    assert_eq!(progress.len(), names.len());
    assert_eq!(progress.last().unwrap().segments_done, names.len());
}

#[test]
fn damage_in_the_active_segment_before_good_frames_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=2, 60)).unwrap();
    let start = writer.segments()[0].bytes;
    writer.append(&entries(3..=4, 60)).unwrap();
    let end = writer.segments()[0].bytes;
    writer.append(&entries(5..=6, 60)).unwrap();
    drop(writer);
    let path = files(dir.path()).remove(0);
    for offset in start..end {
        flip(&path, offset);
        let before = std::fs::read(&path).unwrap();
        let (place, what) = refused(dir.path());
        assert_eq!((place.offset, place.index, &place.path), (start, 3, &path));
        assert!(what.contains(&format!("good entries follow at byte {end}, index 5")), "{what}");
        assert_eq!(std::fs::read(&path).unwrap(), before, "nothing is changed");
        assert_eq!(verified(dir.path()).findings[0].index, 3);
        flip(&path, offset);
    }
    open(dir.path());
}

#[test]
fn damage_before_a_last_frame_that_ends_in_zeros_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    writer.append(&entries(1..=2, 60)).unwrap();
    let start = writer.segments()[0].bytes;
    writer.append(&entries(3..=4, 60)).unwrap();
    let end = writer.segments()[0].bytes;
    // What every start of a server writes: its empty payload makes a zero the last byte of the frame.
    let last = Entry { kind: EntryKind::EpochStarted, ..entry(5, 0) };
    writer.append(&[last]).unwrap();
    let last_byte = writer.segments()[0].bytes - 1;
    drop(writer);
    let path = files(dir.path()).remove(0);
    assert_eq!(std::fs::read(&path).unwrap()[last_byte as usize], 0);
    for offset in start..end {
        flip(&path, offset);
        let (place, what) = refused(dir.path());
        assert_eq!((place.offset, place.index), (start, 3), "byte {offset}");
        assert!(what.contains(&format!("good entries follow at byte {end}, index 5")), "{what}");
        assert_eq!(verified(dir.path()).findings[0].index, 3);
        flip(&path, offset);
    }
    open(dir.path());
}

#[test]
fn a_damaged_footer_or_header_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 60);
    let victim = &files(dir.path())[1];
    for offset in [3, 30, 50, 70, length(victim) - 1, length(victim) - 10, length(victim) - 40] {
        flip(victim, offset);
        assert_eq!(&refused(dir.path()).0.path, victim);
        flip(victim, offset);
    }
    open(dir.path());
}

#[test]
fn a_damaged_frame_of_a_sealed_last_segment_refuses_to_open() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 60);
    let names = files(dir.path());
    for name in &names[1..] {
        std::fs::remove_file(name).unwrap();
    }
    flip(&names[0], length(&names[0]) / 2);
    refused(dir.path());
}

#[test]
fn a_reader_stops_at_damage_and_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let all = fill(dir.path(), 60);
    let (writer, _) = open(dir.path());
    let victim = writer.segments()[1].clone();
    flip(&victim.path, length(&victim.path) / 2);
    let mut good = 0;
    let mut iterator = writer.reader().read_from(1).unwrap();
    let error = loop {
        match iterator.next().expect("the damage is met") {
            Ok(entry) => {
                assert_eq!(entry, all[good]);
                good += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(iterator.next().is_none(), "nothing comes after an error");
    let LogError::Corrupt { place, .. } = error else { panic!("{error}") };
    assert_eq!((place.path, place.index), (victim.path, good as u64 + 1));
}

#[test]
fn a_missing_middle_segment_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 60);
    let names = segment::list(dir.path()).unwrap().segments;
    std::fs::remove_file(&names[1].path).unwrap();
    let (place, what) = refused(dir.path());
    assert_eq!(place.path, names[2].path);
    assert!(what.contains(&format!("the segment with index {} is missing", names[1].first_index)), "{what}");
    let report = verified(dir.path());
    assert_eq!(report.findings.len(), 1);
    assert_eq!((&report.findings[0].path, &report.findings[0].what), (&names[2].path, &what));
}

#[test]
fn a_segment_of_another_history_does_not_fit() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fill(one.path(), 60);
    let (mut writer, _) = open(two.path());
    for index in 1..=180 {
        writer.append(&[Entry { epoch: 2 << 16, ..entry(index, 200) }]).unwrap();
    }
    drop(writer);
    let mine = files(one.path());
    // The same name and indexes may occur in both histories; the chain tells them apart.
    let names = segment::list(two.path()).unwrap().segments;
    let foreign = names.iter().find(|name| name.first_index > 1).unwrap();
    for path in &mine[1..] {
        std::fs::remove_file(path).unwrap();
    }
    std::fs::copy(&foreign.path, one.path().join(foreign.path.file_name().unwrap())).unwrap();
    refused(one.path());
    assert!(!verified(one.path()).is_clean());
}

#[test]
fn another_clusters_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 2);
    let error = LogWriter::open(LogOptions { cluster: [7; 16], ..options(dir.path()) }).err().unwrap();
    assert_eq!(error.code(), "log_wrong_cluster");
    open(dir.path());
}

#[test]
fn a_newer_format_is_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path(), 2);
    let path = files(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
    bytes[12..28].copy_from_slice(b"3.1.4\0\0\0\0\0\0\0\0\0\0\0");
    std::fs::write(&path, &bytes).unwrap();
    let leftover = dir.path().join("00000000000000000099.seg.tmp");
    std::fs::write(&leftover, b"x").unwrap();
    let text = open_err(dir.path()).to_string();
    assert!(text.contains("log format 9, written by holdfast 3.1.4"), "{text}");
    assert!(leftover.exists());
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(verified(dir.path()).findings[0].what.contains("log format 9"));
}
