//! A second log that follows the first while it is being written, across segments.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::*;

const APPENDS: u64 = 400;

/// Long enough for any machine; a test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_follower_keeps_up_across_rolls() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path());
    let mut shipments = writer.reader().shipments_from(1).unwrap();
    let (wake, woken) = sync_channel(1);
    let target = tempfile::tempdir().unwrap();
    let (mut copy, _) = open(target.path());
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            for number in 0..APPENDS {
                let first = writer.last_index() + 1;
                writer.append(&mixed(first, &vec![90; 1 + number as usize % 5])).unwrap();
                let _full_is_fine = wake.try_send(());
            }
            writer
        });
        loop {
            while let Some(shipment) = shipments.next_batch(1500).unwrap() {
                assert_eq!(shipment.first, copy.last_index() + 1);
                assert_eq!(copy.append_received(&[shipment.frames]).unwrap().appended.after.index, shipment.last);
            }
            // Woken for more, or the writer is done: one more look then finds the rest.
            if woken.recv_timeout(PATIENCE).is_err() {
                break;
            }
        }
        let writer = writing.join().unwrap();
        while let Some(shipment) = shipments.next_batch(1500).unwrap() {
            copy.append_received(&[shipment.frames]).unwrap();
        }
        assert!(writer.segments().len() > 5);
        assert_eq!(copy.position(), writer.position());
        assert_eq!(read_all(&copy.reader()), read_all(&writer.reader()));
        assert_eq!(shipments.next_index(), writer.last_index() + 1);
    });
    assert!(verified(target.path()).is_clean());
}
