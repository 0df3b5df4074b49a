//! The listening sockets: accept, TLS, HTTP/1.1, with a bound on everything a stranger can make us hold.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::ClientAddress;
use crate::limits;
use crate::tls::ServerTls;

/// Who is let in, and as whom.
#[derive(Clone)]
pub(super) struct Admission {
    /// Connections at once.
    pub(super) connections_max: usize,
    /// Reverse proxies whose `X-Forwarded-For` is believed.
    pub(super) trusted_proxies: Arc<[IpAddr]>,
}

/// What every connection needs. Clones share it.
#[derive(Clone)]
pub(super) struct Listener {
    router: Router,
    tls: Option<ServerTls>,
    shutdown: CancellationToken,
    trusted_proxies: Arc<[IpAddr]>,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    /// The connections, so that a shutdown can wait for them.
    tasks: TaskTracker,
}

impl Listener {
    /// A listener that serves `router` until `shutdown`.
    #[must_use]
    pub(super) fn new(router: Router, shutdown: CancellationToken, admission: &Admission) -> Self {
        Self {
            router,
            tls: None,
            shutdown,
            trusted_proxies: admission.trusted_proxies.clone(),
            connections: Arc::new(Semaphore::new(admission.connections_max.min(limits::CONNECTIONS_MAX))),
            handshakes: Arc::new(Semaphore::new(limits::TLS_HANDSHAKES_MAX)),
            tasks: TaskTracker::new(),
        }
    }

    /// The same, with TLS.
    #[must_use]
    pub(super) fn with_tls(self, tls: Option<ServerTls>) -> Self {
        Self { tls, ..self }
    }

    /// The connections that are open.
    #[must_use]
    pub(super) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Accepts TCP connections until shutdown.
    pub(super) async fn run(self, listener: TcpListener) {
        loop {
            let Ok(permit) = self.connections.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = self.clone();
                    self.tasks.spawn(async move {
                        connection.serve_tcp(stream, peer).await;
                        drop(permit);
                    });
                }
                Err(error) => rest(&error).await,
            }
        }
    }

    /// Accepts connections on the local admin socket until shutdown.
    pub(super) async fn run_local(self, listener: UnixListener) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = self.clone();
                    self.tasks.spawn(async move {
                        connection.serve_http(stream, IpAddr::from([127, 0, 0, 1])).await;
                    });
                }
                Err(error) => rest(&error).await,
            }
        }
    }

    async fn serve_tcp(self, stream: TcpStream, peer: SocketAddr) {
        // A small frame must not wait for the answer to the one before.
        if stream.set_nodelay(true).is_err() {
            return; // the peer is gone already
        }
        let Some(tls) = self.tls.clone() else {
            return self.serve_http(stream, peer.ip()).await;
        };
        let Ok(permit) = self.handshakes.clone().acquire_owned().await else { return };
        let patience = Duration::from_secs(limits::TLS_HANDSHAKE_SECONDS_MAX);
        let handshake = tls.acceptor().accept_with(stream, ServerTls::bound_buffers);
        let Ok(Ok(stream)) = tokio::time::timeout(patience, handshake).await else {
            return; // no TLS, no trust in our certificate, or too slow: nothing to say and nobody to say it to
        };
        drop(permit);
        self.serve_http(stream, peer.ip()).await;
    }

    async fn serve_http<S>(self, stream: S, address: IpAddr)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone();
        let peer = canonical(address);
        let proxied = self.trusted_proxies.contains(&peer);
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            let client = if proxied { forwarded_for(request.headers()).unwrap_or(peer) } else { peer };
            request.extensions_mut().insert(ClientAddress(client));
            let router = router.clone();
            router.oneshot(request.map(axum::body::Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(limits::HTTP_HEADER_SECONDS_MAX))
            .max_buf_size(limits::HTTP_HEADER_BYTES_MAX)
            .max_headers(limits::HTTP_HEADERS_MAX)
            .half_close(false)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::pin!(connection);
        // Errors here are the peer's: it sent what is no HTTP (hyper has answered 400), or is gone.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        drop(connection.await);
    }
}

/// The client as the nearest proxy saw it: the last address, which the proxy itself added. Those before it are whatever
/// the client wrote.
fn forwarded_for(headers: &axum::http::HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").into_iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok().map(canonical)
}

/// An IPv4 client of an IPv6 socket under its own address.
fn canonical(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// After a failed accept: out of file descriptors passes, so the loop goes on, but not in a spin.
async fn rest(error: &io::Error) {
    let connection_failed = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    );
    if !connection_failed {
        tracing::warn!(%error, "cannot accept connections; is the open-file limit too low?");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
