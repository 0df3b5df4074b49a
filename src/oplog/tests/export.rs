//! Exported ranges: any range, put beside its neighbours, is the same log.

use proptest::prelude::*;

use super::*;

/// A log in batches of these sizes.
fn written(dir: &Path, batches: &[usize], sizes: &[usize]) -> (LogWriter, Vec<Entry>) {
    let (mut writer, _) = open(dir);
    let all = mixed(1, sizes);
    let (mut rest, mut lengths) = (&all[..], batches.iter().cycle());
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*lengths.next().unwrap()).clamp(1, rest.len()));
        writer.append(now).unwrap();
        rest = later;
    }
    (writer, all)
}

fn name(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn ranges_side_by_side_are_the_log_again(
        sizes in prop::collection::vec(0_usize..700, 1..160),
        batches in prop::collection::vec(1_usize..30, 1..6),
        cuts in prop::collection::btree_set(1_u64..160, 0..8),
        from in 1_u64..40,
    ) {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (writer, all) = written(source.path(), &batches, &sizes);
        let (reader, last) = (writer.reader(), writer.last_index());
        let start = from.min(last);
        let mut first = start;
        for end in cuts.into_iter().filter(|cut| *cut >= start && *cut < last).chain([last]) {
            let exported = reader.export_segment(first, end, &name(target.path(), first)).unwrap();
            prop_assert_eq!((exported.before.index, exported.after.index), (first - 1, end));
            prop_assert_eq!(exported.after.chain, reader.chain_hash_at(end).unwrap());
            prop_assert_eq!(exported.last_ms, all[end as usize - 1].unix_ms());
            prop_assert_eq!(exported.bytes, std::fs::metadata(name(target.path(), first)).unwrap().len());
            first = end + 1;
        }
        let report = verify(target.path(), &mut |_| {}).unwrap();
        prop_assert_eq!(&report.findings, &[]);
        prop_assert_eq!((report.first_index, report.last), (Some(start), Some(writer.position())));
        // It opens, reads and goes on.
        let (mut again, _) = open(target.path());
        prop_assert_eq!(again.position(), writer.position());
        let read: Vec<Entry> = again.reader().read_from(start).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(&read[..], &all[start as usize - 1..]);
        let next = Entry { epoch: u64::MAX, hlc: Hlc(u64::MAX), ..entry(last + 1, 10) };
        again.append(&[next]).unwrap();
    }
}

#[test]
fn a_range_that_is_not_there_or_a_file_that_is_gives_an_error_and_leaves_nothing() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (mut writer, _) = written(source.path(), &[3], &[300; 60]);
    let reader = writer.reader();
    let out = name(target.path(), 1);
    for (first, last) in [(0, 5), (5, 4), (1, 61), (61, 61)] {
        assert_eq!(reader.export_segment(first, last, &out).unwrap_err().code(), "log_index_not_present");
    }
    writer.trim_below(40).unwrap();
    assert_eq!(reader.export_segment(1, 60, &out).unwrap_err().code(), "log_index_not_present");
    assert!(!out.exists());
    std::fs::write(&out, "mine").unwrap();
    assert_eq!(reader.export_segment(50, 60, &out).unwrap_err().code(), "log_io");
    assert_eq!(std::fs::read(&out).unwrap(), b"mine");
}

#[test]
fn damage_in_the_range_stops_the_export() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (writer, _) = written(source.path(), &[5], &[300; 60]);
    let segment = writer.segments()[1].clone();
    let file = OpenOptions::new().write(true).open(&segment.path).unwrap();
    file.write_all_at(&[0xff; 4], 400).unwrap();
    let error = writer.reader().export_segment(1, 60, &name(target.path(), 1)).unwrap_err();
    assert_eq!(error.code(), "log_corrupt");
    assert!(!name(target.path(), 1).exists());
}
