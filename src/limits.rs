//! Every bound of the program, named with its unit and a why. A number that limits anything lives here and nowhere else.

// ---- Operation log (`oplog`) ----

/// Size that a log segment is reserved at. Large enough that sealing (two fsyncs) is rare, small enough that scanning the
/// last one at start stays far under a second and that trimming frees space in useful steps.
pub const LOG_SEGMENT_BYTES: u64 = 64 << 20;
/// Entries in one frame at most. Bounds what a reader must decode to find one entry.
pub const LOG_FRAME_ENTRIES_MAX: usize = 8_192;
/// Bytes of one frame's body before compression at most. Bounds the memory that one frame costs a reader, and is checked
/// before anything is allocated for a frame that a damaged header announces.
pub const LOG_FRAME_BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes of one entry's payload at most. One entry must fit into a frame with its header; commands are far smaller.
pub const LOG_PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Bytes (uncompressed) of one append at most, as one append is one write into one segment. The caller takes fewer
/// proposals at a time instead.
pub const LOG_APPEND_BYTES_MAX: usize = 64 << 20;
/// Distance of two points of a segment's sparse index. 512 points of 48 bytes in a full segment; finding an entry hops over
/// at most this much.
pub const LOG_SPARSE_INDEX_BYTES: u64 = 128 << 10;
/// Bytes that a log reader asks the system for at once.
pub const LOG_READ_AHEAD_BYTES: usize = 256 << 10;
/// Segment files larger than this are not read into memory: no build ever writes one (segment size plus one append).
pub const LOG_SEGMENT_FILE_BYTES_MAX: u64 = 1 << 30;
/// Bodies below this many bytes are not worth trying to compress: zstd's own frame costs about a dozen bytes.
pub const LOG_COMPRESS_BYTES_MIN: usize = 64;
/// Threads that check the last log segment when the log is opened. Beyond four, reading the file takes longer.
pub const LOG_OPEN_THREADS_MAX: usize = 4;
