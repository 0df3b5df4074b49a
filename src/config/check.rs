//! Checks that need more than the type: ranges, addresses, and settings that contradict each other.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::Config;
use super::error::{ConfigError, ConfigSource};
use crate::limits::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};
use crate::ops::logging::parse_filter;

/// Where each setting came from, for the error.
#[derive(Debug, Default)]
pub(super) struct Origins {
    file: Option<(String, String)>,
    others: HashMap<String, ConfigSource>,
}

impl Origins {
    pub(super) fn set_file(&mut self, path: String, text: String) {
        self.file = Some((path, text));
    }

    pub(super) fn set_variable(&mut self, section: &str, key: &str, name: &str) {
        self.others.insert(format!("{section}.{key}"), ConfigSource::Environment(name.to_owned()));
    }

    pub(super) fn set_flag(&mut self, section: &str, key: &str) {
        self.others.insert(format!("{section}.{key}"), ConfigSource::Settings);
    }

    fn error(&self, key: &str, problem: String, hint: &str) -> ConfigError {
        let source = self.others.get(key).cloned().unwrap_or_else(|| match (&self.file, key.split_once('.')) {
            (Some((path, text)), Some((section, name))) => match line_of_key(text, section, Some(name)) {
                0 => ConfigSource::Settings,
                line => ConfigSource::File { path: path.clone(), line },
            },
            _ => ConfigSource::Settings,
        });
        ConfigError { source, key: key.to_owned(), problem, hint: hint.to_owned() }
    }
}

/// The line (from 1) of `[section]`, or of `key` inside it; 0 when it is not written plainly.
pub(super) fn line_of_key(text: &str, section: &str, key: Option<&str>) -> usize {
    let mut current = String::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = header.trim().to_owned();
        }
        let left = line.split('=').next().unwrap_or_default().trim();
        let found = match key {
            None => current == section || left == section,
            Some(key) => (current == section && left == key) || left == format!("{section}.{key}"),
        };
        if found {
            return index + 1;
        }
    }
    0
}

/// `section.key` written on `line` (from 1), as far as it can be told.
pub(super) fn key_at_line(text: &str, line: usize) -> String {
    let mut section = String::new();
    for (index, content) in text.lines().enumerate().take(line) {
        let content = content.trim();
        if let Some(header) = content.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            section = header.trim().to_owned();
        } else if let (true, Some((key, _))) = (index + 1 == line, content.split_once('=')) {
            return if section.is_empty() { key.trim().to_owned() } else { format!("{section}.{}", key.trim()) };
        }
    }
    section
}

/// Judges the whole configuration.
pub(super) fn check(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let listen = config.server.listen.parse::<SocketAddr>().map_err(|_| {
        origins.error("server.listen", LISTEN_PROBLEM.replace("{}", &config.server.listen), LISTEN_HINT)
    })?;
    if !config.tls.enabled && !listen.ip().is_loopback() && !config.server.behind_proxy {
        return Err(origins.error(
            "tls.enabled",
            format!("serving without TLS on {listen} would send passwords in the clear"),
            "listen on 127.0.0.1, or say --behind-proxy when a reverse proxy in front does TLS",
        ));
    }
    check_public_url(config, origins)?;
    for proxy in &config.server.trusted_proxies {
        proxy.parse::<IpAddr>().map_err(|_| {
            origins.error(
                "server.trusted_proxies",
                format!("{proxy:?} is not an IP address"),
                "write one such as 10.0.0.2",
            )
        })?;
    }
    for name in &config.tls.names {
        if !is_host_name(name) {
            let problem = format!("{name:?} is neither a DNS name nor an IP address");
            return Err(origins.error("tls.names", problem, "write names such as chat.example.lan, without https://"));
        }
    }
    check_pair(config, origins)?;
    parse_filter(&config.logging.level).map_err(|error| origins.error("logging.level", error.to_string(), ""))?;
    check_ranges(config, origins)
}

const LISTEN_PROBLEM: &str = "\"{}\" is not an address and a port";
const LISTEN_HINT: &str = "write an IP address and a port such as 0.0.0.0:8443 or [::]:8443";

fn check_pair(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let pair = &config.pair;
    if pair.listen.parse::<SocketAddr>().is_err() {
        let hint = "write an IP address and a port such as 0.0.0.0:8444 or [::]:8444";
        return Err(origins.error("pair.listen", LISTEN_PROBLEM.replace("{}", &pair.listen), hint));
    }
    for address in &pair.addresses {
        let parts = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok_and(|port| port != 0));
        if !parts.is_some_and(|(host, _)| is_host_name(host.trim_matches(['[', ']']))) {
            let problem = format!("{address:?} is not a host and a port");
            return Err(origins.error("pair.addresses", problem, "write each as 10.0.0.5:8444 or chat-a.lan:8444"));
        }
    }
    Ok(())
}

fn check_public_url(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let Some(url) = &config.server.public_url else { return Ok(()) };
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let authority = rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest)).unwrap_or_default();
    let (host, port_fits) = split_authority(authority);
    if is_host_name(host) && port_fits {
        return Ok(());
    }
    let problem = format!("{url:?} is not the address of a server");
    Err(origins.error("server.public_url", problem, "write it as https://chat.example.lan or https://10.0.0.5:8443"))
}

/// Host and whether the port, if any, is one.
pub(super) fn split_authority(authority: &str) -> (&str, bool) {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':').or((!after.is_empty()).then_some("bad"))),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    (host, port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)))
}

/// A DNS name (letters, digits, hyphens in labels of at most 63) or an IP address.
pub fn is_host_name(name: &str) -> bool {
    let label_fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.parse::<IpAddr>().is_ok() || (name.len() <= 253 && name.split('.').all(label_fits))
}

fn check_ranges(config: &Config, origins: &Origins) -> Result<(), ConfigError> {
    let (storage, limits, auth) = (&config.storage, &config.limits, &config.auth);
    let ranges: [(&str, u64, u64, u64); 8] = [
        ("storage.disk_reserve_mib", storage.disk_reserve_mib, 64, 1024 * 1024),
        ("storage.disk_reserve_percent", storage.disk_reserve_percent, 0, 50),
        ("logging.files_max", config.logging.files_max as u64, 1, 3650),
        ("limits.connections_max", limits.connections_max as u64, 10, 1_000_000),
        (
            "auth.password_chars_min",
            auth.password_chars_min as u64,
            PASSWORD_CHARS_MIN as u64,
            PASSWORD_CHARS_MAX as u64,
        ),
        ("auth.login_account_burst", u64::from(auth.login_account_burst), 1, 1000),
        ("auth.login_address_burst", u64::from(auth.login_address_burst), 1, 1_000_000),
        ("server.trusted_proxies", config.server.trusted_proxies.len() as u64, 0, 64),
    ];
    match ranges.into_iter().find(|(_, value, least, most)| !(least..=most).contains(&value)) {
        Some((key, value, least, most)) => {
            Err(origins.error(key, format!("{value} is out of range"), &format!("allowed are {least} to {most}")))
        }
        None => Ok(()),
    }
}

impl Config {
    /// The address to listen on. Checked when the configuration was loaded.
    ///
    /// # Errors
    /// When the configuration was put together by hand and never checked.
    pub fn listen_address(&self) -> Result<SocketAddr, ConfigError> {
        self.server.listen.parse().map_err(|_| ConfigError {
            source: ConfigSource::Settings,
            key: "server.listen".to_owned(),
            problem: LISTEN_PROBLEM.replace("{}", &self.server.listen),
            hint: LISTEN_HINT.to_owned(),
        })
    }

    /// The address people type, without a slash at the end.
    pub fn public_url(&self) -> String {
        if let Some(url) = &self.server.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        let scheme = if self.tls.enabled { "https" } else { "http" };
        match self.server.listen.parse::<SocketAddr>() {
            // "Every address" is not one that a browser can open.
            Ok(listen) if listen.ip().is_unspecified() => format!("{scheme}://127.0.0.1:{}", listen.port()),
            _ => format!("{scheme}://{}", self.server.listen),
        }
    }

    /// The DNS names and IP addresses that the configuration wants in the node certificate, beside localhost, the loopback
    /// addresses and the host name.
    pub fn certificate_names(&self) -> Vec<String> {
        let mut names = self.tls.names.clone();
        if let Some(url) = &self.server.public_url {
            let authority = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest).trim_end_matches('/');
            names.push(split_authority(authority).0.to_owned());
        }
        match self.server.listen.parse::<SocketAddr>() {
            Ok(listen) if !listen.ip().is_unspecified() => names.push(listen.ip().to_string()),
            _ => {}
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::{FlagSettings, Sources, load};
    use super::*;

    fn with(change: impl FnOnce(&mut Config)) -> Result<(), String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config, &Origins::default()).map_err(|error| error.to_string())
    }

    #[test]
    fn plain_http_is_for_loopback_or_a_proxy() {
        let flags = |listen: &str, behind_proxy| Sources {
            flags: FlagSettings { listen: Some(listen.to_owned()), no_tls: true, behind_proxy, public_url: None },
            ..Sources::default()
        };
        let error = load(&flags("0.0.0.0:80", false)).unwrap_err().to_string();
        assert!(error.contains("passwords in the clear") && error.contains("--behind-proxy"), "{error}");
        assert!(!load(&flags("0.0.0.0:80", true)).unwrap().config.tls.enabled);
        load(&flags("127.0.0.1:80", false)).unwrap();
        load(&flags("[::1]:80", false)).unwrap();
        load(&flags("localhost:80", false)).unwrap_err();
    }

    #[test]
    fn bad_values_are_refused_with_what_is_allowed() {
        with(|_| {}).unwrap();
        let bad = |change: fn(&mut Config)| with(change).unwrap_err();
        assert!(bad(|config| config.server.listen = "8443".to_owned()).contains("0.0.0.0:8443"));
        assert!(bad(|config| config.auth.password_chars_min = 4).contains("allowed are 10 to 256"));
        assert!(bad(|config| config.limits.connections_max = 0).contains("limits.connections_max"));
        assert!(bad(|config| config.logging.level = "loud=very".to_owned()).contains("logging.level"));
        assert!(bad(|config| config.server.trusted_proxies = vec!["proxy".to_owned()]).contains("not an IP address"));
        assert!(bad(|config| config.tls.names = vec!["https://x".to_owned()]).contains("without https://"));
        for url in ["chat.lan", "https://", "https://a b", "https://a:0", "https://a:99999", "https://a/b", "ftp://a"] {
            let mut config = Config::default();
            config.server.public_url = Some(url.to_owned());
            check(&config, &Origins::default()).unwrap_err();
        }
        for url in ["https://chat.lan", "https://chat.lan/", "https://10.0.0.1:8443", "https://[::1]:8443", "http://a"]
        {
            let mut config = Config::default();
            config.server.public_url = Some(url.to_owned());
            check(&config, &Origins::default()).unwrap();
        }
    }

    #[test]
    fn a_range_error_names_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "[server]\n[auth]\n# few\nlogin_account_burst = 0\n").unwrap();
        let error = load(&Sources { named_file: Some(&path), ..Sources::default() }).unwrap_err();
        assert_eq!(error.source, ConfigSource::File { path: path.display().to_string(), line: 4 });
    }

    #[test]
    fn links_and_certificate_names_follow_the_addresses() {
        let mut config = Config::default();
        assert_eq!(config.public_url(), "https://127.0.0.1:8443");
        assert_eq!(config.certificate_names(), Vec::<String>::new());
        config.server.listen = "10.0.0.7:443".to_owned();
        config.tls.enabled = false;
        assert_eq!(config.public_url(), "http://10.0.0.7:443");
        config.server.public_url = Some("https://[fd00::1]:8443/".to_owned());
        config.tls.names = vec!["chat.lan".to_owned(), "chat.lan".to_owned()];
        assert_eq!(config.public_url(), "https://[fd00::1]:8443");
        assert_eq!(config.certificate_names(), ["10.0.0.7", "chat.lan", "fd00::1"]);
    }
}
