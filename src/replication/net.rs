//! Where the members' connections come from: the real network, or a simulated one in tests. Must never know what the
//! bytes mean.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};

use crate::limits;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a connection can do.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection of any kind.
pub type BoxStream = Box<dyn Stream>;

/// A network: how to reach an address and how to be reached at one.
pub trait Net: Send + Sync + 'static {
    /// Connects to `address` (`host:port`; a name is looked up). The caller limits how long that may take.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>>;

    /// Listens on `address` (`ip:port`; port 0 takes a free one).
    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Acceptor>>>;
}

/// A listening socket.
pub trait Acceptor: Send + Sync + 'static {
    /// Waits for the next connection and tells where it comes from. May be dropped and called again.
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>>;

    /// Where it listens.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// The real network.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpNet;

impl Net for TcpNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            // A name may have several addresses (IPv6 first, an old machine second): the first that answers is taken.
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for candidate in lookup_host(address).await? {
                match TcpStream::connect(candidate).await {
                    Ok(stream) => return Ok(Box::new(tuned(stream)?) as BoxStream),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }

    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async move {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for candidate in lookup_host(address).await? {
                match listen(candidate) {
                    Ok(listener) => return Ok(Box::new(TcpAcceptor(listener)) as Box<dyn Acceptor>),
                    Err(error) => last = error,
                }
            }
            Err(last)
        })
    }
}

struct TcpAcceptor(TcpListener);

impl Acceptor for TcpAcceptor {
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(tuned(stream)?) as BoxStream, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restarted node must not wait for the connections of its last life to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(limits::PEER_BACKLOG)
}

/// A connection that sends at once and that the system gives up when the other machine has vanished.
fn tuned(stream: TcpStream) -> io::Result<TcpStream> {
    let probe_every = Duration::from_secs(limits::PEER_TCP_KEEPALIVE_SECONDS);
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, probe_every)?;
    sockopt::set_tcp_keepintvl(&stream, probe_every)?;
    sockopt::set_tcp_keepcnt(&stream, limits::PEER_TCP_KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(&stream, limits::PEER_TCP_USER_TIMEOUT_MS)?;
    Ok(stream)
}
