//! What admins send to change the settings of the backups, and the checks that the rules leave to the API: calendars, public
//! keys.

use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::api::ApiError;
use crate::backup::crypt::Recipient;
use crate::backup::schedule::Schedule;
use crate::backup::target::check_ca_pem;
use crate::core::event::BackupRetention;
use crate::core::refusal::RefusalCode;
use crate::core::rows::{self, BackupPlace, DirectoryPlace, S3Place, ScheduledKind, Secret, SftpPlace, WebdavPlace};

/// Where a target is. A secret that is absent stays as it is; an empty one is taken away.
#[derive(Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = BackupPlaceWanted)]
pub(super) enum PlaceSpec {
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
        #[serde(default)]
        region: String,
        /// A folder within the bucket.
        #[serde(default)]
        prefix: String,
        /// The access key's id.
        #[serde(default)]
        access_key: String,
        /// The access key's secret.
        secret: Option<String>,
        /// Certificates (PEM) of an authority that is trusted for this store beside those that the machine trusts.
        #[serde(default)]
        ca_pem: String,
    },
    /// A folder on a WebDAV server.
    Webdav {
        /// The folder's URL.
        url: String,
        /// The user.
        #[serde(default)]
        user: String,
        /// The password.
        password: Option<String>,
        /// Certificates (PEM) of an authority that is trusted for this server beside those that the machine trusts.
        #[serde(default)]
        ca_pem: String,
    },
    /// A folder on an SSH server.
    Sftp {
        /// The host's name or address.
        host: String,
        /// The port; 22 if absent.
        #[serde(default)]
        port: u32,
        /// The user.
        user: String,
        /// The folder.
        path: String,
        /// The fingerprint of the host's key, `SHA256:…`.
        host_key: String,
        /// The password.
        password: Option<String>,
        /// The private key in OpenSSH form.
        private_key: Option<String>,
    },
}

impl From<PlaceSpec> for BackupPlace {
    fn from(spec: PlaceSpec) -> Self {
        let secret = |text: Option<String>| text.map(|text| Secret::text(&text));
        match spec {
            PlaceSpec::Directory { path } => Self::Directory(DirectoryPlace { path }),
            PlaceSpec::S3 { endpoint, bucket, region, prefix, access_key, secret: key, ca_pem } => {
                Self::S3(S3Place { endpoint, bucket, region, prefix, access_key, secret: secret(key), ca_pem })
            }
            PlaceSpec::Webdav { url, user, password, ca_pem } => {
                Self::Webdav(WebdavPlace { url, user, password: secret(password), ca_pem })
            }
            PlaceSpec::Sftp { host, port, user, path, host_key, password, private_key } => Self::Sftp(SftpPlace {
                host,
                port: if port == 0 { 22 } else { port },
                user,
                password: secret(password),
                private_key: secret(private_key),
                path,
                host_key,
            }),
        }
    }
}

/// A target without its name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupTargetSpec)]
pub(super) struct TargetSpec {
    /// Nothing on it is ever deleted by the server.
    #[serde(default)]
    append_only: bool,
    /// Backups go there; true if absent.
    #[serde(default = "yes")]
    enabled: bool,
    /// Where it is.
    place: PlaceSpec,
}

const fn yes() -> bool {
    true
}

/// Refuses certificates that cannot be read now, not when the first backup fails.
fn check_ca(place: &PlaceSpec) -> Result<(), ApiError> {
    let (PlaceSpec::S3 { ca_pem, .. } | PlaceSpec::Webdav { ca_pem, .. }) = place else { return Ok(()) };
    check_ca_pem(ca_pem).map_err(|error| {
        let code = RefusalCode::BackupCaInvalid;
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code.as_str(), code.title())
            .with_detail(error.to_string())
            .with_field("ca_pem")
    })
}

impl TargetSpec {
    /// Adds it, or puts it in the place of the one of this name.
    pub(super) fn put(self, row: &mut rows::Backups, name: String) -> Result<(), ApiError> {
        let target = self.named(name)?;
        match row.targets.iter_mut().find(|before| before.name == target.name) {
            Some(before) => *before = target,
            None => row.targets.push(target),
        }
        Ok(())
    }

    fn named(self, name: String) -> Result<rows::BackupTarget, ApiError> {
        let Self { append_only, enabled, place } = self;
        check_ca(&place)?;
        Ok(rows::BackupTarget { name, append_only, enabled, place: Some(place.into()) })
    }
}

/// A target.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupTargetWanted)]
pub(super) struct TargetWanted {
    /// What people call it: small letters, digits, `-` and `_`.
    name: String,
    /// Nothing on it is ever deleted by the server.
    #[serde(default)]
    append_only: bool,
    /// Backups go there; true if absent.
    #[serde(default = "yes")]
    enabled: bool,
    /// Where it is.
    place: PlaceSpec,
}

/// When backups are made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupScheduleWanted)]
pub(super) struct ScheduleWanted {
    /// What people call it.
    name: String,
    /// `hourly`, `daily 02:00`, `weekly sun 02:00`, `monthly 1 02:00`, or five fields of cron.
    calendar: String,
    /// What is made.
    kind: ScheduledKind,
    /// The targets by name; empty: all.
    #[serde(default)]
    targets: Vec<String>,
    /// It counts; true if absent.
    #[serde(default = "yes")]
    enabled: bool,
}

/// What may be changed; what is absent stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = BackupSettingsPatch)]
pub(super) struct SettingsPatch {
    /// All targets, as they are to be.
    targets: Option<Vec<TargetWanted>>,
    /// Backups must be encrypted.
    encrypted: Option<bool>,
    /// The public keys (`age1…`).
    recipients: Option<Vec<String>>,
    /// All schedules, as they are to be.
    schedules: Option<Vec<ScheduleWanted>>,
    /// The log goes to all targets every minute.
    continuous: Option<bool>,
    /// Which backups are kept.
    retention: Option<BackupRetention>,
    /// When the newest backup is restored for a test; empty: never by itself.
    drill: Option<String>,
    /// An alarm when a target has had no backup for so many hours; 0: none.
    alarm_backup_hours: Option<u32>,
    /// An alarm when no drill has succeeded for so many days; 0: none.
    alarm_drill_days: Option<u32>,
}

impl SettingsPatch {
    /// Changes the settings; calendars are those of this time zone.
    pub(super) fn apply(self, row: &mut rows::Backups, zone: &str) -> Result<(), ApiError> {
        if let Some(targets) = self.targets {
            let target = |wanted: TargetWanted| {
                let TargetWanted { name, append_only, enabled, place } = wanted;
                TargetSpec { append_only, enabled, place }.named(name)
            };
            row.targets = targets.into_iter().map(target).collect::<Result<_, _>>()?;
        }
        if let Some(recipients) = self.recipients {
            row.recipients = recipients.iter().map(|text| recipient(text)).collect::<Result<_, _>>()?;
        }
        if let Some(schedules) = self.schedules {
            row.schedules = schedules.into_iter().map(|wanted| schedule(wanted, zone)).collect::<Result<_, _>>()?;
        }
        if let Some(drill) = self.drill {
            row.drill = if drill.trim().is_empty() { String::new() } else { calendar(&drill, zone)? };
        }
        row.encrypted = self.encrypted.unwrap_or(row.encrypted);
        row.continuous = self.continuous.unwrap_or(row.continuous);
        row.retention = self.retention.map(Into::into).or(row.retention);
        row.alarm_backup_hours = self.alarm_backup_hours.unwrap_or(row.alarm_backup_hours);
        row.alarm_drill_days = self.alarm_drill_days.unwrap_or(row.alarm_drill_days);
        Ok(())
    }
}

/// A public key in the form in which it is kept.
fn recipient(text: &str) -> Result<String, ApiError> {
    let key = text.parse::<Recipient>().map_err(|error| {
        let title = "This is no public key of age: it begins with age1.";
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_recipient_invalid", title)
            .with_detail(error.to_string())
    })?;
    Ok(key.to_string())
}

fn calendar(text: &str, zone: &str) -> Result<String, ApiError> {
    let title = "This is no calendar.";
    let refused = |error: crate::backup::schedule::ScheduleError| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.code(), title).with_detail(error.to_string())
    };
    Schedule::new(text, zone).map_err(refused)?;
    Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn schedule(wanted: ScheduleWanted, zone: &str) -> Result<rows::BackupSchedule, ApiError> {
    let ScheduleWanted { name, calendar: text, kind, targets, enabled } = wanted;
    Ok(rows::BackupSchedule { name, calendar: calendar(&text, zone)?, kind: kind.into(), targets, enabled })
}
