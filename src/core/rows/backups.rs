//! The row of the backups' settings: where they go, when, for whom they are encrypted. Shapes only. Must never show a secret:
//! what is secret is a [`Secret`], whose debug form says only that it is there.

#![allow(clippy::too_many_arguments, reason = "the derived decoder of an enum takes five")]

/// A password, a key: never shown, never given out.
#[derive(Clone, PartialEq, Eq, prost::Message)]
#[prost(skip_debug)]
pub struct Secret {
    /// What it is; empty: none.
    #[prost(bytes = "bytes", tag = "1")]
    pub bytes: bytes::Bytes,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.bytes.is_empty() { "Secret(none)" } else { "Secret(set)" })
    }
}

impl Secret {
    /// A secret that is text.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self { bytes: bytes::Bytes::copy_from_slice(text.as_bytes()) }
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_set(secret: Option<&Self>) -> bool {
        secret.is_some_and(|secret| !secret.bytes.is_empty())
    }

    /// It as text; empty when there is none or it is no text.
    #[must_use]
    pub fn as_text(secret: Option<&Self>) -> &str {
        secret.and_then(|secret| std::str::from_utf8(&secret.bytes).ok()).unwrap_or_default()
    }
}

/// A folder of the machine that makes the backup.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct DirectoryPlace {
    /// Its absolute path.
    #[prost(string, tag = "1")]
    pub path: String,
}

/// A bucket of an S3-compatible store.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct S3Place {
    /// The store's URL.
    #[prost(string, tag = "1")]
    pub endpoint: String,
    /// The bucket.
    #[prost(string, tag = "2")]
    pub bucket: String,
    /// The region; stores without regions take any.
    #[prost(string, tag = "3")]
    pub region: String,
    /// A folder within the bucket; empty: the bucket itself.
    #[prost(string, tag = "4")]
    pub prefix: String,
    /// The access key's id.
    #[prost(string, tag = "5")]
    pub access_key: String,
    /// The access key's secret.
    #[prost(message, optional, tag = "6")]
    pub secret: Option<Secret>,
    /// Certificates (PEM) of an authority that is trusted for this store beside those that the machine trusts; may be empty.
    #[prost(string, tag = "7")]
    pub ca_pem: String,
}

/// A folder on a WebDAV server.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct WebdavPlace {
    /// The folder's URL.
    #[prost(string, tag = "1")]
    pub url: String,
    /// The user.
    #[prost(string, tag = "2")]
    pub user: String,
    /// The password.
    #[prost(message, optional, tag = "3")]
    pub password: Option<Secret>,
    /// Certificates (PEM) of an authority that is trusted for this server beside those that the machine trusts; may be empty.
    #[prost(string, tag = "4")]
    pub ca_pem: String,
}

/// A folder on an SSH server.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SftpPlace {
    /// The host's name or address.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The port; 0: 22.
    #[prost(uint32, tag = "2")]
    pub port: u32,
    /// The user.
    #[prost(string, tag = "3")]
    pub user: String,
    /// The password, if it is not a key.
    #[prost(message, optional, tag = "4")]
    pub password: Option<Secret>,
    /// The private key in OpenSSH form, if it is not a password.
    #[prost(message, optional, tag = "5")]
    pub private_key: Option<Secret>,
    /// The folder.
    #[prost(string, tag = "6")]
    pub path: String,
    /// The fingerprint of the host's key, `SHA256:…`: another host is not talked to.
    #[prost(string, tag = "7")]
    pub host_key: String,
}

/// Where a target is.
#[derive(Clone, PartialEq, Eq, prost::Oneof)]
pub enum BackupPlace {
    /// A folder of the machine that makes the backup: a disk, a mounted share, a USB stick.
    #[prost(message, tag = "4")]
    Directory(DirectoryPlace),
    /// A bucket of an S3-compatible store.
    #[prost(message, tag = "5")]
    S3(S3Place),
    /// A folder on a WebDAV server.
    #[prost(message, tag = "6")]
    Webdav(WebdavPlace),
    /// A folder on an SSH server.
    #[prost(message, tag = "7")]
    Sftp(SftpPlace),
}

/// A place that holds backups.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BackupTarget {
    /// What people call it; unique.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Nothing on it is ever deleted by the server.
    #[prost(bool, tag = "2")]
    pub append_only: bool,
    /// Backups go there.
    #[prost(bool, tag = "3")]
    pub enabled: bool,
    /// Where it is.
    #[prost(oneof = "BackupPlace", tags = "4, 5, 6, 7")]
    pub place: Option<BackupPlace>,
}

/// What a schedule makes.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    prost::Enumeration,
    serde::Serialize,
    serde::Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[repr(i32)]
pub enum ScheduledKind {
    /// What came since the backup before.
    Incremental = 0,
    /// A backup that rests on no other.
    Full = 1,
}

/// When backups are made.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct BackupSchedule {
    /// What people call it; unique.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The moments, in the organisation's time zone.
    #[prost(string, tag = "2")]
    pub calendar: String,
    /// What is made.
    #[prost(enumeration = "ScheduledKind", tag = "3")]
    pub kind: i32,
    /// The targets by name; empty: all.
    #[prost(string, repeated, tag = "4")]
    pub targets: Vec<String>,
    /// It counts.
    #[prost(bool, tag = "5")]
    pub enabled: bool,
}

/// Which backups are kept. A backup that any rule keeps is kept; all 0: all are.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct BackupRetention {
    /// So many of the newest.
    #[prost(uint32, tag = "1")]
    pub last: u32,
    /// The newest of each of so many hours.
    #[prost(uint32, tag = "2")]
    pub hourly: u32,
    /// The newest of each of so many days.
    #[prost(uint32, tag = "3")]
    pub daily: u32,
    /// The newest of each of so many weeks.
    #[prost(uint32, tag = "4")]
    pub weekly: u32,
    /// The newest of each of so many months.
    #[prost(uint32, tag = "5")]
    pub monthly: u32,
}

/// The settings of the backups.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Backups {
    /// Counts the changes; for `If-Match`.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Where backups go.
    #[prost(message, repeated, tag = "2")]
    pub targets: Vec<BackupTarget>,
    /// The public keys (`age1…`) that they are encrypted for; empty: they are not.
    #[prost(string, repeated, tag = "3")]
    pub recipients: Vec<String>,
    /// When they are made.
    #[prost(message, repeated, tag = "4")]
    pub schedules: Vec<BackupSchedule>,
    /// The log goes to all targets every minute.
    #[prost(bool, tag = "5")]
    pub continuous: bool,
    /// Which are kept.
    #[prost(message, optional, tag = "6")]
    pub retention: Option<BackupRetention>,
    /// When the newest one is restored for a test; empty: never by itself.
    #[prost(string, tag = "7")]
    pub drill: String,
    /// An alarm when a target has had no backup for so many hours; 0: none.
    #[prost(uint32, tag = "8")]
    pub alarm_backup_hours: u32,
    /// An alarm when no drill has succeeded for so many days; 0: none.
    #[prost(uint32, tag = "9")]
    pub alarm_drill_days: u32,
    /// Nothing is made by itself.
    #[prost(bool, tag = "10")]
    pub paused: bool,
    /// With `paused`: until then, in Unix milliseconds; 0: until somebody says so.
    #[prost(uint64, tag = "11")]
    pub paused_until_ms: u64,
    /// Backups must be encrypted: without a public key none is made.
    #[prost(bool, tag = "12")]
    pub encrypted: bool,
    /// The key that signs manifests and drill reports, PKCS#8.
    #[prost(message, optional, tag = "13")]
    pub signing_key: Option<Secret>,
}
