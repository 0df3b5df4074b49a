//! Opens a target from its settings. One place for all kinds. Must never put a secret into an error.

use std::path::Path;

use super::{Target, TargetError};

/// Where a target is: the same shape as in the settings of the backups.
pub use crate::core::rows::BackupPlace as TargetSettings;

/// Opens a target. Called within a tokio runtime, from a thread that may block.
///
/// # Errors
/// [`TargetError`] when it does not answer; [`TargetError::NotBuilt`] for kinds that this build does not know.
pub fn open(settings: &TargetSettings) -> Result<Target, TargetError> {
    match settings {
        TargetSettings::Directory(place) => Target::directory(Path::new(&place.path)),
        TargetSettings::S3(_) => Err(TargetError::NotBuilt("s3")),
        TargetSettings::Webdav(_) => Err(TargetError::NotBuilt("webdav")),
        TargetSettings::Sftp(_) => Err(TargetError::NotBuilt("sftp")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rows::{DirectoryPlace, S3Place};

    #[test]
    fn kinds_that_are_not_built_say_so() {
        let error = open(&TargetSettings::S3(S3Place::default())).unwrap_err();
        assert_eq!(error.code(), "target_kind_not_built");
        let error =
            open(&TargetSettings::Directory(DirectoryPlace { path: "/nowhere/at/all".to_owned() })).unwrap_err();
        assert_eq!(error.code(), "target_not_there");
    }
}
