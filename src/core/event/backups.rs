//! The backups' settings as people see them. Secrets have no field here, only whether they are set.

use serde::Serialize;
use utoipa::ToSchema;

use crate::core::rows::{self, BackupPlace, ScheduledKind, Secret};

/// Where a target is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = BackupPlaceView)]
pub enum BackupPlaceView {
    /// A folder of the machine that makes the backup.
    Directory {
        /// Its absolute path.
        path: String,
    },
    /// A bucket of an S3-compatible store.
    S3 {
        /// The store's URL.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// The region.
        region: String,
        /// A folder within the bucket.
        prefix: String,
        /// The access key's id.
        access_key: String,
        /// Whether its secret is set.
        secret_set: bool,
        /// Certificates (PEM) of an authority that is trusted for this store; empty: the machine's own trust counts alone.
        ca_pem: String,
    },
    /// A folder on a WebDAV server.
    Webdav {
        /// The folder's URL.
        url: String,
        /// The user.
        user: String,
        /// Whether the password is set.
        password_set: bool,
        /// Certificates (PEM) of an authority that is trusted for this server; empty: the machine's own trust counts alone.
        ca_pem: String,
    },
    /// A folder on an SSH server.
    Sftp {
        /// The host's name or address.
        host: String,
        /// The port.
        port: u32,
        /// The user.
        user: String,
        /// The folder.
        path: String,
        /// The fingerprint of the host's key.
        host_key: String,
        /// Whether a password is set.
        password_set: bool,
        /// Whether a private key is set.
        private_key_set: bool,
    },
}

impl From<&BackupPlace> for BackupPlaceView {
    fn from(place: &BackupPlace) -> Self {
        let set = |secret: &Option<Secret>| Secret::is_set(secret.as_ref());
        match place {
            BackupPlace::Directory(place) => Self::Directory { path: place.path.clone() },
            BackupPlace::S3(place) => Self::S3 {
                endpoint: place.endpoint.clone(),
                bucket: place.bucket.clone(),
                region: place.region.clone(),
                prefix: place.prefix.clone(),
                access_key: place.access_key.clone(),
                secret_set: set(&place.secret),
                ca_pem: place.ca_pem.clone(),
            },
            BackupPlace::Webdav(place) => Self::Webdav {
                url: place.url.clone(),
                user: place.user.clone(),
                password_set: set(&place.password),
                ca_pem: place.ca_pem.clone(),
            },
            BackupPlace::Sftp(place) => Self::Sftp {
                host: place.host.clone(),
                port: place.port,
                user: place.user.clone(),
                path: place.path.clone(),
                host_key: place.host_key.clone(),
                password_set: set(&place.password),
                private_key_set: set(&place.private_key),
            },
        }
    }
}

/// A place that holds backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BackupTarget {
    /// What people call it; unique.
    pub name: String,
    /// Nothing on it is ever deleted by the server.
    pub append_only: bool,
    /// Backups go there.
    pub enabled: bool,
    /// Where it is.
    pub place: BackupPlaceView,
}

/// When backups are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BackupSchedule {
    /// What people call it; unique.
    pub name: String,
    /// The moments, in the organisation's time zone.
    pub calendar: String,
    /// What is made.
    pub kind: ScheduledKind,
    /// The targets by name; empty: all.
    pub targets: Vec<String>,
    /// It counts.
    pub enabled: bool,
}

/// Which backups are kept. A backup that any rule keeps is kept; all 0: all are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BackupRetention {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of so many hours.
    pub hourly: u32,
    /// The newest of each of so many days.
    pub daily: u32,
    /// The newest of each of so many weeks.
    pub weekly: u32,
    /// The newest of each of so many months.
    pub monthly: u32,
}

impl From<rows::BackupRetention> for BackupRetention {
    fn from(row: rows::BackupRetention) -> Self {
        let rows::BackupRetention { last, hourly, daily, weekly, monthly } = row;
        Self { last, hourly, daily, weekly, monthly }
    }
}

impl From<BackupRetention> for rows::BackupRetention {
    fn from(view: BackupRetention) -> Self {
        let BackupRetention { last, hourly, daily, weekly, monthly } = view;
        Self { last, hourly, daily, weekly, monthly }
    }
}

/// The settings of the backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Backups {
    /// For `If-Match`.
    pub version: u64,
    /// Where backups go.
    pub targets: Vec<BackupTarget>,
    /// Backups must be encrypted: without a public key none is made.
    pub encrypted: bool,
    /// The public keys (`age1…`) that they are encrypted for; empty: they are not.
    pub recipients: Vec<String>,
    /// When they are made.
    pub schedules: Vec<BackupSchedule>,
    /// The log goes to all targets every minute.
    pub continuous: bool,
    /// Which are kept.
    pub retention: BackupRetention,
    /// When the newest one is restored for a test; empty: never by itself.
    pub drill: String,
    /// An alarm when a target has had no backup for so many hours; 0: none.
    pub alarm_backup_hours: u32,
    /// An alarm when no drill has succeeded for so many days; 0: none.
    pub alarm_drill_days: u32,
    /// Nothing is made by itself.
    pub paused: bool,
    /// Until then, in Unix milliseconds; null: until somebody says so.
    pub paused_until_ms: Option<u64>,
    /// Whether there is a key that signs manifests.
    pub signing_key_set: bool,
}

impl From<&rows::Backups> for Backups {
    fn from(row: &rows::Backups) -> Self {
        let target = |row: &rows::BackupTarget| {
            let place = row.place.as_ref().map(BackupPlaceView::from);
            Some(BackupTarget {
                name: row.name.clone(),
                append_only: row.append_only,
                enabled: row.enabled,
                place: place?,
            })
        };
        let schedule = |row: &rows::BackupSchedule| BackupSchedule {
            name: row.name.clone(),
            calendar: row.calendar.clone(),
            kind: row.kind(),
            targets: row.targets.clone(),
            enabled: row.enabled,
        };
        Self {
            version: row.version,
            targets: row.targets.iter().filter_map(target).collect(),
            encrypted: row.encrypted,
            recipients: row.recipients.clone(),
            schedules: row.schedules.iter().map(schedule).collect(),
            continuous: row.continuous,
            retention: row.retention.unwrap_or_default().into(),
            drill: row.drill.clone(),
            alarm_backup_hours: row.alarm_backup_hours,
            alarm_drill_days: row.alarm_drill_days,
            paused: row.paused,
            paused_until_ms: (row.paused && row.paused_until_ms > 0).then_some(row.paused_until_ms),
            signing_key_set: Secret::is_set(row.signing_key.as_ref()),
        }
    }
}
