//! The settings themselves: one struct per concern. The doc comments here are what `holdfast config example` prints.

use super::macros::config_section;
use crate::limits::{
    CONNECTIONS_MAX, DISK_RESERVE_BYTES_DEFAULT, DISK_RESERVE_PERCENT_DEFAULT, HOOK_TIMEOUT_SECONDS_DEFAULT,
    LOG_FILES_MAX_DEFAULT, LOGIN_ACCOUNT_BURST, LOGIN_ADDRESS_BURST, PASSWORD_CHARS_MIN,
};
use crate::ops::logging::LogFormat;

config_section! {
    /// Where the server listens and how clients reach it.
    pub struct ServerConfig in "server" {
        /// Address and port to listen on. 0.0.0.0 is every IPv4 address of this machine, `[::]` every IPv6 and IPv4 one.
        listen: String = "0.0.0.0:8443".to_owned(),
        /// The address people type, used in links and invitations. Without it: https, the listen address and port.
        public_url: Option<String> = None, example "https://chat.example.lan",
        /// A reverse proxy on this machine or network terminates TLS. Needed to serve without TLS beyond loopback;
        /// client addresses are then read from X-Forwarded-For of the connections that come from `trusted_proxies`.
        behind_proxy: bool = false,
        /// Addresses of the reverse proxies whose X-Forwarded-For is believed.
        trusted_proxies: Vec<String> = vec!["127.0.0.1".to_owned(), "::1".to_owned()],
    }
}

config_section! {
    /// The data disk.
    pub struct StorageConfig in "storage" {
        /// Free space in MiB below which new messages are refused; reading goes on.
        disk_reserve_mib: u64 = DISK_RESERVE_BYTES_DEFAULT / (1024 * 1024),
        /// The same in percent of the disk. The larger of the two counts.
        disk_reserve_percent: u64 = DISK_RESERVE_PERCENT_DEFAULT,
    }
}

config_section! {
    /// Encryption of the listening port.
    pub struct TlsConfig in "tls" {
        /// Serve HTTPS. Switch it off on loopback for tests, or behind a proxy that does it (server.behind_proxy).
        enabled: bool = true,
        /// Further DNS names or IP addresses in the certificate that this server issues to itself. localhost, the host
        /// name, the listen address and the host of server.public_url are always in it.
        names: Vec<String> = Vec::new(),
    }
}

config_section! {
    /// What is written to the log files in the data directory, and to standard error.
    pub struct LoggingConfig in "logging" {
        /// Level (error, warn, info, debug, trace), or directives such as "info,holdfast::oplog=debug".
        level: String = "info".to_owned(),
        /// Form of the lines in the files: "text" or "json".
        format: LogFormat = LogFormat::Text,
        /// Daily log files kept; older ones are removed.
        files_max: usize = LOG_FILES_MAX_DEFAULT,
        /// Also write text to standard error (what a service manager collects).
        stderr: bool = true,
    }
}

config_section! {
    /// Bounds that an administrator may set. The others are fixed.
    pub struct LimitsConfig in "limits" {
        /// Connections at once; further ones wait to be accepted.
        connections_max: usize = CONNECTIONS_MAX,
    }
}

config_section! {
    /// Signing in.
    pub struct AuthConfig in "auth" {
        /// Fewest characters of a new password; not below 10.
        password_chars_min: usize = PASSWORD_CHARS_MIN,
        /// Failed logins of one account before it must wait.
        login_account_burst: u32 = LOGIN_ACCOUNT_BURST,
        /// Failed logins of one address before it must wait. An office behind one address shares it.
        login_address_burst: u32 = LOGIN_ADDRESS_BURST,
    }
}

config_section! {
    /// The pair: this machine's own side of it. What both nodes must agree on is set once with `holdfast pair` or the API.
    pub struct PairConfig in "pair" {
        /// Address and port for the other node and the witness. Opened as soon as this node invites or has joined.
        listen: String = "0.0.0.0:8444".to_owned(),
        /// Where the others reach that port; the first is the main link, heartbeats go over all of them. Without it: the
        /// address through which this machine's packets leave, and the port of `pair.listen`.
        addresses: Vec<String> = Vec::new(),
        /// A program that runs when this node becomes active, such as the shipped packaging/hooks/virtual-ip.
        on_active: Option<String> = None, example "/usr/local/lib/holdfast/virtual-ip add 10.0.0.100/24 eth0",
        /// A program that runs when this node stops being active, and once when it starts.
        on_standby: Option<String> = None, example "/usr/local/lib/holdfast/virtual-ip remove 10.0.0.100/24 eth0",
        /// How long such a program may take, in seconds; then it is ended.
        hook_timeout_seconds: u64 = HOOK_TIMEOUT_SECONDS_DEFAULT,
        /// Use no feature that nodes of an earlier level would not understand, although both could: keeps the way back to
        /// the version before open after an upgrade. 0: no limit.
        level_max: u32 = 0,
    }
}

config_section! {
    /// Backups: this machine's own side. Where they go and when is set once with `holdfast backup` or the API.
    pub struct BackupConfig in "backup" {
        /// A file with the private key that drills decrypt backups with, readable by the server's user only. Best on a standby, or on
        /// no server at all: whoever has it can read all backups.
        drill_key: Option<String> = None, example "/etc/holdfast/drill-key.txt",
    }
}
