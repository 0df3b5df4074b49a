//! `holdfast serve`: its arguments, and the configuration that results from them.

use std::path::{Path, PathBuf};

use clap::Args;

use super::CliError;
use crate::config::{FlagSettings, Loaded, Sources, load};

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
