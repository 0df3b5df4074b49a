//! `holdfast serve`: its arguments, and the configuration that results from them.

use std::path::{Path, PathBuf};

use clap::Args;

use tokio_util::sync::CancellationToken;

use super::{CliError, Global, Output};
use crate::api::{Ended, PairSide, Service, ServiceOptions};
use crate::auth::passwords::{PasswordLoad, PasswordPolicy};
use crate::auth::rate_limit::LoginLimits;
use crate::config::{Config, FlagSettings, Loaded, Sources, load};
use crate::ops::disk::DiskReserve;
use crate::ops::logging::{self, LogOptions};
use crate::ops::{datadir::DataDir, limits::raise_open_files, lockfile::DataLock};
use crate::replication::Hooks;

/// `holdfast serve`
#[derive(Clone, Debug, Default, Args)]
#[command(after_help = "\
Flags count over HOLDFAST_* variables, those over the configuration file, that
over the defaults.

Examples:
  holdfast serve --data /srv/holdfast
      HTTPS on every address, port 8443
  holdfast serve --listen 0.0.0.0:443 --public-url https://chat.lan
      the address people type
  holdfast serve --listen 127.0.0.1:8080 --no-tls
      behind a reverse proxy on this machine
  holdfast serve --listen 10.0.0.5:8080 --no-tls --behind-proxy
      behind a reverse proxy on another machine")]
pub struct ServeArgs {
    /// Address and port to listen on [default: 0.0.0.0:8443]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<String>,
    /// Serve plain HTTP: on a loopback address, or with --behind-proxy
    #[arg(long)]
    pub no_tls: bool,
    /// A reverse proxy in front does TLS and sets X-Forwarded-For
    #[arg(long)]
    pub behind_proxy: bool,
    /// The address people type, used in links [default: https, the listen address and port]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// The configuration file [default: DIR/holdfast.toml if it exists]
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    pub config: Option<PathBuf>,
}

impl ServeArgs {
    /// The checked configuration for a server on `data` with these flags.
    pub fn load_config(&self, data: &Path) -> Result<Loaded, CliError> {
        let flags = FlagSettings {
            listen: self.listen.clone(),
            public_url: self.public_url.clone(),
            no_tls: self.no_tls,
            behind_proxy: self.behind_proxy,
        };
        load_config(data, self.config.as_deref(), flags)
    }
}

/// Runs the server until it is told to stop. Blocks.
pub fn run(global: &Global, args: &ServeArgs, output: &Output) -> Result<(), CliError> {
    let loaded = args.load_config(&global.data)?;
    let (dir, lock) = DataDir::open_locked(&global.data).map_err(CliError::failed)?;
    let logging = &loaded.config.logging;
    let (_control, guard) = logging::install(&LogOptions {
        dir: Some(global.data.join("logs")),
        format: logging.format,
        filter: logging.level.clone(),
        files_max: logging.files_max,
        stderr: logging.stderr,
    })
    .map_err(CliError::failed)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    match raise_open_files() {
        Ok(files) => tracing::debug!(open_files_max = files.now, "open files"),
        Err(error) => tracing::warn!(%error, "the open-file limit could not be raised"),
    }
    let options = service_options((dir, lock), &loaded.config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::failed)?;
    let ended = runtime.block_on(serve(options, output));
    // What is left are requests that nobody waits for; the log and the state are closed already.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    // The last lines must be written before this process becomes another.
    drop(guard);
    match ended? {
        Ended::Stopped => Ok(()),
        Ended::StartAgain => Err(start_again()),
    }
}

/// Replaces this process by a fresh one of the same program with the same arguments: what a crash and a restart would do,
/// with the same process id. Returns only when the system refuses.
fn start_again() -> CliError {
    use std::os::unix::process::CommandExt as _;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // The very file that runs, also when a newer one lies at its path by now.
    let error = std::process::Command::new("/proc/self/exe").arg0(name).args(arguments).exec();
    CliError::failed(format!("the server could not start itself again: {error}; start it by hand"))
}

async fn serve(options: ServiceOptions, output: &Output) -> Result<Ended, CliError> {
    let shutdown = CancellationToken::new();
    let asked = shutdown.clone();
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(CliError::failed)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("shutting down");
        asked.cancel();
    });
    let service = Service::open(options).await.map_err(CliError::failed)?;
    reload_on_hangup(&service)?;
    announce(&service, output)?;
    let ended = service.run(shutdown).await.map_err(CliError::failed)?;
    tracing::info!("stopped");
    Ok(ended)
}

/// SIGHUP reads the certificate files again, as administrators expect after replacing them.
fn reload_on_hangup(service: &Service) -> Result<(), CliError> {
    let reload = service.certificate_reload();
    let mut hangup =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).map_err(CliError::failed)?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload();
        }
    });
    Ok(())
}

/// Tells people where to go. Only here and in the 0600 file: the log files never hold the link.
fn announce(service: &Service, output: &Output) -> Result<(), CliError> {
    let (url, setup) = (service.public_url(), service.setup_url());
    let fingerprint = service.fingerprint();
    let mut text = format!("Holdfast {} is running: {url}\n", env!("CARGO_PKG_VERSION"));
    if let Some(fingerprint) = &fingerprint {
        text.push_str(&format!("Certificate fingerprint (SHA-256): {fingerprint}\n"));
    }
    if let Some(fingerprint) = service.ca_fingerprint() {
        text.push_str(&format!("Own CA fingerprint (SHA-256):      {fingerprint}\n"));
    }
    if let Some(link) = &setup {
        text.push_str(&format!(
            "\nOpen this link once to name your organisation and make its owner:\n\n  {link}\n\n\
             `holdfast init --link` prints it again.\n"
        ));
    }
    let state = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"), "url": url, "setup_link": setup, "fingerprint": fingerprint,
    });
    output.show(&state, &text)
}

fn service_options(data: (DataDir, DataLock), config: &Config) -> Result<ServiceOptions, CliError> {
    let (auth, storage) = (&config.auth, &config.storage);
    let mut login_limits = LoginLimits::default();
    login_limits.account.burst = auth.login_account_burst;
    login_limits.address.burst = auth.login_address_burst;
    let listen = config.listen_address().map_err(CliError::usage)?;
    let proxies = config.server.trusted_proxies.iter().filter_map(|address| address.parse().ok()).collect();
    Ok(ServiceOptions {
        dir: data.0,
        lock: data.1,
        listen,
        tls: config.tls.enabled,
        names: config.certificate_names(),
        public_url: (listen.port() != 0 || config.server.public_url.is_some()).then(|| config.public_url()),
        trusted_proxies: if config.server.behind_proxy { proxies } else { Vec::new() },
        connections_max: config.limits.connections_max,
        password_policy: PasswordPolicy { chars_min: auth.password_chars_min },
        password_load: PasswordLoad::default(),
        login_limits,
        disk_reserve: DiskReserve {
            bytes: storage.disk_reserve_mib.saturating_mul(1024 * 1024),
            percent: storage.disk_reserve_percent,
        },
        pair: PairSide {
            listen: config.pair.listen.clone(),
            addresses: config.pair.addresses.clone(),
            hooks: Hooks {
                on_active: config.pair.on_active.clone(),
                on_standby: config.pair.on_standby.clone(),
                timeout: std::time::Duration::from_secs(config.pair.hook_timeout_seconds),
            },
            level_max: config.pair.level_max,
        },
        drill_key: config.backup.drill_key.clone().map(PathBuf::from),
    })
}

/// For commands that read the configuration and set nothing.
pub(super) fn no_flags() -> FlagSettings {
    FlagSettings::default()
}

/// Layers `file` (or `<data>/holdfast.toml`), the environment of this process and `flags`.
pub(super) fn load_config(data: &Path, file: Option<&Path>, flags: FlagSettings) -> Result<Loaded, CliError> {
    let default_file = data.join("holdfast.toml");
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    load(&Sources { named_file: file, default_file: Some(&default_file), environment, flags }).map_err(CliError::usage)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        serve: ServeArgs,
    }

    fn parse(line: &str) -> ServeArgs {
        Alone::try_parse_from(line.split(' ')).unwrap().serve
    }

    #[test]
    fn flags_reach_the_configuration() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("holdfast.toml"), "[server]\nlisten = \"127.0.0.1:7000\"\n").unwrap();
        let from_file = parse("serve").load_config(dir.path()).unwrap().config;
        assert_eq!(from_file.server.listen, "127.0.0.1:7000");
        let flags = parse("serve --listen 10.0.0.1:80 --no-tls --behind-proxy --public-url https://chat.lan");
        let config = flags.load_config(dir.path()).unwrap().config;
        assert_eq!(config.server.listen, "10.0.0.1:80");
        assert!(!config.tls.enabled && config.server.behind_proxy);
        assert_eq!(config.public_url(), "https://chat.lan");
        let refused = parse("serve --listen 10.0.0.1:80 --no-tls").load_config(dir.path()).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        let missing = parse("serve --config /nonexistent.toml").load_config(dir.path()).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent.toml"), "{missing}");
    }
}
