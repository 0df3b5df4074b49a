//! HTTP to one server of a target: connections with our TLS, kept for the next request, and answers that say no turned into
//! [`Fault`]s. The transport below opendal's services.
//!
//! Must never talk to any other server than the one it was made for (no redirects, no proxies, no look-ups of keys), nor put
//! a header of a request into an error.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use md5::{Digest, Md5};
use opendal::{Buffer, HttpBody, HttpTransport};
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::fault::{Fault, Patience};
use super::{TargetError, xml};
use crate::limits::{BACKUP_HTTP_ERROR_BYTES_MAX, BACKUP_HTTP_IDLE_MAX};

/// The body of a request.
pub(super) type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// Which answers mean no, and where the reason stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Errors are XML with a `Code`.
    S3,
    /// Errors are plain statuses.
    Webdav,
}

/// One server. Cheap to clone.
#[derive(Clone)]
pub(super) struct HttpClient(Arc<Inner>);

struct Inner {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    idle: Mutex<Vec<SendRequest<Sent>>>,
    dialect: Dialect,
    patience: Patience,
}

impl HttpClient {
    /// The server of `url`, for which `ca_pem` is trusted beside what this machine trusts.
    ///
    /// # Errors
    /// [`TargetError::BadSettings`] when the URL is none, or the certificates are none.
    pub(super) fn new(url: &str, ca_pem: &str, dialect: Dialect, patience: Patience) -> Result<Self, TargetError> {
        let bad = |why: &str| TargetError::BadSettings(format!("the URL {why}"));
        let uri: Uri = url.parse().map_err(|_| bad("is no URL"))?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| bad("names no server"))?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) || uri.query().is_some() {
            return Err(TargetError::BadSettings(
                "user and password have fields of their own beside the URL".to_owned(),
            ));
        }
        let host = host.trim_matches(['[', ']']).to_owned();
        let (tls, usual) = match uri.scheme_str() {
            Some("https") => {
                let name = ServerName::try_from(host.clone()).map_err(|_| bad("names no server"))?;
                (Some((TlsConnector::from(Arc::new(tls_config(ca_pem)?)), name)), 443)
            }
            Some("http") => (None, 80),
            _ => return Err(bad("begins with neither https:// nor http://")),
        };
        let port = uri.port_u16().unwrap_or(usual);
        Ok(Self(Arc::new(Inner { host, port, tls, idle: Mutex::new(Vec::new()), dialect, patience })))
    }

    /// `host:port`, for people.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.0.host, self.0.port)
    }

    fn broken(&self, cause: &dyn std::fmt::Display) -> Fault {
        Fault::Broken { place: self.place(), cause: cause.to_string() }
    }

    async fn patiently<T>(&self, work: impl Future<Output = T>) -> Result<T, Fault> {
        let limit = self.0.patience.timeout;
        timeout(limit, work).await.map_err(|_| Fault::Silent { place: self.place(), seconds: limit.as_secs() })
    }

    /// A connection that is ready, and whether it is new.
    async fn connection(&self) -> Result<(SendRequest<Sent>, bool), Fault> {
        {
            let mut idle = self.0.idle.lock();
            idle.retain(|sender| !sender.is_closed());
            if let Some(at) = idle.iter().position(SendRequest::is_ready) {
                return Ok((idle.swap_remove(at), false));
            }
        }
        let (host, port) = (self.0.host.as_str(), self.0.port);
        let tcp = self.patiently(TcpStream::connect((host, port))).await?;
        let tcp = tcp.map_err(|e| Fault::of_dialling(&self.place(), &e))?;
        tcp.set_nodelay(true).map_err(|e| self.broken(&e))?;
        let Some((connector, name)) = &self.0.tls else { return Ok((self.speak(TokioIo::new(tcp)).await?, true)) };
        let tls = self.patiently(connector.connect(name.clone(), tcp)).await?;
        let tls = tls.map_err(|e| self.of_handshake(&e))?;
        Ok((self.speak(TokioIo::new(tls)).await?, true))
    }

    fn of_handshake(&self, error: &io::Error) -> Fault {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match inner {
            Some(rustls::Error::InvalidCertificate(why)) => {
                Fault::Certificate { place: self.place(), cause: why.to_string() }
            }
            Some(other) => self.broken(&format!("{other} (is this a port for https?)")),
            None => self.broken(error),
        }
    }

    async fn speak<S>(&self, stream: S) -> Result<SendRequest<Sent>, Fault>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(stream).await.map_err(|e| self.broken(&e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a backup target ended");
            }
        });
        Ok(sender)
    }

    /// Sends a request whose URI is absolute. The answer may be any status. Waits for it without a limit of its own.
    pub(super) async fn send(&self, request: Request<Sent>) -> Result<Response<Incoming>, Fault> {
        let mut request = to_origin_form(request, self.0.dialect);
        loop {
            let (mut sender, is_new) = self.connection().await?;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message() {
                    // The server had closed the kept connection before anything of the request left.
                    Some(back) if !is_new => request = back,
                    _ => return Err(self.broken(&chain(failed.error()))),
                },
            }
        }
    }

    /// Sends a request that is in memory. Gives up when nothing moves for as long as patience lasts: a slow link may take longer.
    pub(super) async fn exchange(&self, request: Request<VecDeque<Bytes>>) -> Result<Response<Incoming>, Fault> {
        let moved = Arc::new(AtomicU64::new(0));
        let request = request.map(|pieces| UnsyncBoxBody::new(Whole { pieces, moved: Arc::clone(&moved) }));
        let mut answer = Box::pin(self.send(request));
        let mut before = 0;
        loop {
            match self.patiently(&mut answer).await {
                Ok(answer) => return answer,
                Err(silent) => {
                    let now = moved.load(Ordering::Relaxed);
                    if now == before {
                        return Err(silent);
                    }
                    before = now;
                }
            }
        }
    }

    fn keep(&self, sender: SendRequest<Sent>) {
        let mut idle = self.0.idle.lock();
        if idle.len() < BACKUP_HTTP_IDLE_MAX {
            idle.push(sender);
        }
    }

    /// Passes an answer on, or turns a no into a [`Fault`].
    pub(super) async fn judge(&self, is_head: bool, response: Response<Incoming>) -> Result<Response<HttpBody>, Fault> {
        let (parts, body) = response.into_parts();
        if !is_no(self.0.dialect, parts.status) {
            let length = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            let length = if is_head { None } else { length };
            return Ok(Response::from_parts(parts, HttpBody::new(Arriving::new(body, self.clone()), length)));
        }
        let said = self.patiently(Limited::new(body, BACKUP_HTTP_ERROR_BYTES_MAX).collect()).await?;
        let said = said.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(&said);
        let refused = |code: &str, said: String| Fault::Refused {
            place: self.place(),
            status: parts.status.as_u16(),
            code: code.to_owned(),
            said,
        };
        if parts.status.is_redirection() {
            let to = parts.headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("another place");
            return Err(refused("", format!("it sends us to {to}; enter that as the target if it is right")));
        }
        match (self.0.dialect, xml::between(&text, "Code"), xml::between(&text, "Message")) {
            (Dialect::Webdav, ..) => Err(refused("", parts.status.canonical_reason().unwrap_or_default().to_owned())),
            // These may pass; opendal knows when to try them again.
            (Dialect::S3, Some("RequestTimeout" | "SlowDown" | "InternalError"), _) => {
                let again = futures_util::stream::iter([Ok(Buffer::from(said.clone()))]);
                Ok(Response::from_parts(parts, HttpBody::new(again, None)))
            }
            (Dialect::S3, code, message) => {
                Err(refused(code.unwrap_or_default(), message.unwrap_or_default().chars().take(300).collect()))
            }
        }
    }
}

impl HttpTransport for HttpClient {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let is_head = request.method() == Method::HEAD;
        let mut request = request.map(|body| body.into_iter().collect::<VecDeque<Bytes>>());
        if self.0.dialect == Dialect::S3 && request.method() == Method::PUT {
            // A bucket with object lock takes no upload without a checksum. This one every store understands, and opendal has it
            // for uploads in one piece only.
            let sum = request.body().iter().fold(Md5::new(), |sum, piece| sum.chain_update(piece)).finalize();
            let text = data_encoding::BASE64.encode(&sum);
            if let Ok(value) = HeaderValue::from_str(&text) {
                request.headers_mut().insert("content-md5", value);
            }
        }
        let response = self.exchange(request).await.map_err(Fault::into_opendal)?;
        self.judge(is_head, response).await.map_err(Fault::into_opendal)
    }
}

/// Whether an answer of that status is turned into a [`Fault`]; the others mean something to opendal's services.
fn is_no(dialect: Dialect, status: StatusCode) -> bool {
    let redirect = status.is_redirection() && status != StatusCode::NOT_MODIFIED;
    match dialect {
        Dialect::S3 => redirect || matches!(status.as_u16(), 400..=403 | 405..=408 | 411 | 413..=415 | 417..=428 | 507),
        Dialect::Webdav => redirect || matches!(status.as_u16(), 401 | 403 | 409 | 413 | 507),
    }
}

/// Checks the certificates of an authority as a target's settings have them; an empty text is fine.
///
/// # Errors
/// [`TargetError::BadCertificate`].
pub fn check_ca_pem(ca_pem: &str) -> Result<(), TargetError> {
    add_authorities(&mut RootCertStore::empty(), ca_pem)
}

fn add_authorities(roots: &mut RootCertStore, ca_pem: &str) -> Result<(), TargetError> {
    let bad = |why: String| TargetError::BadCertificate(why);
    if ca_pem.contains("PRIVATE KEY-----") {
        return Err(bad(
            "there is a private key in it: give the certificate alone, and keep the key where it was".to_owned()
        ));
    }
    let mut found = 0;
    for one in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        let one = one.map_err(|e| bad(format!("it is not PEM: {e}")))?;
        roots.add(one).map_err(|e| bad(format!("number {} cannot be read: {e}", found + 1)))?;
        found += 1;
    }
    if found == 0 && !ca_pem.is_empty() {
        return Err(bad("there is no -----BEGIN CERTIFICATE----- in it".to_owned()));
    }
    Ok(())
}

fn tls_config(ca_pem: &str) -> Result<ClientConfig, TargetError> {
    let bad = |why: String| TargetError::BadSettings(why);
    let mut roots = RootCertStore::empty();
    // A machine may have none, or some that are damaged: what is trusted in the end, the handshake tells.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    add_authorities(&mut roots, ca_pem)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|e| bad(format!("TLS cannot be set up: {e}")))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn to_origin_form(mut request: Request<Sent>, dialect: Dialect) -> Request<Sent> {
    let uri = request.uri().clone();
    if let Some(host) = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    let origin = match (dialect, uri.query()) {
        // As it was signed: a slash in a query is encoded there, and not every store does that again by itself.
        (Dialect::S3, Some(query)) => format!("{}?{}", uri.path(), query.replace('/', "%2F")),
        _ => uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    };
    if let Ok(origin) = origin.parse() {
        *request.uri_mut() = origin;
    }
    request
}

/// An error with what is below it: hyper says the reason there only.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Bytes of a body that are handed to the connection at once: what counts as moving.
pub(super) const MOVED_BYTES: usize = 64 << 10;

/// A body that is in memory, and how much of it has left.
struct Whole {
    pieces: VecDeque<Bytes>,
    moved: Arc<AtomicU64>,
}

impl Body for Whole {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(first) = self.pieces.front_mut() else { return Poll::Ready(None) };
        let piece = first.split_to(first.len().min(MOVED_BYTES));
        if first.is_empty() {
            self.pieces.pop_front();
        }
        self.moved.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// The body of an answer, as opendal reads it. Ends with an error when nothing comes for as long as patience lasts.
struct Arriving {
    body: Incoming,
    silence: Pin<Box<tokio::time::Sleep>>,
    client: HttpClient,
}

impl Arriving {
    fn new(body: Incoming, client: HttpClient) -> Self {
        Self { body, silence: Box::pin(tokio::time::sleep(client.0.patience.timeout)), client }
    }
}

impl Stream for Arriving {
    type Item = opendal::Result<Buffer>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                if self.silence.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let seconds = self.client.0.patience.timeout.as_secs();
                let silent = Fault::Silent { place: self.client.place(), seconds };
                return Poll::Ready(Some(Err(silent.into_opendal())));
            };
            let limit = tokio::time::Instant::now() + self.client.0.patience.timeout;
            self.silence.as_mut().reset(limit);
            return Poll::Ready(match frame {
                None => None,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => Some(Ok(Buffer::from(piece))),
                    Err(_trailers) => continue,
                },
                Some(Err(error)) => Some(Err(self.client.broken(&chain(&error)).into_opendal())),
            });
        }
    }
}
