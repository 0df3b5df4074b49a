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

/// Note that everything before came out of a backup: the first command of a restored log. Only the node itself says so.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NoteRestore {
    /// The backup's name.
    #[prost(string, tag = "1")]
    pub backup: String,
    /// The last record that was restored.
    #[prost(uint64, tag = "2")]
    pub index: u64,
    /// When that record was proposed, in Unix milliseconds; 0 when there was none.
    #[prost(uint64, tag = "3")]
    pub at_ms: u64,
}

/// Put texts of messages back that a backup still has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RestoreMessages {
    /// Where.
    #[prost(fixed64, tag = "1")]
    pub channel: u64,
    /// As they were at this time, in Unix milliseconds.
    #[prost(uint64, tag = "2")]
    pub as_of_ms: u64,
    /// The backup's name.
    #[prost(string, tag = "3")]
    pub backup: String,
    /// Also where somebody wrote a newer text since.
    #[prost(bool, tag = "4")]
    pub overwrite: bool,
    /// The messages, each once.
    #[prost(message, repeated, tag = "5")]
    pub messages: Vec<RestoredMessage>,
}

/// A message as a backup has it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RestoredMessage {
    /// Its sequence number in the channel.
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    /// Its id.
    #[prost(fixed64, tag = "2")]
    pub id: u64,
    /// Its Markdown then.
    #[prost(string, tag = "3")]
    pub body: String,
}
