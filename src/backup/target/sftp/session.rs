//! One SSH connection to an SFTP target: the pinned host key, the login, the SFTP channel in it. Must never send a password or
//! a signature to a host whose key is not the pinned one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use russh::MethodKind;
use russh::client::{self, AuthResult, KeyboardInteractiveAuthResponse};
use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key};
use russh_sftp::client::{Config, RawSftpSession};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{SftpSettings, Trouble};
use crate::backup::target::TargetError;
use crate::backup::target::fault::Fault;
use crate::limits::BACKUP_SSH_KEEPALIVE_SECONDS;

/// A connection on which SFTP is spoken.
pub(super) struct Session {
    /// Tells one connection from the next: handles are of one.
    pub(super) id: u64,
    /// SFTP.
    pub(super) raw: RawSftpSession,
    /// Held, as the connection ends with it.
    ssh: client::Handle<Watch>,
    extensions: Vec<String>,
}

impl Session {
    /// Whether nothing can be asked any more.
    pub(super) fn is_closed(&self) -> bool {
        self.ssh.is_closed()
    }

    /// Whether the server knows this extension.
    pub(super) fn knows(&self, extension: &str) -> bool {
        self.extensions.iter().any(|known| known == extension)
    }

    /// Connects and logs in.
    pub(super) async fn open(settings: &SftpSettings) -> Result<Self, Trouble> {
        let mut ssh = shake_hands(settings).await?;
        log_in(settings, &mut ssh).await?;
        let work = async {
            let channel = ssh.channel_open_session().await.map_err(|e| broken(settings, &e))?;
            channel.request_subsystem(true, "sftp").await.map_err(|e| broken(settings, &e))?;
            let seconds = settings.patience.timeout.as_secs().max(1);
            let config = Config { request_timeout_secs: seconds, ..Config::default() };
            let raw = RawSftpSession::new_with_config(channel.into_stream(), config);
            let version = raw.init().await.map_err(|e| match e {
                russh_sftp::client::error::Error::Timeout => silent(settings),
                other => broken(settings, &format!("no SFTP there: {other}")),
            })?;
            Ok::<_, Trouble>((raw, version.extensions.into_keys().collect()))
        };
        let (raw, extensions) = timeout(settings.patience.timeout, work).await.map_err(|_| silent(settings))??;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Ok(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), raw, ssh, extensions })
    }
}

fn broken(settings: &SftpSettings, cause: &dyn std::fmt::Display) -> Trouble {
    Trouble::Way(Fault::Broken { place: settings.place(), cause: cause.to_string() })
}

fn silent(settings: &SftpSettings) -> Trouble {
    Trouble::Way(Fault::Silent { place: settings.place(), seconds: settings.patience.timeout.as_secs() })
}

/// Looks at the host's key, and keeps what it saw.
struct Watch {
    expected: String,
    seen: Arc<Mutex<Option<String>>>,
}

impl client::Handler for Watch {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let seen = key.fingerprint(HashAlg::Sha256).to_string();
        let is_it = seen == self.expected;
        *self.seen.lock() = Some(seen);
        Ok(is_it)
    }
}

/// A connection to the host with the pinned key. A host has keys of several kinds and shows one: all kinds are asked for in
/// turn before another host is suspected.
async fn shake_hands(settings: &SftpSettings) -> Result<client::Handle<Watch>, Trouble> {
    let curve = |curve| Algorithm::Ecdsa { curve };
    let kinds: [Vec<Algorithm>; 3] = [
        vec![Algorithm::Ed25519],
        vec![curve(EcdsaCurve::NistP256), curve(EcdsaCurve::NistP384), curve(EcdsaCurve::NistP521)],
        vec![Algorithm::Rsa { hash: Some(HashAlg::Sha512) }, Algorithm::Rsa { hash: Some(HashAlg::Sha256) }],
    ];
    let mut found = Vec::new();
    for kind in kinds {
        let seen = Arc::new(Mutex::new(None));
        match connect(settings, kind, Arc::clone(&seen)).await {
            Ok(ssh) => return Ok(ssh),
            Err(Trouble::NoSuchKey) => {}
            Err(other) => return Err(other),
        }
        found.extend(seen.lock().take());
    }
    if found.is_empty() {
        return Err(broken(settings, &"the host has no key of a kind that we know (Ed25519, ECDSA, RSA)"));
    }
    let (place, expected, found) = (settings.place(), settings.host_key.clone(), found.join(", "));
    Err(Trouble::Final(TargetError::HostKey { place, expected, found }))
}

async fn connect(
    settings: &SftpSettings,
    kind: Vec<Algorithm>,
    seen: Arc<Mutex<Option<String>>>,
) -> Result<client::Handle<Watch>, Trouble> {
    let port = if settings.port == 0 { 22 } else { settings.port };
    let limit = settings.patience.timeout;
    let tcp = TcpStream::connect((settings.host.as_str(), port));
    let tcp = timeout(limit, tcp).await.map_err(|_| silent(settings))?;
    let tcp = tcp.map_err(|e| Trouble::Way(Fault::of_dialling(&settings.place(), &e)))?;
    let preferred = russh::Preferred { key: kind.into(), ..russh::Preferred::DEFAULT };
    let config = client::Config {
        preferred,
        nodelay: true,
        keepalive_interval: Some(Duration::from_secs(BACKUP_SSH_KEEPALIVE_SECONDS)),
        ..client::Config::default()
    };
    let watch = Watch { expected: settings.host_key.trim().to_owned(), seen };
    let ssh = client::connect_stream(Arc::new(config), tcp, watch);
    match timeout(limit, ssh).await.map_err(|_| silent(settings))? {
        Ok(ssh) => Ok(ssh),
        Err(russh::Error::UnknownKey | russh::Error::NoCommonAlgo { .. }) => Err(Trouble::NoSuchKey),
        Err(error) => Err(broken(settings, &error)),
    }
}

async fn log_in(settings: &SftpSettings, ssh: &mut client::Handle<Watch>) -> Result<(), Trouble> {
    let limit = settings.patience.timeout;
    let work = async {
        if settings.private_key.is_empty() { with_password(settings, ssh).await } else { with_key(settings, ssh).await }
    };
    if timeout(limit, work).await.map_err(|_| silent(settings))?? {
        return Ok(());
    }
    let what = if settings.private_key.is_empty() { "password" } else { "key" };
    let cause = format!("{} does not let {:?} in with this {what}", settings.place(), settings.user);
    Err(Trouble::Final(TargetError::KeyRefused { cause }))
}

async fn with_key(settings: &SftpSettings, ssh: &mut client::Handle<Watch>) -> Result<bool, Trouble> {
    let phrase = Some(settings.password.as_str()).filter(|phrase| !phrase.is_empty());
    let key = decode_secret_key(&settings.private_key, phrase).map_err(|e| {
        let cause = format!("the private key cannot be used: {e} (a key with a passphrase needs it as the password)");
        Trouble::Final(TargetError::KeyRefused { cause })
    })?;
    let hash = ssh.best_supported_rsa_hash().await.map_err(|e| broken(settings, &e))?.flatten();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = ssh.authenticate_publickey(&settings.user, key).await.map_err(|e| broken(settings, &e))?;
    Ok(answer.success())
}

async fn with_password(settings: &SftpSettings, ssh: &mut client::Handle<Watch>) -> Result<bool, Trouble> {
    let answer = ssh.authenticate_password(&settings.user, &settings.password).await;
    let remaining = match answer.map_err(|e| broken(settings, &e))? {
        AuthResult::Success => return Ok(true),
        AuthResult::Failure { remaining_methods, .. } => remaining_methods,
    };
    if !remaining.contains(&MethodKind::KeyboardInteractive) {
        return Ok(false);
    }
    // Storage appliances often ask for the password as a question.
    let start = ssh.authenticate_keyboard_interactive_start(&settings.user, None::<String>).await;
    let mut answer = start.map_err(|e| broken(settings, &e))?;
    let mut asked = false;
    loop {
        let count = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            // It asks again when the answer was wrong; more than one question is none that a password answers.
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } if prompts.len() > 1 => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts.len(),
        };
        if asked && count > 0 {
            return Ok(false);
        }
        asked |= count > 0;
        let words = vec![settings.password.clone(); count];
        let next = ssh.authenticate_keyboard_interactive_respond(words).await;
        answer = next.map_err(|e| broken(settings, &e))?;
    }
}
