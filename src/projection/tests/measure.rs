//! Figures of the projection: with small numbers a test that the workload runs and its state is right; by hand with large
//! ones (`HOLDFAST_TEST_MESSAGES=10000000 cargo test --profile test-release projection::tests::measure -- --nocapture`).
//! Nothing is asserted about time.

use std::ops::Bound::Unbounded;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::*;
use crate::core::rows::Message;
use crate::core::view::{Direction, ViewExt};
use crate::projection::snapshot::{SnapshotInfo, write_snapshot};

const WORDS: [&str; 24] = [
    "the", "build", "deploy", "meeting", "at", "tomorrow", "please", "check", "server", "log", "again", "thanks",
    "done", "review", "branch", "customer", "invoice", "looks", "good", "to", "me", "会议", "明天", "收到",
];

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn body(&mut self) -> String {
        let mut body = String::with_capacity(170);
        while body.len() < 145 {
            body.push_str(WORDS[self.below(WORDS.len() as u64) as usize]);
            body.push(' ');
            if self.below(4) == 0 {
                body.push_str(&self.below(100_000).to_string());
            }
        }
        body
    }
}

fn resident_mib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    (pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096) >> 20
}

fn entry(seq: u64, channel: u64, index: u64, random: &mut Random) -> (Vec<Write>, usize) {
    let body = random.body();
    let len = body.len();
    let id = index << 22;
    let sender = random.below(1_000) + 1;
    let client_id = bytes::Bytes::copy_from_slice(&blake3::hash(&index.to_le_bytes()).as_bytes()[..16]);
    let row = Message {
        id,
        sender,
        client_id: client_id.clone(),
        body,
        created_ms: 1_800_000_000_000 + index,
        ..Message::default()
    };
    let new = |key, value: Value| Write { key, before: None, after: Some(value) };
    let before = (seq > 1).then(|| head(seq - 1));
    let ring = Key::Sent(UserId(channel), (seq % 64) as u16);
    let before_sent = (seq > 64).then(|| sent(seq - 64));
    let writes = vec![
        new(Key::Message(ChannelId(channel), seq), row.into()),
        Write { key: Key::ChannelHead(ChannelId(channel)), before, after: Some(head(seq)) },
        Write { key: ring, before: before_sent, after: Some(sent(seq)) },
    ];
    (writes, len)
}

/// Fills a state with `messages` over `channels`, reads it, snapshots it, opens it again; prints the figures.
fn measure(messages: u64, channels: u64) {
    let dir =
        tempfile::tempdir_in(std::env::var_os("HOLDFAST_TEST_DIR").unwrap_or_else(|| std::env::temp_dir().into()))
            .unwrap();
    let mut options = options(dir.path());
    options.sizes.checkpoint_every = Duration::from_millis(crate::limits::CHECKPOINT_EVERY_MS);
    let projection = Projection::open(&options).unwrap().projection;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut raw, mut committing, started) = (0, Duration::ZERO, Instant::now());
    let done = AtomicBool::new(false);
    let (reads, slowest_ns) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        // Pages of random channels, most of them not cached, one a millisecond: what readers feel of checkpoints.
        scope.spawn(|| {
            let mut random = Random(5);
            while !done.load(Ordering::Acquire) {
                let one = Instant::now();
                let channel = ChannelId(random.below(channels) + 1);
                let range = Key::Message(channel, 1)..=Key::Message(channel, u64::MAX);
                let page = projection.rows::<Message>(range, Direction::Down, 50).unwrap();
                assert!(page.windows(2).all(|two| two[0].0 > two[1].0));
                slowest_ns.fetch_max(one.elapsed().as_nanos() as u64, Ordering::Relaxed);
                reads.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        for index in 1..=messages {
            let (writes, len) = entry((index - 1) / channels + 1, (index - 1) % channels + 1, index, &mut random);
            raw += len;
            let one = Instant::now();
            projection.commit(at(index), &writes).unwrap();
            committing += one.elapsed();
        }
        projection.checkpoint().unwrap();
        done.store(true, Ordering::Release);
    });
    let reads = reads.into_inner();
    let slowest = Duration::from_nanos(slowest_ns.into_inner());
    println!("{reads} pages read meanwhile, the slowest in {slowest:.1?}");
    let filled = started.elapsed();
    let stats = projection.stats().unwrap();
    println!(
        "{messages} messages in {channels} channels, {} MiB raw: committed in {committing:.1?}, stored in {filled:.1?}",
        raw >> 20
    );
    println!(
        "disk {} MiB = {:.2} x raw; memory {} MiB",
        stats.disk_bytes >> 20,
        stats.disk_bytes as f64 / raw as f64,
        resident_mib()
    );
    let mut live = std::collections::BTreeMap::<u8, (u64, usize)>::new();
    for (key, value) in projection.shared.store.scan((Unbounded, Unbounded), Direction::Up, usize::MAX).unwrap() {
        let kind = live.entry(key[0]).or_default();
        *kind = (kind.0 + 1, kind.1 + key.len() + value.len());
    }
    println!("live pairs and bytes by tag: {live:?}; {:?}", stats.last_checkpoint);
    pages(&projection, messages / channels, channels, "other channels");
    pages(&projection, messages / channels, 8, "hot channels");
    let started = Instant::now();
    let path = write_snapshot(
        &projection.hold_checkpoints(),
        options.snapshots_dir(),
        SnapshotInfo { site: 0, chain: [0; 32] },
        |_| {},
    );
    let path = path.unwrap();
    println!("snapshot written in {:.1?}", started.elapsed());
    projection.close().unwrap();
    let started = Instant::now();
    let opened = Projection::open(&options).unwrap();
    println!("opened in {:.1?}; memory {} MiB", started.elapsed(), resident_mib());
    let started = Instant::now();
    assert_eq!(opened.projection.full_state_hash().unwrap(), (at(messages), opened.state_hash));
    println!("whole state hashed in {:.1?}", started.elapsed());
    let started = Instant::now();
    let other = tempfile::tempdir_in(dir.path()).unwrap();
    let loaded = Projection::open_from_snapshot(&super::options(other.path()), &path).unwrap();
    println!("snapshot loaded in {:.1?}", started.elapsed());
    assert_eq!((loaded.applied, loaded.state_hash), (opened.applied, opened.state_hash));
}

fn pages(projection: &Projection, last: u64, channels: u64, what: &str) {
    const PAGES: u64 = 2_000;
    let mut random = Random(77);
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..PAGES {
        let one = Instant::now();
        let channel = ChannelId(random.below(channels) + 1);
        let range = Key::Message(channel, 1)..=Key::Message(channel, u64::MAX);
        let page = projection.rows::<Message>(range, Direction::Down, 50).unwrap();
        assert_eq!(page.len() as u64, last.min(50));
        slowest = slowest.max(one.elapsed());
    }
    let rate = PAGES as f64 / started.elapsed().as_secs_f64();
    println!("pages of the latest 50, {what}: {rate:.0}/s, the slowest {slowest:.1?}");
}

#[test]
fn a_measured_workload_is_stored_read_and_restored_right() {
    let number = |name: &str, small: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(small);
    let channels = number("HOLDFAST_TEST_CHANNELS", 20);
    let messages = number("HOLDFAST_TEST_MESSAGES", 4_000);
    measure(messages / channels * channels, channels);
}
