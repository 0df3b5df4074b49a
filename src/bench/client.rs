//! Connections to the server under test: TCP or TLS, and a lean HTTP/1.1 client on hyper.
//!
//! Danger: [`Trust::AnyCertificate`] believes whoever answers. It is for measuring one's own server (which has a
//! certificate of its own authority); never give it a token that matters on a network that is not yours.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use super::error::BenchError;
use crate::limits::{BENCH_CONNECT_SECONDS_MAX, BENCH_RESPONSE_BYTES_MAX, BENCH_RETRIES_MAX};

/// Which certificates are believed.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that the authorities in this PEM file signed.
    CaFile(PathBuf),
    /// Every one, unchecked. See the module's warning.
    AnyCertificate,
}

/// A byte stream to the server.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Plain(TcpStream),
    /// TLS on TCP.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Where the server is and how to get there.
#[derive(Clone)]
pub struct Endpoint {
    authority: String,
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Endpoint {
    /// From a base URL, `http://host:port` or `https://host:port`; a path is ignored.
    ///
    /// # Errors
    /// The URL is no such URL, the name has no address, or the CA file cannot be read.
    pub fn new(url: &str, trust: &Trust) -> Result<Self, BenchError> {
        let wrong = |why: &str| BenchError::options(format!("--url {url}: {why}"));
        let uri: hyper::Uri = url.trim().parse().map_err(|_| wrong("this is not a URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it must start with http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| wrong("it has no host"))?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = (host, port)
            .to_socket_addrs()
            .map_err(|error| wrong(&error.to_string()))?
            .next()
            .ok_or_else(|| wrong("the name has no address"))?;
        let tls = if secure {
            let name = ServerName::try_from(host.to_owned()).map_err(|_| wrong("TLS cannot check this name"))?;
            Some((TlsConnector::from(Arc::new(tls_config(trust)?)), name))
        } else {
            None
        };
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        Ok(Self { authority, address, tls })
    }

    /// Host and port as the URL says them.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The server is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.address.ip().is_loopback()
    }

    /// Connects, from `source` if given.
    ///
    /// # Errors
    /// The connection or the TLS handshake failed or took too long.
    pub async fn connect(&self, source: Option<IpAddr>) -> Result<Stream, BenchError> {
        let op = format!("connect to {}", self.authority);
        let connecting = async {
            let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if let Some(source) = source {
                socket.bind(SocketAddr::new(source, 0))?;
            }
            let stream = socket.connect(self.address).await?;
            stream.set_nodelay(true)?;
            match &self.tls {
                None => Ok(Stream::Plain(stream)),
                Some((connector, name)) => {
                    let stream = connector.connect(name.clone(), stream).await?;
                    Ok(Stream::Tls(Box::new(stream)))
                }
            }
        };
        match tokio::time::timeout(Duration::from_secs(BENCH_CONNECT_SECONDS_MAX), connecting).await {
            Ok(result) => result.map_err(|error: std::io::Error| BenchError::io(op, &error)),
            Err(_) => Err(BenchError::Protocol { op, detail: "no answer in time".to_owned() }),
        }
    }
}

fn tls_config(trust: &Trust) -> Result<rustls::ClientConfig, BenchError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| BenchError::options(error.to_string()))?;
    Ok(match trust {
        Trust::CaFile(path) => builder.with_root_certificates(read_roots(path)?).with_no_client_auth(),
        Trust::AnyCertificate => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(BelieveAnyone(provider)))
            .with_no_client_auth(),
    })
}

fn read_roots(path: &Path) -> Result<rustls::RootCertStore, BenchError> {
    let wrong = |why: String| BenchError::options(format!("CA file {}: {why}", path.display()));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("no certificate in it".to_owned())) } else { Ok(roots) }
}

/// Believes any certificate; still checks that the peer holds its key. Only for one's own server.
#[derive(Debug)]
struct BelieveAnyone(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for BelieveAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// One keep-alive HTTP connection. Must be used inside a tokio runtime, which drives it.
#[derive(Debug)]
pub struct Http {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Http {
    /// Connects.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn connect(endpoint: &Endpoint) -> Result<Self, BenchError> {
        let io = hyper_util::rt::TokioIo::new(endpoint.connect(None).await?);
        let (sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(|error| BenchError::Protocol { op: "HTTP connection".to_owned(), detail: error.to_string() })?;
        tokio::spawn(async move {
            // A failure shows as the failure of the request that needed the connection.
            let _ = connection.await;
        });
        Ok(Self { sender, authority: endpoint.authority.clone() })
    }

    /// One request, once; gives the status, the seconds of `Retry-After`, and the body.
    ///
    /// # Errors
    /// No answer came, or it was too long. Any status is an answer.
    pub async fn exchange(&mut self, request: &Call<'_>) -> Result<(StatusCode, u64, Bytes), BenchError> {
        let failed = |detail: String| BenchError::Protocol { op: request.to_string(), detail };
        let mut builder =
            Request::builder().method(request.method.clone()).uri(request.path).header(HOST, self.authority.as_str());
        if let Some(token) = request.token {
            builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match &request.body {
            Some(body) => {
                builder = builder.header(CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let message = builder.body(Full::new(body)).map_err(|error| failed(error.to_string()))?;
        self.sender.ready().await.map_err(|error| failed(error.to_string()))?;
        let answer = self.sender.send_request(message).await.map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(answer.into_body(), BENCH_RESPONSE_BYTES_MAX).collect().await;
        let body = body.map_err(|error| failed(error.to_string()))?.to_bytes();
        Ok((status, retry_after.unwrap_or(1), body))
    }

    /// One request that must succeed; asked again a few times when the server is busy.
    ///
    /// # Errors
    /// No answer, a refusal, or a body that is not JSON.
    pub async fn call(&mut self, request: Call<'_>) -> Result<Value, BenchError> {
        let mut retries = 0;
        loop {
            let (status, retry_after, body) = self.exchange(&request).await?;
            let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            if busy && retries < BENCH_RETRIES_MAX {
                retries += 1;
                tokio::time::sleep(Duration::from_secs(retry_after.clamp(1, 60))).await;
            } else if !status.is_success() {
                let value: Value = serde_json::from_slice(&body).unwrap_or_default();
                let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
                let (code, detail) = (text("code"), text("detail"));
                return Err(BenchError::Refused { op: request.to_string(), status: status.as_u16(), code, detail });
            } else if body.is_empty() {
                return Ok(Value::Null);
            } else {
                return serde_json::from_slice(&body).map_err(|error| BenchError::Protocol {
                    op: request.to_string(),
                    detail: format!("the answer is not JSON: {error}"),
                });
            }
        }
    }
}

/// An HTTP request to make.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// The bearer token.
    pub token: Option<&'a str>,
    /// The JSON body.
    pub body: Option<Value>,
}

impl<'a> Call<'a> {
    /// A GET.
    #[must_use]
    pub const fn get(path: &'a str, token: &'a str) -> Self {
        Self { method: Method::GET, path, token: Some(token), body: None }
    }

    /// A POST.
    #[must_use]
    pub const fn post(path: &'a str, token: Option<&'a str>, body: Value) -> Self {
        Self { method: Method::POST, path, token, body: Some(body) }
    }
}

impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// The string member `name` of an answer, or of an object in it when `name` is a JSON pointer.
///
/// # Errors
/// There is none: the server is not what this tool was written for.
pub fn text<'v>(value: &'v Value, pointer: &str) -> Result<&'v str, BenchError> {
    value.pointer(pointer).and_then(Value::as_str).ok_or_else(|| BenchError::Protocol {
        op: "read an answer".to_owned(),
        detail: format!("no text at {pointer} in {value:.300}"),
    })
}
