//! Links over real TLS on 127.0.0.1: who gets in, who is refused and why, and that the port outlives all of it.

mod bounds;
mod identity;
mod messages;
mod speed;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::core::failover::{Epoch, LogEnd, Member, Message};
use crate::core::rows::PairMemberKind;
use crate::limits;
use crate::replication::net::{BoxFuture, BoxStream, Net as _, TcpNet};
use crate::replication::pki::PeerTls;
use crate::replication::pki::tests::issuing::{CLUSTER, Issuing};
use crate::replication::wire::{Class, LogMessage, Refused, Reply, Welcome};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn own_hello(member: Member, class: Class) -> Hello {
    Hello {
        protocol: limits::PEER_PROTOCOL,
        protocol_min: limits::PEER_PROTOCOL_MIN,
        level: 2,
        level_in_use: 2,
        cluster: CLUSTER,
        member,
        class,
        epoch: Epoch::new(5, member),
        version: "0.1.0".to_owned(),
        client_url: format!("https://10.0.0.{member}"),
        now_ms: 1,
        next_certificate: None,
    }
}

/// Echoes control messages; acknowledges every shipped batch by its last index; keeps other links open.
struct Echo {
    refusals: mpsc::UnboundedSender<&'static str>,
    unknown: mpsc::UnboundedSender<u64>,
}

impl LinkHandler for Echo {
    fn welcome(&self) -> Welcome {
        Welcome { hello: own_hello(1, Class::Control), first: 10, last: 20, settings: None }
    }

    fn serve(&self, peer: PeerHello, link: Link) -> BoxFuture<'static, ()> {
        let unknown = self.unknown.clone();
        Box::pin(async move {
            assert_eq!(link.class(), peer.hello.class);
            let (mut sender, mut receiver) = link.split();
            match peer.hello.class {
                Class::Log => {
                    while let Ok(LogMessage::Ship(ship)) = receiver.receive().await {
                        let ack = Message::Ack { epoch: ship.epoch, index: ship.last };
                        if sender.send(&LogMessage::Control(ack)).await.is_err() {
                            break;
                        }
                    }
                }
                Class::Control => {
                    while let Ok(message) = receiver.receive::<Message>().await {
                        if sender.send(&message).await.is_err() {
                            break;
                        }
                    }
                    let _ = unknown.send(receiver.unknown());
                }
                _ => std::future::pending().await,
            }
        })
    }

    fn refused(&self, _from: std::net::SocketAddr, error: &LinkError) {
        let _ = self.refusals.send(error.own_code());
    }
}

/// Member 1 with its peer port open.
struct Node {
    address: String,
    refusals: mpsc::UnboundedReceiver<&'static str>,
    unknown: mpsc::UnboundedReceiver<u64>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl Node {
    async fn start(tls: PeerTls, times: LinkTimes) -> Node {
        let (refusals, refusals_seen) = mpsc::unbounded_channel();
        let (unknown, unknown_seen) = mpsc::unbounded_channel();
        let handler = Arc::new(Echo { refusals, unknown });
        let options = LinkServerOptions { tls, handler, times };
        let server = LinkServer::bind(&TcpNet, "127.0.0.1:0", options).await.unwrap();
        let address = server.local_address().unwrap().to_string();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(shutdown.clone()));
        Node { address, refusals: refusals_seen, unknown: unknown_seen, shutdown, running }
    }

    /// The code of the next connection that was not let in.
    async fn refusal(&mut self) -> &'static str {
        tokio::time::timeout(PATIENCE, self.refusals.recv()).await.expect("nobody was refused").unwrap()
    }

    async fn dial(&self, tls: &PeerTls, hello: &Hello) -> Result<(Welcome, Link), LinkError> {
        dial(&TcpNet, tls, Target { address: &self.address, member: 1 }, hello).await
    }

    /// A connection before TLS.
    async fn raw(&self) -> BoxStream {
        TcpNet.connect(&self.address).await.unwrap()
    }

    /// A connection after TLS and before the hello.
    async fn after_tls(&self, tls: &PeerTls) -> Framed {
        let PeerTls::Certificates(own) = tls else { panic!("no certificates") };
        let (stream, _) = tls_client(own.client(), self.raw().await).await.unwrap();
        Framed::new(stream)
    }

    /// Nobody was let in or refused unseen, and the port still serves who belongs here.
    async fn serves(&self, tls: &PeerTls) {
        let (_, mut link) = self.dial(tls, &own_hello(2, Class::Control)).await.unwrap();
        let sent = Message::Stale { epoch: Epoch::new(9, 2) };
        link.sender().send(&sent).await.unwrap();
        assert_eq!(link.receiver().receive::<Message>().await.unwrap(), sent);
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.running).await.expect("the port did not close").unwrap();
    }
}

/// A right pair: its certificates, member 1 listening, TLS of member 2.
async fn pair() -> (Issuing, Node, PeerTls) {
    let issuing = Issuing::new();
    let one = issuing.tls(1, PairMemberKind::Data);
    let two = issuing.tls(2, PairMemberKind::Data);
    let times = LinkTimes { handshake_max: Duration::from_secs(10), ..LinkTimes::default() };
    let node = Node::start(one, times).await;
    (issuing, node, two)
}
