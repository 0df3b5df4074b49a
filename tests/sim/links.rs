//! Links on the simulated network: a partition is silence, and its end a new link.

use std::sync::Arc;
use std::time::Duration;

use holdfast::core::failover::{Epoch, Message};
use holdfast::core::rows::PairMemberKind;
use holdfast::limits;
use holdfast::replication::link::{
    Link, LinkError, LinkHandler, LinkServer, LinkServerOptions, LinkTimes, PeerHello, Target, dial,
};
use holdfast::replication::net::BoxFuture;
use holdfast::replication::pki::{Allowed, AllowedMember, PeerTls, SharedAllowed};
use holdfast::replication::wire::{Class, Hello, Welcome};
use tokio_util::sync::CancellationToken;

use crate::net::SimNet;

fn hello(member: u16) -> Hello {
    Hello {
        protocol: limits::PEER_PROTOCOL,
        protocol_min: limits::PEER_PROTOCOL_MIN,
        level: 2,
        level_in_use: 2,
        cluster: [7; 16],
        member,
        class: Class::Control,
        epoch: Epoch::new(1, member),
        version: "sim".to_owned(),
        client_url: String::new(),
        now_ms: 0,
        next_certificate: None,
    }
}

fn tls() -> PeerTls {
    let member = AllowedMember { fingerprint: [0; 32], kind: PairMemberKind::Data };
    let allowed = Allowed { members: [(1, member), (2, member)].into(), ..Allowed::default() };
    let shared = SharedAllowed::default();
    shared.store(Arc::new(allowed));
    PeerTls::Plain(shared)
}

struct Echo;

impl LinkHandler for Echo {
    fn welcome(&self) -> Welcome {
        Welcome { hello: hello(1), first: 0, last: 0, settings: None }
    }

    fn serve(&self, _peer: PeerHello, mut link: Link) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Ok(message) = link.receiver().receive::<Message>().await {
                if link.sender().send(&message).await.is_err() {
                    break;
                }
            }
        })
    }
}

async fn echoed(link: &mut Link) -> Result<(), LinkError> {
    let message = Message::Ack { epoch: Epoch::new(1, 2), index: 7 };
    link.sender().send(&message).await?;
    assert_eq!(link.receiver().receive::<Message>().await?, message);
    Ok(())
}

#[test]
fn a_partition_is_noticed_and_healed() -> turmoil::Result {
    let mut sim = turmoil::Builder::new().rng_seed(7).simulation_duration(Duration::from_secs(60)).build();
    sim.host("one", || async {
        let options = LinkServerOptions { tls: tls(), handler: Arc::new(Echo), times: LinkTimes::default() };
        let server = LinkServer::bind(&SimNet, "0.0.0.0:7401", options).await?;
        server.run(CancellationToken::new()).await;
        Ok(())
    });
    sim.client("two", async {
        let (tls, to) = (tls(), Target { address: "one:7401", member: 1 });
        let (_, mut link) = dial(&SimNet, &tls, to, &hello(2)).await?;
        link.receiver().set_silence_max(Some(Duration::from_millis(1_500)));
        echoed(&mut link).await?;

        turmoil::partition("one", "two");
        let error = echoed(&mut link).await.unwrap_err();
        assert_eq!(error.code(), "peer_silent", "{error}");
        let started = tokio::time::Instant::now();
        let error = dial(&SimNet, &tls, to, &hello(2)).await.unwrap_err();
        assert!(matches!(error.code(), "peer_connect_timeout" | "peer_unreachable"), "{error}");
        assert!(started.elapsed() <= Duration::from_millis(limits::PEER_CONNECT_MS_MAX + 100));

        turmoil::repair("one", "two");
        let (_, mut link) = dial(&SimNet, &tls, to, &hello(2)).await?;
        echoed(&mut link).await?;
        Ok(())
    });
    sim.run()
}
