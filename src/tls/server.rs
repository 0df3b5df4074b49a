//! The server side of TLS: one rustls configuration for the life of the process, whose certificate can be swapped.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::authority::{Authority, read_optional};
use super::info::{CertificateInfo, parse, sans};
use super::install::{judge, pair_up, read_chain, read_key};
use crate::limits::{TLS_CONNECTION_BUFFER_BYTES_MAX, TLS_RENEW_DAYS, TLS_TICKETS_PER_HANDSHAKE};
use crate::ops::durable_file::{remove_durably, write_private};

const NODE_FILE: &str = "node.pem";
const INSTALLED_FILE: &str = "installed.pem";

/// Where the certificates are and whom they name.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// `<data>/tls`.
    pub dir: PathBuf,
    /// DNS names and IP addresses beside `localhost`, the host name, `127.0.0.1` and `::1`.
    pub names: Vec<String>,
}

/// Hands out the current certificate. A connection keeps the one it began with.
struct CurrentCertificate(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for CurrentCertificate {
    // The key must not be printable by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentCertificate")
    }
}

/// TLS of the listening port. Cheap to clone. Opening, reloading and installing touch files: call them from blocking threads.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

struct Shared {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    config: Arc<ServerConfig>,
    current: Arc<CurrentCertificate>,
    info: ArcSwap<CertificateInfo>,
    /// Held while files change; it also holds what changes with them.
    authority: Mutex<Authority>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("info", &self.info()).finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Loads the certificates of `options.dir`, making the CA and the node certificate when they are missing or due.
    pub fn open(options: TlsOptions, now_unix_seconds: i64) -> Result<ServerTls, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = Authority::load_or_create(&options.dir, now_unix_seconds)?;
        let (certified, info) = load_current(&options, &authority, now_unix_seconds, &provider)?;
        let current = Arc::new(CurrentCertificate(ArcSwap::from_pointee(certified)));
        let config = Arc::new(server_config(&provider, Arc::clone(&current))?);
        let shared = Shared {
            options,
            provider,
            config,
            current,
            info: ArcSwap::from_pointee(info),
            authority: Mutex::new(authority),
        };
        Ok(ServerTls { shared: Arc::new(shared) })
    }

    /// The configuration for the accept loop. It stays the same; the certificate inside changes.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shared.config)
    }

    /// The acceptor for the accept loop. Use [`bound_buffers`](Self::bound_buffers) with its `accept_with`.
    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        tokio_rustls::TlsAcceptor::from(self.config())
    }

    /// Bounds what rustls buffers for one connection: a peer that does not read must not cost memory.
    pub fn bound_buffers(connection: &mut rustls::ServerConnection) {
        connection.set_buffer_limit(Some(TLS_CONNECTION_BUFFER_BYTES_MAX));
    }

    /// The certificate that new connections get.
    pub fn info(&self) -> Arc<CertificateInfo> {
        self.shared.info.load_full()
    }

    /// The own CA in PEM form, for download and import by clients.
    pub fn ca_pem(&self) -> String {
        self.shared.authority.lock().pem().to_owned()
    }

    /// SHA-256 of the own CA in hex with colons, to be compared by eye before it is trusted.
    pub fn ca_fingerprint(&self) -> String {
        self.shared.authority.lock().fingerprint()
    }

    /// Reads the files again and issues a new node certificate when it is due or the names changed. New connections get the
    /// result; open ones go on. Call it daily and on SIGHUP. On an error the certificate in use stays.
    pub fn reload(&self, now_unix_seconds: i64) -> Result<Arc<CertificateInfo>, TlsError> {
        let mut authority = self.shared.authority.lock();
        let loaded = Authority::load_or_create(&self.shared.options.dir, now_unix_seconds)?;
        let current = load_current(&self.shared.options, &loaded, now_unix_seconds, &self.shared.provider)?;
        *authority = loaded;
        Ok(self.swap(current))
    }

    /// Checks an uploaded chain and key, stores them durably and serves them from the next connection on.
    ///
    /// # Errors
    /// One code per reason; nothing was written then, and the certificate in use stays.
    pub fn install(
        &self,
        chain_pem: &[u8],
        key_pem: &[u8],
        now_unix_seconds: i64,
    ) -> Result<CertificateInfo, TlsError> {
        let authority = self.shared.authority.lock();
        let certified = judge(chain_pem, key_pem, now_unix_seconds, &self.shared.provider)?;
        let info = info_of(&certified, &authority)?;
        let path = self.shared.options.dir.join(INSTALLED_FILE);
        let mut pem = chain_pem.to_vec();
        pem.push(b'\n');
        pem.extend_from_slice(key_pem);
        write_private(&path, &pem).map_err(TlsError::io("write", &path))?;
        Ok(self.swap((certified, info)).as_ref().clone())
    }

    /// Removes an uploaded certificate: the node's own one is served again.
    pub fn uninstall(&self, now_unix_seconds: i64) -> Result<Arc<CertificateInfo>, TlsError> {
        let path = self.shared.options.dir.join(INSTALLED_FILE);
        remove_durably(&path).map_err(TlsError::io("remove", &path))?;
        self.reload(now_unix_seconds)
    }

    fn swap(&self, (certified, info): (CertifiedKey, CertificateInfo)) -> Arc<CertificateInfo> {
        self.shared.current.0.store(Arc::new(certified));
        let info = Arc::new(info);
        self.shared.info.store(Arc::clone(&info));
        info
    }
}

/// Reads what is served from `dir` now, without making or changing anything: for `doctor`. `None` before the first start.
pub fn read_served(dir: &Path) -> Result<Option<CertificateInfo>, TlsError> {
    for (file, own_ca) in [(INSTALLED_FILE, false), (NODE_FILE, true)] {
        if let Some(pem) = read_optional(&dir.join(file))? {
            let chain = read_chain(pem.as_bytes())?;
            return chain.first().map(|leaf| CertificateInfo::read(leaf, own_ca)).transpose();
        }
    }
    Ok(None)
}

fn server_config(provider: &Arc<CryptoProvider>, current: Arc<CurrentCertificate>) -> Result<ServerConfig, TlsError> {
    let issue = |error: rustls::Error| TlsError::Issue(error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(issue)?
        .with_no_client_auth()
        .with_cert_resolver(current);
    // Only what the accept loop speaks.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Sessions live in the client's ticket, sealed with a key of this process: a reconnect is cheap, and no memory is held here.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(issue)?;
    config.send_tls13_tickets = TLS_TICKETS_PER_HANDSHAKE;
    Ok(config)
}

/// The uploaded certificate if there is one, else the node's own, issued anew when that is due.
fn load_current(
    options: &TlsOptions,
    authority: &Authority,
    now_unix_seconds: i64,
    provider: &Arc<CryptoProvider>,
) -> Result<(CertifiedKey, CertificateInfo), TlsError> {
    let installed = options.dir.join(INSTALLED_FILE);
    if let Some(pem) = read_optional(&installed)? {
        // Not judged again: an expired certificate must not keep the server down. `doctor` and the console warn of it.
        let certified = pair_up(read_chain(pem.as_bytes())?, read_key(pem.as_bytes())?, provider)?;
        let info = info_of(&certified, authority)?;
        return Ok((certified, info));
    }
    let path = options.dir.join(NODE_FILE);
    let names = wanted_names(&options.names);
    if let Some(pem) = read_optional(&path)? {
        match usable_node(&pem, &Wanted { names: &names, now_unix_seconds }, authority, provider) {
            Ok(current) => return Ok(current),
            Err(reason) => tracing::info!(reason = %reason, "issuing a new node certificate"),
        }
    }
    let pem = authority.issue(&names, now_unix_seconds)?;
    let certified = pair_up(read_chain(pem.as_bytes())?, read_key(pem.as_bytes())?, provider)?;
    let info = info_of(&certified, authority)?;
    write_private(&path, pem.as_bytes()).map_err(TlsError::io("write", &path))?;
    Ok((certified, info))
}

/// What a node certificate must fulfil to stay in use.
struct Wanted<'a> {
    /// Exactly these names, sorted.
    names: &'a [String],
    /// Long enough valid at this time.
    now_unix_seconds: i64,
}

/// The node certificate in `pem` if it can stay, else the reason why not.
fn usable_node(
    pem: &str,
    wanted: &Wanted<'_>,
    authority: &Authority,
    provider: &Arc<CryptoProvider>,
) -> Result<(CertifiedKey, CertificateInfo), String> {
    let read = || -> Result<(CertifiedKey, CertificateInfo, Vec<String>), TlsError> {
        let certified = pair_up(read_chain(pem.as_bytes())?, read_key(pem.as_bytes())?, provider)?;
        let info = info_of(&certified, authority)?;
        let mut present = match certified.cert.first() {
            Some(leaf) => sans(&parse(leaf)?)?,
            None => Vec::new(),
        };
        present.sort_unstable();
        Ok((certified, info, present))
    };
    let (certified, info, present) = read().map_err(|error| format!("the old one is damaged: {error}"))?;
    if info.days_left(wanted.now_unix_seconds) < i64::try_from(TLS_RENEW_DAYS).unwrap_or(i64::MAX) {
        return Err(format!("the old one is valid until {}", info.not_after));
    }
    if !info.own_ca {
        return Err("the old one is not from the own CA".to_owned());
    }
    if present != wanted.names {
        return Err("the names changed".to_owned());
    }
    Ok((certified, info))
}

fn info_of(certified: &CertifiedKey, authority: &Authority) -> Result<CertificateInfo, TlsError> {
    let Some(leaf) = certified.cert.first() else { return Err(TlsError::ChainUnreadable("it is empty".to_owned())) };
    CertificateInfo::read(leaf, authority.issued(leaf))
}

/// All names of the node certificate, sorted, each once.
fn wanted_names(configured: &[String]) -> Vec<String> {
    let always = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    // A host name that is none (underscores, blanks) would make a certificate that clients refuse as a whole.
    let host = Some(host).filter(|host| crate::config::is_host_name(host));
    let canonical =
        |name: String| name.parse::<std::net::IpAddr>().map_or(name.to_lowercase(), |address| address.to_string());
    let mut names: Vec<String> =
        always.into_iter().chain(host).chain(configured.iter().cloned()).map(canonical).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
