//! Figures for `DESIGN.md`: what taking in shipped frames costs. Run by hand, with the code optimised.

use std::time::Instant;

use super::*;

/// `CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo test --lib oplog::tests::measure -- --ignored --nocapture`
#[test]
#[ignore = "prints figures; asserts no speed"]
fn measure_shipping() {
    for (per_frame, frames) in [(1, 4_000_u64), (16, 2_000), (1_000, 200)] {
        let source = tempfile::tempdir().unwrap();
        let (mut sender, _) = LogWriter::open(LogOptions::new(source.path().to_path_buf(), CLUSTER)).unwrap();
        for number in 0..frames {
            sender.append(&entries(number * per_frame + 1..=(number + 1) * per_frame, 250)).unwrap();
        }
        let reader = sender.reader();
        let started = Instant::now();
        let pieces = shipped(&reader, 1, 1 << 20);
        let shipping = started.elapsed();
        let each = shipped(&reader, 1, 1);
        let total = frames * per_frame;
        for (name, group) in [("one frame a write", &each), ("1 MiB a write", &pieces)] {
            let dir = tempfile::tempdir().unwrap();
            let (mut writer, _) = LogWriter::open(LogOptions::new(dir.path().to_path_buf(), CLUSTER)).unwrap();
            let (started, mut fsync) = (Instant::now(), std::time::Duration::ZERO);
            for piece in group {
                fsync += writer.append_received(std::slice::from_ref(&piece.frames)).unwrap().appended.fsync;
            }
            let (all, writes) = (started.elapsed(), group.len() as u32);
            println!(
                "{per_frame} entries a frame, {name}: {:?} a write without fsync ({:?} with), {:.0} entries/s without fsync",
                (all - fsync) / writes,
                all / writes,
                total as f64 / (all - fsync).as_secs_f64(),
            );
            assert_eq!(writer.position(), sender.position());
        }
        println!("  shipping it: {:?} in {} pieces of 1 MiB", shipping, pieces.len());
        let started = Instant::now();
        for index in (1..=total).step_by(total as usize / 200) {
            reader.position_at(index).unwrap();
        }
        println!("  position_at: {:?}", started.elapsed() / 200);
    }
}
