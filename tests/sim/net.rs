//! The simulated network behind the program's own seam: turmoil's sockets as `Net`. Must be used from a turmoil host only.

use std::io;
use std::net::SocketAddr;

use holdfast::replication::net::{Acceptor, BoxFuture, BoxStream, Net};
use turmoil::net::{TcpListener, TcpStream};

/// Addresses are `host:port` with turmoil's host names; hosts listen on `0.0.0.0:port`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SimNet;

impl Net for SimNet {
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move { Ok(Box::new(TcpStream::connect(address).await?) as BoxStream) })
    }

    fn bind<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Acceptor>>> {
        Box::pin(async move { Ok(Box::new(SimAcceptor(TcpListener::bind(address).await?)) as Box<dyn Acceptor>) })
    }
}

struct SimAcceptor(TcpListener);

impl Acceptor for SimAcceptor {
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxStream, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as BoxStream, from))
        })
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
