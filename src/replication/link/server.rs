//! The accepting side: the peer port, with a bound on everything that a stranger or a broken member can make us hold.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::framed::{Framed, Link};
use super::{LinkError, agree};
use crate::core::failover::{Epoch, Member};
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::replication::net::{Acceptor, BoxFuture, BoxStream, Net};
use crate::replication::pki::{PeerIdentity, PeerTls};
use crate::replication::wire::{Class, Hello, Refused, Reply, Welcome};

/// A peer that was let in.
#[derive(Clone, Debug)]
pub struct PeerHello {
    /// What it said. Its member number is the certificate's; for a joining machine nothing in it is proven.
    pub hello: Hello,
    /// The link protocol that both speak.
    pub protocol: u32,
    /// What it is by the pair's settings; `None` for a joining machine.
    pub kind: Option<PairMemberKind>,
    /// Where it connects from.
    pub address: SocketAddr,
}

/// What takes over the links.
pub trait LinkHandler: Send + Sync + 'static {
    /// How this member answers a hello now. `protocol` is the newest it speaks; the class is filled in.
    fn welcome(&self) -> Welcome;

    /// Serves a link of the peer's class until it ends. Dropped at shutdown.
    fn serve(&self, peer: PeerHello, link: Link) -> BoxFuture<'static, ()>;

    /// Told of every connection that was not let in.
    fn refused(&self, _from: SocketAddr, _error: &LinkError) {}
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct LinkTimes {
    /// The TLS handshake, and then the hello, each.
    pub handshake_max: Duration,
    /// What a refused peer has to read why.
    pub refusal_max: Duration,
}

impl Default for LinkTimes {
    fn default() -> Self {
        Self {
            handshake_max: Duration::from_millis(limits::PEER_HANDSHAKE_MS_MAX),
            refusal_max: Duration::from_millis(limits::PEER_REFUSAL_MS_MAX),
        }
    }
}

/// What the peer port needs.
#[derive(Clone)]
pub struct LinkServerOptions {
    /// Certificates, and who is allowed.
    pub tls: PeerTls,
    /// Who takes the links.
    pub handler: Arc<dyn LinkHandler>,
    /// How long things may take; the defaults but in tests.
    pub times: LinkTimes,
}

/// The peer port, listening.
pub struct LinkServer {
    acceptor: Box<dyn Acceptor>,
    shared: Arc<Shared>,
}

impl fmt::Debug for LinkServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkServer").field("address", &self.local_address().ok()).finish_non_exhaustive()
    }
}

struct Shared {
    options: LinkServerOptions,
    places: Arc<Places>,
}

impl LinkServer {
    /// Listens on `address` (`ip:port`).
    ///
    /// # Errors
    /// When the system refuses: the port is taken, the address is not of this machine.
    pub async fn bind(net: &dyn Net, address: &str, options: LinkServerOptions) -> std::io::Result<LinkServer> {
        let acceptor = net.bind(address).await?;
        Ok(LinkServer { acceptor, shared: Arc::new(Shared { options, places: Arc::default() }) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_address(&self) -> std::io::Result<SocketAddr> {
        self.acceptor.local_address()
    }

    /// Accepts links until `shutdown`; then ends those that are still served.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
                accepted = self.acceptor.accept() => match accepted {
                    Ok((stream, from)) => {
                        let Some(place) = Place::take(&self.shared.places, Whose::Handshake(from.ip())) else {
                            self.shared.tell(from, &LinkError::TooManyLinks);
                            continue;
                        };
                        tasks.spawn(Arc::clone(&self.shared).admit(stream, from, place));
                    }
                    Err(error) => {
                        // Out of files, or a connection that died in the queue: nothing that giving up would better.
                        tracing::warn!(%error, "the peer port cannot accept a connection");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        tasks.shutdown().await;
    }
}

/// The pause after a failed accept: the cause (no free file) seldom goes away within the same millisecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection between TLS and the answer to its hello.
struct Arrived {
    framed: Framed,
    certificate: Option<PeerIdentity>,
    from: SocketAddr,
}

impl Shared {
    async fn admit(self: Arc<Self>, stream: BoxStream, from: SocketAddr, handshake: Place) {
        let served = Box::pin(self.greet(stream, from)).await;
        drop(handshake);
        match served {
            Ok(serving) => serving.await,
            Err(error) => self.tell(from, &error),
        }
    }

    fn tell(&self, from: SocketAddr, error: &LinkError) {
        tracing::debug!(%from, code = error.own_code(), %error, "a connection to the peer port was not let in");
        self.options.handler.refused(from, error);
    }

    /// TLS, hello, welcome: gives what serves the link.
    async fn greet(&self, stream: BoxStream, from: SocketAddr) -> Result<BoxFuture<'static, ()>, LinkError> {
        let limit = self.options.times.handshake_max;
        let (stream, certificate) =
            timeout(limit, self.tls(stream)).await.map_err(|_| LinkError::HandshakeTimeout)??;
        let mut arrived = Arrived { framed: Framed::new(stream), certificate, from };
        let said = timeout(limit, arrived.framed.receiver.receive_bytes(limits::PEER_HELLO_BYTES_MAX)).await;
        let judged = match said {
            Ok(Ok(bytes)) => {
                Hello::decode(bytes).map_err(LinkError::from).and_then(|hello| self.judge(hello, &arrived))
            }
            // It can still be told that it says too much; a broken connection cannot be told anything.
            Ok(Err(error @ LinkError::TooLarge { .. })) => Err(error),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(LinkError::HandshakeTimeout),
        };
        match judged {
            Ok((peer, welcome, place)) => {
                let reply = Reply::Welcome(Box::new(welcome));
                self.reply(&mut arrived.framed, &reply, limit).await?;
                let link = Link::new(arrived.framed, peer.hello.class, Some(Arc::new(place)));
                Ok(self.options.handler.serve(peer, link))
            }
            Err(error) => {
                self.refuse(arrived, &error).await;
                Err(error)
            }
        }
    }

    async fn tls(&self, stream: BoxStream) -> Result<(BoxStream, Option<PeerIdentity>), LinkError> {
        let PeerTls::Certificates(own) = &self.options.tls else { return Ok((stream, None)) };
        let acceptor = TlsAcceptor::from(own.server());
        let stream = acceptor
            .accept_with(stream, |session| {
                session.set_buffer_limit(Some(limits::TLS_CONNECTION_BUFFER_BYTES_MAX));
            })
            .await?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = leaf.map(|leaf| PeerIdentity::read(leaf)).transpose()?;
        Ok((Box::new(stream), certificate))
    }

    /// Whether the peer is who it says and may have the link.
    fn judge(&self, hello: Hello, arrived: &Arrived) -> Result<(PeerHello, Welcome, Place), LinkError> {
        let mut welcome = self.options.handler.welcome();
        if let Some(certificate) = &arrived.certificate {
            certificate.check_cluster(&welcome.hello.cluster)?;
        }
        if hello.cluster != welcome.hello.cluster {
            return Err(LinkError::OtherCluster);
        }
        let (kind, whose) = if hello.class == Class::Join {
            (None, Whose::Joining)
        } else {
            (Some(self.member_kind(&hello, arrived)?), Whose::Member(hello.member))
        };
        welcome.hello.class = hello.class;
        let protocol = agree(&welcome.hello, &hello)?;
        welcome.hello.protocol = protocol;
        let place = Place::take(&self.places, whose).ok_or(LinkError::TooManyLinks)?;
        Ok((PeerHello { hello, protocol, kind, address: arrived.from }, welcome, place))
    }

    fn member_kind(&self, hello: &Hello, arrived: &Arrived) -> Result<PairMemberKind, LinkError> {
        match (&self.options.tls, &arrived.certificate) {
            (PeerTls::Certificates(_), None) => return Err(LinkError::CertificateRequired),
            (_, Some(certificate)) => certificate.check_member(hello.member)?,
            (PeerTls::Plain(_), None) => {}
        }
        let kind = self.options.tls.allowed().load().check(hello.member, arrived.certificate.as_ref())?;
        // A witness holds nothing, and must not be able to read anything.
        if kind == PairMemberKind::Witness && hello.class != Class::Control {
            return Err(LinkError::ClassNotAllowed { member: hello.member, class: hello.class });
        }
        Ok(kind)
    }

    /// Says no, and waits a moment so that it is read.
    async fn refuse(&self, mut arrived: Arrived, error: &LinkError) {
        // Strangers learn no epoch.
        let known = arrived.certificate.is_some() || matches!(self.options.tls, PeerTls::Plain(_));
        let epoch = if known { self.options.handler.welcome().hello.epoch } else { Epoch::default() };
        let refused = Reply::Refused(Refused::new(error.own_code(), &error.to_string(), epoch));
        let limit = self.options.times.refusal_max;
        if self.reply(&mut arrived.framed, &refused, limit).await.is_err() {
            return;
        }
        let last_words = async {
            if arrived.framed.sender.close().await.is_ok() {
                arrived.framed.receiver.drain(limits::PEER_JOIN_BYTES_MAX).await;
            }
        };
        // Whether it was read in time changes nothing here.
        let _ = timeout(limit, last_words).await;
    }

    async fn reply(&self, framed: &mut Framed, reply: &Reply, limit: Duration) -> Result<(), LinkError> {
        framed.sender.queue_with(limits::PEER_HELLO_BYTES_MAX, |out| {
            reply.encode(out);
            None
        })?;
        timeout(limit, framed.sender.flush()).await.map_err(|_| LinkError::HandshakeTimeout)?
    }
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Whose {
    /// Not yet known: by the address it comes from.
    Handshake(IpAddr),
    Member(Member),
    Joining,
}

/// How many connections of each there are now. Entries go when the last connection does.
#[derive(Default)]
struct Places {
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    by_whom: HashMap<Whose, usize>,
    handshakes: usize,
}

/// One connection's place; given back when dropped.
struct Place {
    places: Arc<Places>,
    whose: Whose,
}

impl Place {
    fn take(places: &Arc<Places>, whose: Whose) -> Option<Place> {
        let mut taken = places.taken.lock();
        let max = match whose {
            Whose::Handshake(_) if taken.handshakes >= limits::PEER_HANDSHAKES_MAX => return None,
            Whose::Handshake(_) => limits::PEER_HANDSHAKES_PER_ADDRESS_MAX,
            Whose::Member(_) => limits::PEER_LINKS_PER_MEMBER_MAX,
            Whose::Joining => limits::PEER_JOINS_MAX,
        };
        let count = taken.by_whom.entry(whose).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        taken.handshakes += usize::from(matches!(whose, Whose::Handshake(_)));
        drop(taken);
        Some(Place { places: Arc::clone(places), whose })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.handshakes -= usize::from(matches!(self.whose, Whose::Handshake(_)));
        if let Some(count) = taken.by_whom.get_mut(&self.whose) {
            *count -= 1;
            if *count == 0 {
                taken.by_whom.remove(&self.whose);
            }
        }
    }
}
