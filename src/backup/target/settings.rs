//! Opens a target from its settings. One place for all kinds. Must never put a secret into an error.

use std::path::Path;

use super::{Patience, S3Settings, SftpSettings, Target, TargetError, WebdavSettings};
use crate::core::rows::Secret;

/// Where a target is: the same shape as in the settings of the backups.
pub use crate::core::rows::BackupPlace as TargetSettings;

/// Opens a target. Called within a tokio runtime, from a thread that may block.
///
/// # Errors
/// [`TargetError`] when the settings cannot be or the place does not answer. A remote target is first asked when it is used.
pub fn open(settings: &TargetSettings) -> Result<Target, TargetError> {
    open_with(settings, Patience::default())
}

/// Opens a target, as [`open`] does, with a patience of its own for remote ones.
///
/// # Errors
/// As [`open`].
pub fn open_with(settings: &TargetSettings, patience: Patience) -> Result<Target, TargetError> {
    let secret = |secret: &Option<Secret>| Secret::as_text(secret.as_ref()).to_owned();
    match settings {
        TargetSettings::Directory(place) => Target::directory(Path::new(&place.path)),
        TargetSettings::S3(place) => Target::s3(&S3Settings {
            endpoint: place.endpoint.clone(),
            bucket: place.bucket.clone(),
            region: place.region.clone(),
            prefix: place.prefix.clone(),
            access_key: place.access_key.clone(),
            secret: secret(&place.secret),
            ca_pem: place.ca_pem.clone(),
            patience,
        }),
        TargetSettings::Webdav(place) => Target::webdav(&WebdavSettings {
            url: place.url.clone(),
            user: place.user.clone(),
            password: secret(&place.password),
            ca_pem: place.ca_pem.clone(),
            patience,
        }),
        TargetSettings::Sftp(place) => Target::sftp(&SftpSettings {
            host: place.host.clone(),
            port: u16::try_from(place.port).unwrap_or(0),
            user: place.user.clone(),
            password: secret(&place.password),
            private_key: secret(&place.private_key),
            path: place.path.clone(),
            host_key: place.host_key.clone(),
            patience,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rows::{DirectoryPlace, S3Place};

    #[test]
    fn settings_that_cannot_be_say_so() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let _entered = runtime.enter();
        let error = open(&TargetSettings::S3(S3Place::default())).unwrap_err();
        assert_eq!(error.code(), "target_bad_settings");
        let error =
            open(&TargetSettings::Directory(DirectoryPlace { path: "/nowhere/at/all".to_owned() })).unwrap_err();
        assert_eq!(error.code(), "target_not_there");
    }
}
