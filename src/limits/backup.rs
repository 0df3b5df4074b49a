//! Limits of backups and restores, each with its reason.

/// Bytes of a backup's manifest: half a million parts. It stops a damaged file from taking memory.
pub const BACKUP_MANIFEST_BYTES_MAX: usize = 64 << 20;
/// Bytes copied to or from a backup target at once: large enough for a remote store's round trips, times the parallel copies.
pub const BACKUP_COPY_BYTES: usize = 1 << 20;
/// How often one call to a backup target is tried again, with growing pauses, before the backup fails and is tried as a whole.
pub const BACKUP_RETRIES_MAX: usize = 4;
/// How long a backup target may take for one call or one piece, in seconds: a spun-down disk or a slow link wakes up in it.
pub const BACKUP_TARGET_TIMEOUT_SECONDS: u64 = 60;
/// The same while somebody waits for the test of a target: two tries end before a command gives up on the server.
pub const BACKUP_TEST_TIMEOUT_SECONDS: u64 = 10;
/// Backup targets: each costs its own copy of everything.
pub const BACKUP_TARGETS_MAX: usize = 8;
/// Backup schedules.
pub const BACKUP_SCHEDULES_MAX: usize = 16;
/// Public keys that backups are encrypted for: each part has a header line for each.
pub const BACKUP_RECIPIENTS_MAX: usize = 16;
/// Bytes of the name of a target or a schedule: it stands in commands and metrics.
pub const BACKUP_NAME_BYTES_MAX: usize = 32;
/// Bytes of any other text of the backups' settings: paths and URLs.
pub const BACKUP_TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of a file that describes a backup target, or has one of its secrets: a description, a key and certificates fit twice.
pub const BACKUP_TARGET_FILE_BYTES_MAX: u64 = 64 << 10;
/// Bytes of the certificates of a backup target's authority: a chain of five RSA certificates has about 10 KB.
pub const BACKUP_CA_BYTES_MAX: usize = 16 << 10;
/// Bytes of a password or private key: the longest RSA key in OpenSSH's form has about 6 KB.
pub const BACKUP_SECRET_BYTES_MAX: usize = 8 << 10;
/// Backups of one kind that a retention may keep.
pub const BACKUP_KEPT_MAX: u32 = 10_000;
/// A standby makes backups only while it heard the active node within this time.
pub const BACKUP_ACTIVE_HEARD_MS: u64 = 5_000;
/// The active node makes the backups itself when the standby has not been in step for this long: long enough that the standby
/// has noticed and given up, and that a restart of it does not move the work to and fro.
pub const BACKUP_TAKE_OVER_MS: u64 = 30_000;
/// A standby that is further behind than this catches up first.
pub const BACKUP_LAG_RECORDS_MAX: u64 = 100_000;
/// Between two runs of the continuous mode: a minute is what may be lost with both nodes.
pub const BACKUP_CONTINUOUS_SECONDS: u64 = 60;
/// How long a target is left alone after it failed; doubles each time.
pub const BACKUP_RETRY_SECONDS: u64 = 30;
/// The longest such time: a disk that was plugged in again is found within it.
pub const BACKUP_RETRY_SECONDS_MAX: u64 = 1_800;
/// A target that has not answered for this long is an alarm: a mount that is renewed, or a router, is back sooner.
pub const BACKUP_UNREACHABLE_SECONDS: u64 = 600;
/// A full backup whose state has less than this share of the one before is an alarm.
pub const BACKUP_SMALL_PERCENT: u64 = 50;
/// How often each target is looked at: what it holds, and whether it is there.
pub const BACKUP_LOOK_SECONDS: u64 = 60;
/// The same while somebody looks at the status of the backups.
pub const BACKUP_WATCHED_SECONDS: u64 = 5;
/// How often it is looked whether something is due.
pub const BACKUP_TICK_MS: u64 = 1_000;
/// Jobs that are remembered after they ended: some months of nightly ones on several targets.
pub const BACKUP_JOBS_KEPT: usize = 500;
/// Jobs that may wait: a person who clicks more often is told that it is busy.
pub const BACKUP_JOBS_WAITING_MAX: usize = 32;
/// Bytes of the file of jobs: far above what is kept; it stops a damaged file from taking memory.
pub const BACKUP_JOBS_FILE_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a backup's name in a command: a time, an index and a dash have 37.
pub const BACKUP_TITLE_BYTES_MAX: usize = 64;
/// Messages that one command puts back: the apply thread should not be held up by one record.
pub const RESTORE_MESSAGES_MAX: usize = 256;
/// Bytes of their texts together: half of the largest payload, so that the command fits with all that is around them.
pub const RESTORE_MESSAGES_BYTES_MAX: usize = 512 << 10;
/// The largest window of a zstd part that is unpacked, as a power of two: 128 MiB, what `zstd -d` takes without being asked.
pub const BACKUP_ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// By how much the number of the epoch grows with a restore: more than any history that was lost can have grown by, so that
/// whoever remembers that history notices.
pub const RESTORE_EPOCH_STEP: u64 = 1 << 20;
/// How long the first command of a restored log may take: two writes to the disk.
pub const RESTORE_NOTE_SECONDS_MAX: u64 = 60;
/// How long a server that was restored from its set-up page waits before it starts again: two looks of that page.
pub const RESTORE_LINGER_MS: u64 = 2_500;
/// Messages of a channel that are compared at once with what a backup has.
pub const RESTORE_PAGE_MESSAGES: usize = 1_024;
/// Messages that may be named when texts are put back; without names all of the channel are meant.
pub const RESTORE_NAMED_MESSAGES_MAX: usize = 10_000;
/// How often the command line asks the server how far a job is.
pub const RESTORE_LOOK_MS: u64 = 200;
/// Reports of drills that are looked at for the newest good one: more failures in a row are an alarm of their own.
pub const DRILLS_LOOKED_AT_MAX: usize = 16;
/// Parts of a backup that are stored or read at once: hides the round trips of a remote target, leaves the cores to senders.
pub const BACKUP_WORKERS_MAX: usize = 4;
/// zstd level of log parts and blob lists: log frames are compressed already, what is left to win is little.
pub const BACKUP_ZSTD_LEVEL: i32 = 3;
/// Bytes of a blob list unpacked: twelve million blobs. It stops a forged one from taking memory.
pub const BACKUP_BLOB_LIST_BYTES_MAX: u64 = 3 << 30;
/// Bytes of one line of a blob list; ours have about 250.
pub const BACKUP_BLOB_LINE_BYTES_MAX: u64 = 1 << 10;
/// Bytes between two reports of progress within one large part.
pub const BACKUP_PROGRESS_BYTES: u64 = 4 << 20;
/// Bytes of one additional file of the node in a backup (certificates, configuration): a few kilobytes each.
pub const BACKUP_EXTRA_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a file of keys; a key has 75 characters.
pub const BACKUP_KEY_FILE_BYTES_MAX: usize = 64 << 10;
/// How old a part without a manifest must be before it goes: longer than any backup takes that may still want it.
pub const BACKUP_ORPHAN_HOURS: u64 = 24;
/// Bytes of a drill's report that are read to see which backup it is of.
pub const BACKUP_DRILL_BYTES_MAX: usize = 1 << 20;
/// Bytes of one part of an upload to a store: S3 takes 10,000 parts, so that a file may have 80 GB; smaller files are sent, and
/// sent again, as a whole.
pub const BACKUP_PART_BYTES: usize = 8 << 20;
/// Threads that talk to remote backup targets: TLS and SSH of a gigabit link keep one busy.
pub const BACKUP_TARGET_THREADS: usize = 2;
/// Parts of one upload on their way at once: one fills while another is confirmed.
pub const BACKUP_PARTS_IN_FLIGHT: usize = 2;
/// Connections to one HTTP target that are kept for the next request.
pub const BACKUP_HTTP_IDLE_MAX: usize = 8;
/// Bytes of an error that an HTTP target may explain itself with.
pub const BACKUP_HTTP_ERROR_BYTES_MAX: usize = 64 << 10;
/// Bytes of one SFTP request: every server takes 32 KiB.
pub const BACKUP_SFTP_PIECE_BYTES: usize = 32 << 10;
/// SFTP requests of one file on their way at once: 1 MiB per round trip.
pub const BACKUP_SFTP_IN_FLIGHT: usize = 32;
/// Folders of an SFTP target that are read at once: `blobs/` has up to 65,792.
pub const BACKUP_SFTP_FOLDERS_IN_FLIGHT: usize = 16;
/// Seconds between two signs of life on an idle SSH link: routers forget links after some minutes.
pub const BACKUP_SSH_KEEPALIVE_SECONDS: u64 = 30;
/// How long the first pause before a target is tried again lasts, in milliseconds; doubles each time.
pub const BACKUP_RETRY_FIRST_MS: u64 = 1_000;
/// Bytes of the file that a probe writes: enough to measure, small enough to stay on an append-only target.
pub const BACKUP_PROBE_BYTES: usize = 256 << 10;
/// A target with less room than this is pointed out by its probe.
pub const BACKUP_PROBE_FREE_BYTES: u64 = 1 << 30;
/// How often a target is pruned after backups that were made by themselves.
pub const BACKUP_PRUNE_SECONDS: u64 = 3_600;
/// How long a server that stops waits for its backup jobs to notice.
pub const BACKUP_STOP_MS_MAX: u64 = 3_000;
/// Next runs that the status shows.
pub const BACKUP_NEXT_RUNS: usize = 5;
