//! Every bound of the program, named with its unit and a why. A number that limits anything lives here and nowhere else.

mod backup;

pub use backup::*;

// ---- chat ----

/// A message's Markdown. Long enough for a page of text; what is longer is a file.
pub const MESSAGE_BYTES_MAX: usize = 16_384;

/// How many of a sender's latest sends are remembered by client id. It must exceed what one user can have unanswered
/// on all devices together, so that a resend after any interruption is recognised.
pub const SENT_RING: u16 = 256;

/// Senders whose ring is kept in memory (about 10 KiB each); others are read from the state when they send.
pub const SENT_RINGS_CACHED: usize = 4_096;

/// Devices a user may be signed in on; signing in on one more ends the oldest session.
pub const SESSIONS_PER_USER_MAX: usize = 100;

/// A sign-in name.
pub const USERNAME_CHARS_MAX: usize = 64;
/// The name others see.
pub const DISPLAY_NAME_CHARS_MAX: usize = 80;
/// A channel's name.
pub const CHANNEL_NAME_CHARS_MAX: usize = 80;
/// A channel's topic: one line under the name.
pub const TOPIC_CHARS_MAX: usize = 250;
/// An organisation's name.
pub const ORGANISATION_CHARS_MAX: usize = 120;
/// An IANA zone name; the longest one has 32.
pub const TIME_ZONE_CHARS_MAX: usize = 64;
/// What a device calls itself.
pub const DEVICE_CHARS_MAX: usize = 100;
// ---- the pair ----

/// Data nodes of a pair: the protocol is for two.
pub const PAIR_DATA_MEMBERS_MAX: usize = 2;
/// Witnesses of a pair: a third vote decides, a fourth would tie.
pub const PAIR_WITNESSES_MAX: usize = 1;
/// A member's number: ids have 10 bits for the node that made them.
pub const PAIR_NUMBER_MAX: u32 = 1_023;
/// Addresses of one member: the main link and up to three second ones.
pub const PAIR_ADDRESSES_MAX: usize = 4;
/// Bytes of `host:port`: a DNS name of 253, a colon, five digits.
pub const PAIR_ADDRESS_BYTES_MAX: usize = 259;
/// Bytes of the URL that clients use.
pub const PAIR_CLIENT_URL_BYTES_MAX: usize = 512;
/// What people call a member.
pub const PAIR_NAME_CHARS_MAX: usize = 80;
/// Bytes of what else there is to say about an event of the pair.
pub const PAIR_NOTE_BYTES_MAX: usize = 2_048;
/// The shortest time between heartbeats: below it, scheduling on a busy machine looks like silence.
pub const PAIR_HEARTBEAT_MS_MIN: u32 = 50;
/// The longest of a pair's timings: beyond a minute nobody would call it a warm standby.
pub const PAIR_TIMING_MS_MAX: u32 = 60_000;
/// Heartbeats that must be missing before silence means anything: one may be lost, one be late.
pub const PAIR_SILENT_HEARTBEATS_MIN: u32 = 3;
/// Messages since the fork whose client ids are kept in memory (about 50 bytes each) while a tail is salvaged.
pub const SALVAGE_MESSAGES_CACHED: usize = 500_000;
/// Read marks in one salvaged record: bounds its length.
pub const SALVAGE_MARKS_MAX: usize = 500;
// ---- Operations: configuration, TLS, authentication, blobs, disk, logging, command line ----

/// Bytes of a configuration file. Ours is 4 KiB with every comment; more is a wrong file.
pub const CONFIG_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes kept free on the data disk whatever its size: room for a checkpoint and a full segment while writes are refused.
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
/// Percent of the data disk kept free: on a large disk, other tenants fill 256 MiB faster than a person reacts.
pub const DISK_RESERVE_PERCENT_DEFAULT: u64 = 2;
/// Percent by which free space must exceed the reserve before writes are accepted again, so that the state does not flap.
pub const DISK_RESUME_MARGIN_PERCENT: u64 = 10;
/// Log files kept (one a day): two weeks is what a fault report usually needs.
pub const LOG_FILES_MAX_DEFAULT: usize = 14;
/// Log lines waiting for the disk. Beyond it lines are dropped and counted: logging must never slow a write.
pub const LOG_LINES_BUFFERED_MAX: usize = 16 * 1024;
/// Bytes of a log filter directive: a longer one is a mistake, and it is parsed on every change.
pub const LOG_FILTER_BYTES_MAX: usize = 1024;

/// Days that the own CA is valid: longer than any machine; a new CA means trusting anew on every client.
pub const TLS_CA_DAYS: u64 = 3_650;
/// Days that the node certificate is valid: two years less two days, under the 825 days that Apple's clients allow.
pub const TLS_NODE_DAYS: u64 = 728;
/// Days of validity left at which the node certificate is issued anew.
pub const TLS_RENEW_DAYS: u64 = 30;
/// Hours that a new certificate is back-dated, so that a client whose clock is behind accepts it.
pub const TLS_BACKDATE_HOURS: u64 = 24;
/// Bytes of an uploaded chain or key in PEM: five RSA-4096 certificates are 12 KiB.
pub const TLS_PEM_BYTES_MAX: usize = 128 * 1024;
/// Certificates of an uploaded chain: public chains have at most 4.
pub const TLS_CHAIN_CERTIFICATES_MAX: usize = 8;
/// TLS 1.3 tickets sent after a handshake: one suffices for a reconnect, and they are stateless, so none is kept here.
pub const TLS_TICKETS_PER_HANDSHAKE: usize = 1;
/// Bytes that rustls may buffer per connection in each direction before it pushes back on our side.
pub const TLS_CONNECTION_BUFFER_BYTES_MAX: usize = 64 * 1024;

/// KiB of memory for one password hash (19 MiB, the OWASP minimum for argon2id with two passes).
pub const PASSWORD_HASH_MEMORY_KIB: u32 = 19 * 1024;
/// Passes of a password hash over its memory.
pub const PASSWORD_HASH_PASSES: u32 = 2;
/// Lanes of a password hash: one, so that one login takes one core.
pub const PASSWORD_HASH_LANES: u32 = 1;
/// Password hashes computed at once: 2 × 19 MiB, and a login storm leaves the other cores to the chat.
pub const PASSWORD_HASH_CONCURRENCY: usize = 2;
/// Logins that wait for a hash. At 30 ms a hash and two at once, the last waits a second; beyond that: busy.
pub const PASSWORD_HASH_WAITING_MAX: usize = 64;
/// Seconds a client is told to wait when the hash queue is full.
pub const PASSWORD_BUSY_RETRY_AFTER_SECONDS: u64 = 2;
/// Characters of the shortest password.
pub const PASSWORD_CHARS_MIN: usize = 10;
/// Characters of the longest password.
pub const PASSWORD_CHARS_MAX: usize = 256;
/// Bytes of the longest password: 256 characters of four bytes.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Failed logins of one account before it must wait. A person mistypes three times, not ten.
pub const LOGIN_ACCOUNT_BURST: u32 = 10;
/// Seconds until an account may try once more after its burst: 5,760 guesses a day, useless against our policy.
pub const LOGIN_ACCOUNT_REFILL_SECONDS: u32 = 15;
/// Failed logins of one address before it must wait: an office of 200 behind one address shares it.
pub const LOGIN_ADDRESS_BURST: u32 = 100;
/// Seconds until an address may try once more after its burst.
pub const LOGIN_ADDRESS_REFILL_SECONDS: u32 = 2;
/// Accounts, and addresses, that the login limiter remembers: about 2 MiB in all under an attack with random names.
pub const LOGIN_BUCKETS_MAX: usize = 10_000;
/// Bytes of an account name that the limiter keys on; longer names are cut, which only joins their buckets.
pub const LOGIN_ACCOUNT_BYTES_MAX: usize = 128;
/// Wrong set-up tokens before the link locks until the operator prints it again.
pub const SETUP_WRONG_TRIES_MAX: u32 = 10;

/// Bytes of one attachment unless the configuration says otherwise.
pub const BLOB_BYTES_MAX_DEFAULT: u64 = 100 * 1024 * 1024;
/// Bytes read at a time while a blob is hashed or copied.
pub const BLOB_CHUNK_BYTES: usize = 64 * 1024;

/// Open files wanted: 10,000 connections and the store; less is a warning of `doctor`.
pub const OPEN_FILES_WANTED: u64 = 16_384;
/// Milliseconds of one fsync above which `doctor` warns: a spinning disk takes 10, a network disk 30.
pub const DOCTOR_FSYNC_WARN_MS: u64 = 30;
/// Milliseconds of one fsync above which `doctor` fails: sends would time out under load.
pub const DOCTOR_FSYNC_FAIL_MS: u64 = 500;
/// Writes that `doctor` measures; the median is judged.
pub const DOCTOR_FSYNC_ROUNDS: usize = 9;
/// Bytes of one write that `doctor` measures: a small commit batch.
pub const DOCTOR_FSYNC_BYTES: usize = 4096;
/// Days of certificate validity left at which `doctor` warns.
pub const DOCTOR_CERTIFICATE_WARN_DAYS: i64 = 14;
/// Milliseconds that the clocks of two members may differ before `doctor` warns: people see it in the times of messages.
pub const DOCTOR_PEER_CLOCK_WARN_MS: u64 = 2_000;
/// Milliseconds to another member and back above which `doctor` warns: every send takes at least this long, and the
/// default timings begin to be tight.
pub const DOCTOR_PEER_RTT_WARN_MS: u64 = 400;

/// Bytes of an answer of the admin socket: a list of 10,000 users is 3 MiB.
pub const ADMIN_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Seconds until a request on the admin socket is given up: a checkpoint or a verify on the other side may hold it.
pub const ADMIN_REQUEST_TIMEOUT_SECONDS: u64 = 60;
/// Background workers that the registry shows: a part that registers without end is a bug, not a list.
pub const WORKERS_MAX: usize = 64;
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
/// Origins (nodes of sites) in the entries taken from another node since the log was opened. A site has 1,023 nodes; each
/// entry is compared with the last one of its origin, so a forged log must not bring any number of them.
pub const LOG_ORIGINS_MAX: usize = 4_096;
/// Bytes of a line of a readable archive at most: a payload in base64 (4/3 MiB), its readable form, and 1 KiB of the rest.
pub const LOG_ARCHIVE_LINE_BYTES_MAX: usize = 2 << 20;
/// Bytes of a payload's readable form in an archive; longer ones are cut, as the payload stands beside it in full. Quoting
/// what is left of a cut one can double it.
pub const LOG_ARCHIVE_READABLE_BYTES_MAX: usize = 64 << 10;

// The applied state (`projection`)

/// sled's page cache. Explicit, because sled reads a container's limit only from cgroup v1; our own cache of decoded rows
/// sits above it, so this needs to hold the inner nodes and the hot leaves only.
pub const STATE_STORE_CACHE_BYTES: u64 = 64 << 20;
/// How often sled's flusher runs. It is kept on although checkpoints flush themselves: sled collects garbage only there.
pub const STATE_STORE_FLUSH_MS: u64 = 1_000;
/// Pairs applied to sled at once: it locks readers out meanwhile, for a few milliseconds at this size.
pub const STATE_STEP_PAIRS: usize = 128;
/// Bytes of a checkpoint between two syncs. On a journalling file system the log's fsync waits for what others have
/// dirtied, so a checkpoint's 40 MB in one piece would be a stall of 200 ms for every sender.
pub const STATE_SYNC_BYTES: usize = 2 << 20;
/// How long an open waits for another process to let go of the state.
pub const STATE_LOCK_WAIT_MS: u64 = 3_000;
/// A stored value. sled puts larger items into files of their own that it never syncs; a leaf holds about 17 pairs.
pub const STATE_VALUE_BYTES_MAX: usize = 4_000;
/// Rows of one block of messages or sends: a page of 50 touches two or three blocks, a block of chat text compresses
/// well and rewriting the open one stays cheap.
pub const STATE_BLOCK_ROWS: u64 = 32;
/// The compression level of blocks: the first level whose size gain over level 1 (3 %) pays for its time. Level 3 would save
/// another 1 % for half as much time again, on both nodes of a pair.
pub const STATE_BLOCK_ZSTD_LEVEL: i32 = 2;
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

// ---- write path ----

/// Proposals that may wait for the log thread. At 30,000 a second it is half a second of work; beyond it clients are
/// told to come back, which is kinder than an answer after many seconds.
pub const PROPOSALS_MAX: usize = 16_384;
/// Payload bytes that may wait for the log thread: bounds the memory of a storm of large messages.
pub const PROPOSAL_BYTES_MAX: usize = 64 << 20;
/// Entries in one append: an fdatasync is worth sharing, but the first must not wait for thousands of others, and the
/// next batch is written while this one is applied.
pub const COMMIT_ENTRIES_MAX: usize = 1_024;
/// Payload bytes in one append.
pub const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Durable batches of a node alone that may wait to be applied: enough to keep both threads busy, few enough that
/// proposals gather meanwhile.
pub const BATCHES_WAITING_ALONE_MAX: usize = 4;
/// The same with a standby: its disk and the network are in between. With more, batches get smaller, and each costs both nodes a
/// write, a message and an ack; with fewer, who sends over a slow link waits longer for the next batch: an eighth of the way
/// there and back at most.
pub const BATCHES_WAITING_PAIRED_MAX: usize = 8;
/// The same on the standby, which learns a little later what is committed. Bytes are bounded before they get here.
pub const BATCHES_WAITING_FOLLOWING_MAX: usize = 1_024;
/// Entries applied before their answers and events go out together: enough to share the wake-ups, few enough that
/// clients send the next ones meanwhile.
pub const APPLY_CHUNK_ENTRIES: usize = 128;
/// Entries that the replay at start hands from its reading to its applying thread at once.
pub const REPLAY_CHUNK_ENTRIES: usize = 1_024;
/// Such chunks that may wait: bounds the memory of a long replay.
pub const REPLAY_CHUNKS_WAITING_MAX: usize = 8;

// ---- realtime ----

/// Bytes of frames that may wait for one reader. A reader who is further behind is faster with a fresh page.
pub const SESSION_QUEUE_BYTES_MAX: usize = 4 << 20;
/// What a waiting frame costs beside its bytes: counted, so that many tiny frames are bounded too.
pub const SESSION_FRAME_OVERHEAD_BYTES: usize = 64;
/// Bytes of the latest events kept for clients that were away: a minute at a thousand messages a second, hours in a
/// normal day.
pub const EVENT_RING_BYTES_MAX: usize = 32 << 20;
/// The usual size of an event's JSON: the first guess of a buffer, not a bound.
pub const EVENT_BYTES_TYPICAL: usize = 512;
/// A request on the WebSocket: a message of the full length, escaped in the worst way (`\u0001`), and its frame.
pub const WS_MESSAGE_BYTES_MAX: usize = 6 * MESSAGE_BYTES_MAX + 1_024;
/// Requests of one connection that may be unanswered. Less than [`SENT_RING`], so that all of them can be sent again
/// and be recognised.
pub const WS_UNANSWERED_MAX: u32 = 64;
/// How long a new connection may take to say `hello`.
pub const WS_HELLO_SECONDS_MAX: u64 = 10;
/// How long a closing connection may take to read its last frames.
pub const WS_CLOSE_SECONDS_MAX: u64 = 3;
/// How long the server waits, after its close frame, for the peer to end its side: some round trips, and short enough that
/// peers who are gone do not hold up a server that stops.
pub const WS_LINGER_MS_MAX: u64 = 500;
/// How often every connection is pinged.
pub const WS_PING_SECONDS: u64 = 30;
/// For how long a client may say nothing, not even a pong.
pub const WS_SILENT_SECONDS_MAX: u64 = 75;
/// Channels in which one user's read mark may move in one second.
pub const READ_MARKS_PER_USER_MAX: usize = 500;

// ---- HTTP ----

/// A request body. The longest legitimate one is a message in the worst escaping, or a certificate chain.
pub const HTTP_BODY_BYTES_MAX: usize = 128 << 10;
/// Path and query of a request.
pub const HTTP_URI_BYTES_MAX: usize = 2_048;
/// All headers of a request, with its first line.
pub const HTTP_HEADER_BYTES_MAX: usize = 16 << 10;
/// Headers of a request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// How long a client may take to send its headers: slow ones must not hold connections.
pub const HTTP_HEADER_SECONDS_MAX: u64 = 15;
/// How long a request may take in all, upload included.
pub const HTTP_REQUEST_SECONDS_MAX: u64 = 60;
/// How long a TLS handshake may take.
pub const TLS_HANDSHAKE_SECONDS_MAX: u64 = 15;
/// Handshakes at once: each costs about 1 ms of CPU and 20 KiB, so a storm of them must queue at the kernel instead.
pub const TLS_HANDSHAKES_MAX: usize = 512;
/// Connections at once. What the kernel's open-file limit allows is usually less.
pub const CONNECTIONS_MAX: usize = 100_000;
/// Items of a page when the client does not say.
pub const PAGE_ITEMS_DEFAULT: usize = 50;
/// Items of a page at most.
pub const PAGE_ITEMS_MAX: usize = 200;
/// Rows that one page of a filtered list looks at before it hands out what it has found, with a cursor to go on.
pub const PAGE_ROWS_SCANNED_MAX: usize = 10_000;
/// Rows read from the state at a time while a page is collected.
pub const PAGE_CHUNK_ROWS: usize = 500;
/// Members that a new channel may be given at once.
pub const CHANNEL_FIRST_MEMBERS_MAX: usize = 1_000;
/// People who may accept one invitation.
pub const INVITE_USES_MAX: u32 = 1_000;
/// How long an invitation may be good for, in seconds: 30 days.
pub const INVITE_SECONDS_MAX: u64 = 30 * 86_400;
/// How long an invitation is good for unless said: 7 days.
pub const INVITE_SECONDS_DEFAULT: u64 = 7 * 86_400;
/// Channels that an invitation may name.
pub const INVITE_CHANNELS_MAX: usize = 50;
/// How long the standby may take at a shutdown to confirm what was written last, in milliseconds.
pub const SHUTDOWN_COMMIT_MS: u64 = 2_000;
/// How long open connections may take to end at a shutdown; in all it takes at most 10 seconds.
pub const SHUTDOWN_CONNECTIONS_SECONDS_MAX: u64 = 4;
// --- bench: the load generator ---------------------------------------------------------------------------------------

/// How long a benchmark measures unless told otherwise: long enough for checkpoints to fall into it.
pub const BENCH_SECONDS: u64 = 10;
/// Load before the measurement, so that connections, caches and the group commit have settled.
pub const BENCH_WARMUP_MS: u64 = 2_000;
/// People in the `send` scenario: 100 pairs.
pub const BENCH_SEND_CLIENTS: usize = 200;
/// Connections in the `fanout` scenario: ten channels with a hundred members each.
pub const BENCH_FANOUT_CLIENTS: usize = 1_000;
/// Members of a channel in the `fanout` scenario: a department.
pub const BENCH_FANOUT_MEMBERS: usize = 100;
/// Connections that ask for pages in the `history` scenario.
pub const BENCH_HISTORY_CLIENTS: usize = 16;
/// Connections in the `idle` scenario.
pub const BENCH_IDLE_CONNECTIONS: usize = 10_000;
/// Messages stored before pages are asked for.
pub const BENCH_HISTORY_MESSAGES: u64 = 1_000_000;
/// Messages stored before the restart.
pub const BENCH_RESTART_MESSAGES: u64 = 10_000_000;
/// Channels that they are spread over.
pub const BENCH_RESTART_CHANNELS: usize = 1_000;
/// Bytes of a message's text: a sentence or two.
pub const BENCH_BODY_BYTES: usize = 200;
/// The same in the `restart` scenario, as the size targets are given for it.
pub const BENCH_RESTART_BODY_BYTES: usize = 150;
/// The longest text: above it frames no longer fit the read buffer.
pub const BENCH_BODY_BYTES_MAX: usize = 20_000;
/// Unanswered sends of one client in the `send` scenario: someone who types fast, or a bot.
pub const BENCH_SEND_WINDOW: usize = 8;
/// Unanswered sends of one connection when as many as possible are wanted: what the server allows.
pub const BENCH_FILL_WINDOW: usize = 64;
/// Messages of one channel that may be on their way to its members: bounds what queues in the server, so that nobody is
/// closed as slow, and with it the latency at full speed.
pub const BENCH_FANOUT_WINDOW: u64 = 48;
/// Connections that store messages before a measurement.
pub const BENCH_FILL_CONNECTIONS: usize = 8;
/// Uses of one invitation: what the API allows.
pub const BENCH_INVITE_USES: usize = 1_000;
/// People that join at the same time: password hashing keeps one core busy each.
pub const BENCH_SETUP_CONNECTIONS: usize = 2;
/// WebSockets that are opened at the same time: below the listener's backlog.
pub const BENCH_OPENING_MAX: usize = 64;
/// Connections from one loopback address: below the number of ephemeral ports (28,232 by default).
pub const BENCH_CONNECTIONS_PER_ADDRESS: usize = 20_000;
/// Bytes read at once, for all sockets of the thread: fits the second-level cache.
pub const BENCH_READ_BYTES: usize = 256 * 1024;
/// The longest frame that a server may send to the load generator.
pub const BENCH_FRAME_BYTES_MAX: usize = 256 * 1024;
/// The longest HTTP answer: a page of 200 of the longest texts fits.
pub const BENCH_RESPONSE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a connection and its hello may take: the idle scenario opens thousands on a busy machine.
pub const BENCH_CONNECT_SECONDS_MAX: u64 = 30;
/// How often a request is made again when the server is busy.
pub const BENCH_RETRIES_MAX: u32 = 20;
/// How long a server may take to start: ten million messages may have to be recovered.
pub const BENCH_START_SECONDS_MAX: u64 = 300;
/// How long a server may take to end: a final checkpoint, and the promise is 10 s.
pub const BENCH_END_SECONDS_MAX: u64 = 60;
/// How often the state of a server that starts or ends is looked at: the resolution of `ready_ms`.
pub const BENCH_POLL_MS: u64 = 2;
/// How long the last answers and deliveries are waited for after the last send.
pub const BENCH_DRAIN_SECONDS_MAX: u64 = 60;
/// How long memory may take to stop changing before it is read.
pub const BENCH_SETTLE_SECONDS_MAX: u64 = 10;
/// Messages in a page that a check reads: what the API allows.
pub const BENCH_PAGE_MAX: u64 = 200;
/// Pages that are compared message by message after a restart, beside the counts of all channels.
pub const BENCH_SAMPLE_PAGES: usize = 500;
/// Faults that are told in words; all are counted.
pub const BENCH_FAULTS_TOLD_MAX: usize = 5;
/// How long a command that the load generator runs may take: a switchover waits until it is done, joining fetches nothing.
pub const BENCH_COMMAND_SECONDS_MAX: u64 = 60;
/// Addresses of nodes that are remembered: a pair has two, and each may be known under a second name.
pub const BENCH_NODES_MAX: usize = 8;
/// Connections that are tried at the same time on a node of which nobody knows whether it takes any: one that hangs there
/// and one that is quick; more would take the processors from a node that is about to take over.
pub const BENCH_TRIES_MAX: usize = 2;
/// The pause after a try that failed: the resolution of a gap that is measured.
pub const BENCH_TRY_MS: u64 = 50;
/// How long a try may take: a paused machine never answers, and a loaded one needs some hundred milliseconds.
pub const BENCH_TRY_MS_MAX: u64 = 2_000;
/// How long a lost connection is tried again: longer than any takeover, and than the start of a server with much stored.
pub const BENCH_FOLLOW_SECONDS_MAX: u64 = 120;
/// Rounds of the `failover` scenario: enough to see a distribution within minutes.
pub const BENCH_FAILOVER_ROUNDS: u64 = 10;
/// People in the `failover` scenario: fifty pairs that write one message after the other.
pub const BENCH_FAILOVER_CLIENTS: usize = 100;
/// Sends a second while a disk is filled: a disk in memory has room for minutes of these, not of the full speed.
pub const BENCH_DISK_FULL_RATE: u64 = 1_000;
/// The least load before a fault; the moment is chosen at random in as much time again.
pub const BENCH_FAULT_AFTER_MS: u64 = 1_000;
/// How long a paused or cut-off active stays so, at least: longer than any takeover without a witness.
pub const BENCH_FAULT_LASTS_MS: u64 = 8_000;
/// How long the load goes on after another node took over, before the repair.
pub const BENCH_SETTLED_MS: u64 = 1_000;
/// How long a takeover may take before the round is given up.
pub const BENCH_TAKEOVER_SECONDS_MAX: u64 = 60;
/// How long a pair may take to be protected: a node that comes back may have to fetch everything.
pub const BENCH_PROTECTED_SECONDS_MAX: u64 = 300;
/// How often the state of a pair is asked for.
pub const BENCH_STATUS_MS: u64 = 100;
/// Size of the disks in memory of a run that fills them.
pub const BENCH_SMALL_DISK_MIB: u64 = 1_024;
/// What a filled disk has left: below every reserve.
pub const BENCH_FILLED_FREE_MIB: u64 = 16;
/// Bytes that a forwarder between two members reads at once.
pub const BENCH_FORWARD_BYTES: usize = 64 * 1024;
/// Times that the opener of a connection is looked up in the kernel's tables, which may miss an entry that is there.
pub const BENCH_OWNER_TRIES_MAX: usize = 10;
/// Ports that are tried for a member: each is asked for beforehand, and others may take one meanwhile.
pub const BENCH_PORT_TRIES_MAX: usize = 200;
/// The time between two lines of progress on a terminal.
pub const BENCH_PROGRESS_TERMINAL_MS: u64 = 500;
/// The time between two lines of progress in a file.
pub const BENCH_PROGRESS_LOG_MS: u64 = 5_000;

// The pair

/// Between two heartbeats: four can be lost before a second has passed, and two hundred bytes a second cost nothing.
pub const PAIR_HEARTBEAT_MS: u64 = 250;
/// Silence of the active after which the standby stands: six heartbeats, more than a pause of a busy disk.
pub const PAIR_FAIL_AFTER_MS: u64 = 1_500;
/// How long a record waits for the standby before the active asks to acknowledge alone: people notice more than a second.
pub const PAIR_SOLO_AFTER_MS: u64 = 1_000;
/// Silence of both others after which an active calls itself isolated: longer than `PAIR_FAIL_AFTER_MS`, so that the
/// other side was promoted when clients are sent there.
pub const PAIR_LEASE_MS: u64 = 2_000;
/// Without a witness: silence after which a standby promotes itself. Longer than with one, as nobody else is asked.
pub const PAIR_PROMOTE_AFTER_MS: u64 = 4_000;
/// How long writes are held for a planned switchover: what section 1 of the design allows it to take.
pub const PAIR_SWITCHOVER_MS: u64 = 1_000;
// ---- the pair: links between its members ----

/// The link protocol that this build speaks at most: 2 says on a control link what was heard on it.
pub const PEER_PROTOCOL: u32 = 2;
/// The first link protocol in which a member says on a control link how many messages it has heard.
pub const PEER_PROTOCOL_HEARD: u32 = 2;
/// The oldest link protocol that it still speaks: during an upgrade the other member is one version behind.
pub const PEER_PROTOCOL_MIN: u32 = 1;
/// Bytes of a hello, a welcome or a refusal: names, an address, a sentence. It is read from strangers, so it is small.
pub const PEER_HELLO_BYTES_MAX: usize = 4 << 10;
/// Bytes of a control message; the largest one has about 150.
pub const PEER_CONTROL_BYTES_MAX: usize = 4 << 10;
/// Bytes of a message on a log link: a log frame of 4 MiB, or several smaller ones, with its head.
pub const PEER_LOG_BYTES_MAX: usize = 8 << 20;
/// Bytes of a message on a snapshot link: a chunk of 1 MiB, or the manifest of a large state.
pub const PEER_SNAPSHOT_BYTES_MAX: usize = 4 << 20;
/// Bytes of a message on a blob link: a part, or a page of a list.
pub const PEER_BLOB_BYTES_MAX: usize = 1 << 20;
/// Bytes of one part of a blob: large enough for speed, small enough that parallel blobs share a slow link fairly.
pub const PEER_BLOB_PART_BYTES_MAX: usize = 256 << 10;
/// Blobs in one page of a list: 36 bytes each on the wire, 160 KiB in all.
pub const PEER_BLOB_LIST_MAX: u32 = 4_096;
/// Bytes of a message on a salvage link: one record with the largest payload (1 MiB), or many small ones.
pub const PEER_SALVAGE_BYTES_MAX: usize = 2 << 20;
/// Records in one salvage batch: each is answered for itself.
pub const PEER_SALVAGE_ITEMS_MAX: usize = 1_024;
/// Bytes of a message on a join link: certificates, keys and the pair's settings. Read from strangers who may hold a token.
pub const PEER_JOIN_BYTES_MAX: usize = 64 << 10;
/// Bytes of a program version, as a peer tells it.
pub const PEER_VERSION_BYTES_MAX: usize = 64;
/// Bytes of an address or an URL, as a peer tells it: a DNS name has at most 253.
pub const PEER_ADDRESS_BYTES_MAX: usize = 300;
/// Addresses that a member has: networks that two machines share.
pub const PEER_ADDRESSES_MAX: usize = 8;
/// Bytes of the name that a joining machine gives itself; a host name has at most 64.
pub const PEER_NAME_BYTES_MAX: usize = 128;
/// Bytes of a file name inside a snapshot.
pub const PEER_FILE_NAME_BYTES_MAX: usize = 128;
/// Bytes of a refusal's stable code.
pub const PEER_CODE_BYTES_MAX: usize = 64;
/// Bytes of a refusal's text.
pub const PEER_TEXT_BYTES_MAX: usize = 512;
/// Bytes of a certificate, a key or a signing request in DER; ours have about 500.
pub const PEER_DER_BYTES_MAX: usize = 4 << 10;
/// Certificates that a member shows: its own and the CA's.
pub const PEER_CHAIN_CERTIFICATES_MAX: usize = 4;
/// Bytes of the pair's settings as they are handed to a joining member.
pub const PEER_SETTINGS_BYTES_MAX: usize = 32 << 10;
/// Bytes of a diverged tail's id.
pub const PEER_TAIL_ID_BYTES_MAX: usize = 64;

/// Bytes that may wait to be written to one link: two of the largest messages, so that the next is prepared while one is
/// on its way. More is a caller that never flushes.
pub const PEER_QUEUE_BYTES_MAX: usize = 2 * PEER_LOG_BYTES_MAX;
/// Payloads from this size on are handed to the connection as they are; smaller ones are cheaper to copy beside the head.
pub const PEER_COPY_BYTES_MAX: usize = 4 << 10;
/// How long connecting may take: a LAN answers within milliseconds, a dropped SYN is sent again after 1 and 3 s. Above it
/// the other address is tried.
pub const PEER_CONNECT_MS_MAX: u64 = 3_000;
/// How long the TLS handshake, and after it the hello, may take each: slow machines take 20 ms.
pub const PEER_HANDSHAKE_MS_MAX: u64 = 5_000;
/// How long a refused peer is given to read why.
pub const PEER_REFUSAL_MS_MAX: u64 = 1_000;
/// Handshakes at once from all addresses. A member needs a handful; the rest is closed at once.
pub const PEER_HANDSHAKES_MAX: usize = 64;
/// Handshakes at once from one address, so that one stranger cannot take all.
pub const PEER_HANDSHAKES_PER_ADDRESS_MAX: usize = 16;
/// Links of one member at once: control, log, a snapshot, and four blobs, each perhaps once more while an old one dies.
pub const PEER_LINKS_PER_MEMBER_MAX: usize = 24;
/// Joining links at once: one person joins one machine.
pub const PEER_JOINS_MAX: usize = 4;
/// Milliseconds that sent bytes may stay unacknowledged before the system gives the connection up (TCP_USER_TIMEOUT): the
/// protocol notices silence itself, much earlier; this only frees what a vanished machine leaves behind.
pub const PEER_TCP_USER_TIMEOUT_MS: u32 = 15_000;
/// Seconds of silence before the system probes a connection, and between two probes.
pub const PEER_TCP_KEEPALIVE_SECONDS: u64 = 5;
/// Probes that may stay unanswered.
pub const PEER_TCP_KEEPALIVE_PROBES: u32 = 3;
/// Connections that may wait for the accept loop of the peer port.
pub const PEER_BACKLOG: u32 = 128;

/// Days that the pair's CA is valid: longer than any pair, as another CA means to join anew.
pub const PAIR_CA_DAYS: u64 = 10_950;
/// Days that a member's certificate is valid: longer than any witness, which cannot renew its own.
pub const PAIR_CERTIFICATE_DAYS: u64 = 3_650;
/// Days before its end from which on a data node renews its certificate: it waits for the other members all this time.
pub const PAIR_RENEW_DAYS: i64 = 365;
/// Days before an end that was not put off from which on people are told.
pub const PAIR_CERTIFICATE_WARN_DAYS: i64 = 90;
/// How often a node looks at its certificate.
pub const PAIR_RENEW_LOOK_SECONDS: u64 = 3_600;
/// How often it looks whether the pair's settings name the new one, and tells the active of it again.
pub const PAIR_RENEW_PENDING_MS: u64 = 1_000;
/// How long the pair's settings name a new certificate before it is shown: a witness dials again within a second when the
/// settings change, and learns of it then.
pub const PAIR_RENEW_SETTLE_MS: u64 = 3_000;
/// How often the log is told of a certificate that ends.
pub const PAIR_RENEW_WARN_SECONDS: u64 = 86_400;
/// Days that they are back-dated: a machine whose clock is some weeks behind can still join and be told of its clock.
pub const PAIR_BACKDATE_DAYS: u64 = 30;
/// Minutes for which an invitation into the pair is valid: long enough to walk to the other machine.
pub const PAIR_INVITE_MINUTES: u64 = 15;
/// Invitations into the pair that may be open: a standby, a witness, and each once more after a mistake.
pub const PAIR_INVITES_MAX: usize = 4;
/// Characters of a pasted invitation that are looked at; ours has about 300.
pub const PAIR_INVITE_CHARS_MAX: usize = 8_192;
/// Wrong tokens of one address before it must wait.
pub const PAIR_JOIN_BURST: u32 = 5;
/// Seconds until an address may try once more.
pub const PAIR_JOIN_REFILL_SECONDS: u32 = 10;
/// Wrong tokens of all addresses together before everybody must wait.
pub const PAIR_JOIN_ALL_BURST: u32 = 100;
/// Seconds until one more is allowed to all together.
pub const PAIR_JOIN_ALL_REFILL_SECONDS: u32 = 1;
/// Addresses that the limiter remembers.
pub const PAIR_JOIN_BUCKETS_MAX: usize = 1_024;
/// How long the whole joining may take on either side: the log command that admits a member waits for a sync.
pub const PAIR_JOIN_SECONDS_MAX: u64 = 30;
// ---- the pair ----

/// How long a hook may take unless told otherwise: moving an address takes milliseconds, a careful script some seconds.
pub const HOOK_TIMEOUT_SECONDS_DEFAULT: u64 = 20;
/// Bytes of a hook's output that go into the log.
pub const HOOK_OUTPUT_BYTES_MAX: usize = 4_096;
/// How long a reference address or a peer may take to answer a probe, in milliseconds: well below `promote_after`. For a
/// peer the time that its packets take comes on top.
pub const PROBE_MS: u64 = 800;
/// Bytes of records that were received and are not durable yet: bounds a standby's memory, and pushes back on the active.
pub const FOLLOW_BYTES_MAX: usize = 32 << 20;
/// How long a follower waits before it connects again.
pub const FOLLOW_RETRY_MS: u64 = 100;
/// The same after it had no room or was sent what does not fit: both do not change quickly.
pub const FOLLOW_RETRY_SLOW_MS: u64 = 1_000;
/// An empty log that is further behind than this starts from a snapshot instead of the log.
pub const BOOTSTRAP_RECORDS: u64 = 10_000;
/// Bytes of records sent at once.
pub const SHIP_BYTES: usize = 1 << 20;
/// How often an open link is compared with the settings: a witness learns of a new standby within this time, and a standby
/// that it does not know has no vote.
pub const MEMBERS_LOOK_MS: u64 = 250;
/// How often the active tells a standby how far it is when there are no records to send.
pub const SHIP_BEAT_MS: u64 = 250;
/// How long a follower may take between two questions about the log.
pub const LOG_LINK_IDLE_MS: u64 = 30_000;
/// Messages that may wait for one control link: some seconds of heartbeats.
pub const CONTROL_QUEUE_MAX: usize = 64;
/// How long to wait before a control link is dialled again; doubles up to the next.
pub const CONTROL_RETRY_MS: u64 = 100;
/// The longest such wait: a peer that returns is found within it.
pub const CONTROL_RETRY_MS_MAX: u64 = 1_000;
/// How long a heartbeat may take to leave; then the link is given up and dialled again.
pub const CONTROL_SEND_MS_MAX: u64 = 1_000;
/// Happenings of the pair that the status shows, and that may wait for the audit trail.
pub const PAIR_NOTICES_MAX: usize = 64;
/// How long the active may take to make a snapshot for a new standby: ten million messages take about a minute.
pub const SNAPSHOT_WAIT_SECONDS_MAX: u64 = 900;
/// Links over which a new standby fetches at once: enough to fill a gigabit, few enough to leave the active its cores.
pub const BOOTSTRAP_LINKS: usize = 4;
/// Blobs in one page of a list.
pub const BLOB_LIST_MAX: u32 = 4_096;
/// Bytes of a blob sent at once.
pub const BLOB_PART_BYTES: usize = 256 << 10;
/// Moments of which it is remembered how long the log was: ten minutes of quarter seconds in which it grew.
pub const LAG_SAMPLES_MAX: usize = 2_400;
/// How often a returned node looks whether it has something to propose again.
pub const SALVAGE_LOOK_MS: u64 = 1_000;
/// Records of a diverged tail in one message. They are proposed together: enough to share a sync, few enough that the sends
/// of people behind them wait some milliseconds only.
pub const SALVAGE_BATCH_ITEMS: usize = 256;
/// How often the log is told how far a tail is.
pub const SALVAGE_TELL_MS: u64 = 3_000;
/// How long a switchover or a forced promotion is waited for before the operator is told that its outcome is open.
pub const SWITCHOVER_WAIT_MS_MAX: u64 = 10_000;
/// How often it is looked at meanwhile.
pub const SWITCHOVER_LOOK_MS: u64 = 20;
/// How long a stopping node waits until its last word to the others has left: one link may be down.
pub const LEAVE_MS_MAX: u64 = 200;
/// How often a node looks whether its disk takes records: a fraction of the second after which the disk is asked again.
pub const ROOM_LOOK_MS: u64 = 100;
/// How long an active whose disk is full waits before it tries again to hand over: an attempt that fails takes a second.
pub const ROOM_RETRY_MS: u64 = 5_000;
/// How long the note of a switchover in the audit trail is waited for: the switchover does not depend on it.
pub const SWITCHOVER_NOTE_MS_MAX: u64 = 1_000;
/// How long a server that is told to stop tries to hand over to the standby first.
pub const SHUTDOWN_HAND_OVER_MS: u64 = 1_500;
/// Messages of other members, and happenings on this node, that may wait for the protocol: seconds of heartbeats.
pub const DRIVER_EVENTS_MAX: usize = 1_024;
/// How long a control link may take to be made: three round trips of 500 ms and the work in between, twice over. A dead
/// address costs nothing else meanwhile: every address has a link of its own.
pub const CONTROL_DIAL_MS_MAX: u64 = 3_000;
/// How much sooner one address of a member is tried than the next one: a living one answers in this time on any network
/// but the slowest, and there both are tried.
pub const DIAL_HEAD_START_MS: u64 = 250;
/// How often the active looks whether the pair's settings say of the members what these say of themselves.
pub const PAIR_TRUTH_MS: u64 = 2_000;
/// Bytes of one frame's records in an exported range of the log: large enough to compress well, small enough that whoever
/// looks for one record unpacks little.
pub const LOG_EXPORT_FRAME_BYTES: usize = 256 << 10;
/// How often it is looked whether a local snapshot is due and the log can be trimmed.
pub const UPKEEP_EVERY_SECONDS: u64 = 60;
/// A local snapshot is made once a day, ...
pub const SNAPSHOT_EVERY_MS: u64 = 24 * 3_600_000;
/// ... if there is anything worth it: as many records as lie between two state hashes.
pub const SNAPSHOT_RECORDS_MIN: u64 = 1_024;
/// ... and when the log since the last one has grown to this: a rebuild replays it in some minutes.
pub const SNAPSHOT_LOG_BYTES: u64 = 1 << 30;
/// Records before the standby's end that the log keeps for it: it compares positions there when it returns.
pub const LOG_KEPT_RECORDS: u64 = 10_000;
/// The log is trimmed below what the backups have when the free space comes this near to the reserve, in percent of it.
pub const DISK_PRESSED_PERCENT: u64 = 50;
