//! Where backups are, named on the command line for work without a server: a directory, or a file that describes a target. Must
//! never take a secret as an argument, as every user of the machine sees those, nor print one.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Deserialize;

use super::CliError;
use crate::backup::target::{self, Target, TargetError, TargetSettings};
use crate::core::rows::{DirectoryPlace, S3Place, Secret, SftpPlace, WebdavPlace};
use crate::limits::BACKUP_TARGET_FILE_BYTES_MAX;

/// How a target is described, for the help of every command that takes one.
pub(super) const TARGET_FILE_HELP: &str = "\
A target that is no directory is described in a file, with the names that the
settings of the server have. `holdfast backup target describe NAME` on the
server prints it; keep it beside the key of the backups.

  kind = \"s3\"                            kind = \"webdav\"
  endpoint = \"https://s3.lan\"            url = \"https://nas.lan/dav/holdfast\"
  bucket = \"holdfast\"                    user = \"backup\"
  prefix = \"chat\"      # optional        password_file = \"password.txt\"
  region = \"eu\"        # optional        ca_file = \"nas-ca.pem\"   # optional
  access_key = \"AKIA...\"
  secret_file = \"secret.txt\"             kind = \"sftp\"
  ca_file = \"ca.pem\"   # optional        host = \"backup.lan\"
                                         port = 22               # optional
  kind = \"directory\"                     user = \"holdfast\"
  path = \"/mnt/usb/backups\"              path = \"backups\"
                                         private_key_file = \"id_ed25519\"
                                         host_key = \"SHA256:...\"

Secrets are in files of their own (a relative path begins at the describing
file), or in the environment, which counts first: HOLDFAST_TARGET_SECRET,
HOLDFAST_TARGET_PASSWORD, HOLDFAST_TARGET_PRIVATE_KEY. `secret`, `password`,
`private_key` and `ca_pem` may also stand in the file itself: keep it private.
With a private key the password is its passphrase.";

/// Where a repository is.
#[derive(Clone, Debug, Default, Args)]
pub struct Place {
    /// A directory that holds a repository: manifests/, log/, snapshots/ (a copy of one will do)
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// A file that describes a target (S3, WebDAV, SFTP): needs no server
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub target_file: Option<PathBuf>,
}

impl Place {
    /// Whether one was named.
    pub(super) const fn is_given(&self) -> bool {
        self.from.is_some() || self.target_file.is_some()
    }

    /// Opens it. Called within a tokio runtime.
    pub(super) fn open(&self) -> Result<Target, CliError> {
        let settings = match (&self.from, &self.target_file) {
            (Some(dir), _) => {
                let path = std::path::absolute(dir).map_err(CliError::failed)?;
                return Target::directory(&path).map_err(|error| failed(&error));
            }
            (None, Some(file)) => read(file, |name| std::env::var(name).ok())?,
            (None, None) => {
                return Err(CliError::usage("say where the backups are: --from DIR, or --target-file FILE"));
            }
        };
        target::open(&settings).map_err(|error| failed(&error))
    }

    /// It, for people.
    pub(super) fn shown(&self) -> String {
        let path = self.from.as_deref().or(self.target_file.as_deref());
        path.map(|path| path.display().to_string()).unwrap_or_default()
    }
}

fn failed(error: &TargetError) -> CliError {
    CliError::failed(format!("{error} ({})", error.code()))
}

/// What such a file says.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Described {
    Directory {
        path: PathBuf,
    },
    S3 {
        endpoint: String,
        bucket: String,
        #[serde(default)]
        region: String,
        #[serde(default)]
        prefix: String,
        access_key: String,
        secret: Option<String>,
        secret_file: Option<PathBuf>,
        ca_pem: Option<String>,
        ca_file: Option<PathBuf>,
    },
    Webdav {
        url: String,
        #[serde(default)]
        user: String,
        password: Option<String>,
        password_file: Option<PathBuf>,
        ca_pem: Option<String>,
        ca_file: Option<PathBuf>,
    },
    Sftp {
        host: String,
        #[serde(default)]
        port: u16,
        user: String,
        path: String,
        host_key: String,
        password: Option<String>,
        password_file: Option<PathBuf>,
        private_key: Option<String>,
        private_key_file: Option<PathBuf>,
    },
}

/// Reads the description of a target; `env` looks variables up.
fn read(file: &Path, env: impl Fn(&str) -> Option<String>) -> Result<TargetSettings, CliError> {
    let text = text_of(file)?;
    let wrong = |line: Option<usize>, error: &toml::de::Error| {
        let at = line.map_or_else(String::new, |line| format!(", line {line}"));
        // Its long form shows the line, which may be a secret.
        CliError::usage(format!("{}{at}: {} (see `holdfast restore --help`)", file.display(), error.message()))
    };
    let line = |error: &toml::de::Error| {
        error.span().map(|span| text.get(..span.start).map_or(1, |t| t.lines().count().max(1)))
    };
    let table: toml::Table = toml::from_str(&text).map_err(|error| wrong(line(&error), &error))?;
    let described = table.try_into().map_err(|error| wrong(None, &error))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    settings(described, &Texts { folder, env: &env })
}

/// Where texts come from that need not stand in the description.
struct Texts<'a> {
    folder: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
}

impl Texts<'_> {
    fn given(&self, here: Option<String>, file: Option<&PathBuf>) -> Result<Option<String>, CliError> {
        match file {
            Some(file) => text_of(&self.folder.join(file)).map(Some),
            None => Ok(here),
        }
    }

    fn secret(&self, name: &str, here: Option<String>, file: Option<&PathBuf>) -> Result<Option<Secret>, CliError> {
        let text = match (self.env)(name) {
            Some(text) => Some(text),
            // A private key ends with a line's end; nothing else does.
            None if name == PRIVATE_KEY => self.given(here, file)?,
            None => self.given(here, file)?.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()),
        };
        Ok(text.map(|text| Secret::text(&text)))
    }
}

const SECRET: &str = "HOLDFAST_TARGET_SECRET";
const PASSWORD: &str = "HOLDFAST_TARGET_PASSWORD";
const PRIVATE_KEY: &str = "HOLDFAST_TARGET_PRIVATE_KEY";

fn settings(described: Described, texts: &Texts<'_>) -> Result<TargetSettings, CliError> {
    Ok(match described {
        Described::Directory { path } => {
            let path = std::path::absolute(texts.folder.join(path)).map_err(CliError::failed)?;
            TargetSettings::Directory(DirectoryPlace { path: path.to_string_lossy().into_owned() })
        }
        Described::S3 { endpoint, bucket, region, prefix, access_key, secret, secret_file, ca_pem, ca_file } => {
            let secret = texts.secret(SECRET, secret, secret_file.as_ref())?;
            let ca_pem = texts.given(ca_pem, ca_file.as_ref())?.unwrap_or_default();
            TargetSettings::S3(S3Place { endpoint, bucket, region, prefix, access_key, secret, ca_pem })
        }
        Described::Webdav { url, user, password, password_file, ca_pem, ca_file } => {
            let password = texts.secret(PASSWORD, password, password_file.as_ref())?;
            let ca_pem = texts.given(ca_pem, ca_file.as_ref())?.unwrap_or_default();
            TargetSettings::Webdav(WebdavPlace { url, user, password, ca_pem })
        }
        Described::Sftp {
            host,
            port,
            user,
            path,
            host_key,
            password,
            password_file,
            private_key,
            private_key_file,
        } => {
            let password = texts.secret(PASSWORD, password, password_file.as_ref())?;
            let private_key = texts.secret(PRIVATE_KEY, private_key, private_key_file.as_ref())?;
            TargetSettings::Sftp(SftpPlace { host, port: port.into(), user, password, private_key, path, host_key })
        }
    })
}

/// A small text file.
fn text_of(path: &Path) -> Result<String, CliError> {
    let cannot = |why: &dyn std::fmt::Display| CliError::failed(format!("{} cannot be read: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|error| cannot(&error))?;
    let mut text = String::new();
    file.take(BACKUP_TARGET_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| cannot(&error))?;
    if text.len() as u64 > BACKUP_TARGET_FILE_BYTES_MAX {
        return Err(cannot(&format!("it has more than {BACKUP_TARGET_FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str, env: &[(&str, &str)]) -> Result<TargetSettings, CliError> {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("target.toml");
        std::fs::write(&file, text).unwrap();
        std::fs::write(place.path().join("secret.txt"), "from a file\n").unwrap();
        read(&file, |name| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn secrets_come_from_the_environment_from_files_or_from_the_description() {
        let store = "kind = \"s3\"\nendpoint = \"https://s3.lan\"\nbucket = \"b\"\naccess_key = \"AK\"\n";
        let secret = |more: &str, env: &[(&str, &str)]| match described(&format!("{store}{more}"), env).unwrap() {
            TargetSettings::S3(place) => Secret::as_text(place.secret.as_ref()).to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(secret("secret = \"here\"", &[]), "here");
        assert_eq!(secret("secret_file = \"secret.txt\"", &[]), "from a file");
        assert_eq!(secret("secret_file = \"secret.txt\"", &[(SECRET, "from outside")]), "from outside");
        assert_eq!(secret("", &[(PASSWORD, "of another kind")]), "");
        let key = "kind = \"sftp\"\nhost = \"h\"\nuser = \"u\"\npath = \"p\"\nhost_key = \"SHA256:x\"\n";
        let ssh = described(&format!("{key}private_key_file = \"secret.txt\""), &[]).unwrap();
        let TargetSettings::Sftp(place) = ssh else { panic!("{ssh:?}") };
        assert_eq!((Secret::as_text(place.private_key.as_ref()), place.port), ("from a file\n", 0));
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_with_it() {
        for (text, part) in [
            ("kind = \"ftp\"", "`ftp`"),
            ("endpoint = \"x\"", "`kind`"),
            ("kind = \"s3\"\nbucket = \"b\"\naccess_key = \"x\"", "`endpoint`"),
            ("kind = \"webdav\"\nurl = \"x\"\nbucket = \"b\"", "`bucket`"),
            ("kind = \"webdav\"\nurl = \"x\"\npassword = hunter2", "line 3"),
            ("kind = \"webdav\"\nurl = \"x\"\npassword_file = \"none.txt\"", "none.txt"),
        ] {
            let error = described(text, &[]).unwrap_err().to_string();
            assert!(error.contains(part) && !error.contains("hunter2"), "{text}: {error}");
        }
        assert!(Place::default().open().unwrap_err().to_string().contains("--target-file"));
    }
}
