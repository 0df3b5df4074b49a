//! Connections as they end in real life. turmoil loses what is sent into a partition and never sends it again, so a
//! connection with a gap would stay deaf for ever: here it breaks, when the partition ends or when the system would give
//! it up. A short disturbance is a `hold` instead, after which everything arrives, late.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use holdfast::replication::net::{Acceptor, BoxFuture, BoxStream, Net};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::net::SimNet;

/// Everybody on the network.
pub(crate) const HOSTS: [&str; 4] = ["node1", "node2", "witness", "people"];

/// The number of a host in [`HOSTS`].
pub(crate) fn host(name: &str) -> usize {
    HOSTS.iter().position(|host| *host == name).unwrap()
}

/// How often the connections between two hosts were broken.
#[derive(Default)]
struct Wire {
    breaks: AtomicU64,
    broken: Notify,
}

/// The connections between all hosts.
#[derive(Clone, Default)]
pub(crate) struct Wires(Arc<[[Wire; HOSTS.len()]; HOSTS.len()]>);

impl Wires {
    fn wire(&self, a: usize, b: usize) -> &Wire {
        &self.0[a.min(b)][a.max(b)]
    }

    /// Breaks every connection that there is between the two.
    pub(crate) fn break_all(&self, a: usize, b: usize) {
        let wire = self.wire(a, b);
        wire.breaks.fetch_add(1, Ordering::Relaxed);
        wire.broken.notify_waiters();
    }

    fn breaks(&self, a: usize, b: usize) -> u64 {
        self.wire(a, b).breaks.load(Ordering::Relaxed)
    }

    /// Resolves when the connections between the two were broken since there had been `breaks` of that.
    fn broken(&self, (a, b): (usize, usize), breaks: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let wires = self.clone();
        Box::pin(async move {
            let wire = wires.wire(a, b);
            loop {
                let mut broken = std::pin::pin!(wire.broken.notified());
                broken.as_mut().enable();
                if wire.breaks.load(Ordering::Relaxed) != breaks {
                    return;
                }
                broken.await;
            }
        })
    }
}

/// The network as one host sees it.
#[derive(Clone)]
pub(crate) struct WiredNet {
    /// Its number.
    pub(crate) me: usize,
    /// What breaks.
    pub(crate) wires: Wires,
}

impl WiredNet {
    fn wired(&self, stream: BoxStream, (other, breaks): (usize, u64)) -> BoxStream {
        let cut = || self.wires.broken((self.me, other), breaks);
        Box::new(Wired { stream, read: Some(cut()), write: Some(cut()) })
    }
}

impl Net for WiredNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            let other = host(address.split(':').next().unwrap_or_default());
            let breaks = self.wires.breaks(self.me, other);
            let stream = SimNet.connect(address).await?;
            Ok(self.wired(stream, (other, breaks)))
        })
    }

    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async move {
            let acceptor = SimNet.bind(address).await?;
            Ok(Box::new(WiredAcceptor { acceptor, net: self.clone() }) as Box<dyn Acceptor>)
        })
    }
}

struct WiredAcceptor {
    acceptor: Box<dyn Acceptor>,
    net: WiredNet,
}

impl Acceptor for WiredAcceptor {
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.acceptor.accept().await?;
            let other = turmoil::reverse_lookup(from.ip()).map_or(0, |name| host(&name));
            let breaks = self.net.wires.breaks(self.net.me, other);
            Ok((self.net.wired(stream, (other, breaks)), from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.acceptor.local_address()
    }
}

type Cut = Option<Pin<Box<dyn Future<Output = ()> + Send>>>;

/// A connection that can be broken.
struct Wired {
    stream: BoxStream,
    /// None once it was.
    read: Cut,
    write: Cut,
}

/// Whether the connection still holds; whoever asks is woken when it breaks.
fn whole(cut: &mut Cut, context: &mut Context<'_>) -> io::Result<()> {
    if cut.as_mut().is_some_and(|broken| broken.as_mut().poll(context).is_pending()) {
        return Ok(());
    }
    *cut = None;
    Err(io::ErrorKind::ConnectionReset.into())
}

impl AsyncRead for Wired {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        whole(&mut self.read, cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wired {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        whole(&mut self.write, cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
