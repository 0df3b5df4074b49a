//! The commands about backups. Shapes only; `core::backups` has the rules.

/// Change the settings of the backups: the whole of them, as they are to be.
#[derive(Clone, PartialEq, prost::Message)]
pub struct UpdateBackups {
    /// The version that it is based on; 1 when nobody has changed them yet.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The settings. The version in them is not looked at; secrets that are absent stay.
    #[prost(message, optional, tag = "2")]
    pub settings: Option<crate::core::rows::Backups>,
}

/// What somebody may do with the backups, beside changing their settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum BackupAct {
    /// Began a backup.
    Run = 1,
    /// Began a check.
    Verify = 2,
    /// Began to prune.
    Prune = 3,
    /// Began a drill.
    Drill = 4,
    /// Stopped a job.
    Cancel = 5,
    /// Pinned a backup.
    Pin = 6,
    /// Took a pin away.
    Unpin = 7,
}

impl BackupAct {
    /// The name in the audit trail.
    #[must_use]
    pub const fn action(self) -> &'static str {
        match self {
            Self::Run => "backups.run",
            Self::Verify => "backups.verify",
            Self::Prune => "backups.prune",
            Self::Drill => "backups.drill",
            Self::Cancel => "backups.cancel",
            Self::Pin => "backups.pin",
            Self::Unpin => "backups.unpin",
        }
    }
}

/// Note what somebody did with the backups.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NoteBackup {
    /// What.
    #[prost(enumeration = "BackupAct", tag = "1")]
    pub what: i32,
    /// On which target.
    #[prost(string, tag = "2")]
    pub target: String,
    /// More of it: a backup's name, a job's number; without secrets.
    #[prost(string, tag = "3")]
    pub text: String,
}
