//! Every bound of the program, named with its unit and a why. A number that limits anything lives here and nowhere else.

// The applied state (`projection`)

/// sled's page cache. Explicit, because sled reads a container's limit only from cgroup v1; our own cache of decoded rows
/// sits above it, so this needs to hold the inner nodes and the hot leaves only.
pub const STATE_STORE_CACHE_BYTES: u64 = 64 << 20;
/// How often sled's flusher runs. It is kept on although checkpoints flush themselves: sled collects garbage only there.
pub const STATE_STORE_FLUSH_MS: u64 = 1_000;
/// Pairs applied to sled at once: it locks readers out meanwhile, for a few milliseconds at this size.
pub const STATE_STEP_PAIRS: usize = 128;
/// How long an open waits for another process to let go of the state.
pub const STATE_LOCK_WAIT_MS: u64 = 3_000;
/// A stored value. sled puts larger items into files of their own that it never syncs; a leaf holds about 17 pairs.
pub const STATE_VALUE_BYTES_MAX: usize = 4_000;
/// Rows of one block of messages or sends: a page of 50 touches two or three blocks, a block of chat text compresses
/// well and rewriting the open one stays cheap.
pub const STATE_BLOCK_ROWS: u64 = 32;
/// The compression level of blocks: the first level whose size gain over level 1 pays for its time.
pub const STATE_BLOCK_ZSTD_LEVEL: i32 = 3;
/// Rows and blocks shorter than this are stored as they are: a zstd frame costs about as much as it gains.
pub const STATE_COMPRESS_FROM_BYTES: usize = 256;
/// A decompressed block or row. Far above 32 of the largest messages; it only stops damaged lengths from taking memory.
pub const STATE_UNIT_BYTES_MAX: usize = 64 << 20;
/// Decoded rows and blocks that readers keep, estimated in bytes.
pub const STATE_CACHE_BYTES: usize = 48 << 20;
/// The longest time between two checkpoints: it bounds what a restart must replay.
pub const CHECKPOINT_EVERY_MS: u64 = 5_000;
/// The overlay's size that starts a checkpoint early, estimated in bytes.
pub const OVERLAY_BYTES: usize = 64 << 20;
/// The overlay's size at which applying waits for the running checkpoint. Reached only when entries arrive faster than
/// the disk takes checkpoints, as in a replay: it bounds memory.
pub const OVERLAY_BYTES_MAX: usize = 192 << 20;
/// The state hash is remembered at each index divisible by this.
pub const STATE_HASH_EVERY: u64 = 1_024;
/// How many of these points are remembered: a standby that is further behind compares at a later one.
pub const STATE_HASH_POINTS: usize = 64;
/// Stored pairs read from the store at a time by a scan: large enough to amortise the seek, small enough to hold no one up.
pub const STATE_SCAN_PAGE: usize = 256;
/// The rows of one snapshot chunk before compression: small enough to re-send after a broken link.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// The compression level of snapshot chunks.
pub const SNAPSHOT_ZSTD_LEVEL: i32 = 3;
/// Snapshots kept: the newest, and one more in case it turns out damaged.
pub const SNAPSHOTS_KEPT: usize = 2;
/// One batch of a snapshot being loaded: large enough for speed, small beside the memory of a small machine.
pub const SNAPSHOT_LOAD_BATCH_BYTES: usize = 16 << 20;
