//! The dialling side: connect, TLS, hello.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::framed::{Framed, Link};
use super::{LinkError, agree};
use crate::core::failover::Member;
use crate::limits;
use crate::replication::net::{BoxStream, Net};
use crate::replication::pki::{PeerIdentity, PeerTls};
use crate::replication::wire::{Hello, Reply, Welcome};

/// Whom to dial.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `host:port` of its peer port.
    pub address: &'a str,
    /// Which member must answer there.
    pub member: Member,
}

/// Connects to a member and exchanges hellos. Takes at most `PEER_CONNECT_MS_MAX` plus twice `PEER_HANDSHAKE_MS_MAX`.
///
/// # Errors
/// Any but those of messages; [`LinkError::Refused`] holds the other side's code.
pub async fn dial(net: &dyn Net, tls: &PeerTls, to: Target<'_>, hello: &Hello) -> Result<(Welcome, Link), LinkError> {
    let stream = connect(net, to.address).await?;
    let (stream, certificate) = match tls {
        PeerTls::Certificates(own) => {
            let (stream, chain) = tls_client(own.client(), stream).await?;
            let leaf = chain.first().ok_or(LinkError::CertificateRequired)?;
            (stream, Some(PeerIdentity::read(leaf)?))
        }
        PeerTls::Plain(_) => (stream, None),
    };
    // Before a word is said: nobody else learns anything of us.
    if let Some(certificate) = &certificate {
        certificate.check_cluster(&hello.cluster)?;
        certificate.check_member(to.member)?;
    }
    tls.allowed().load().check(to.member, certificate.as_ref())?;
    let (welcome, link) = exchange(stream, hello).await?;
    if welcome.hello.cluster != hello.cluster {
        return Err(LinkError::OtherCluster);
    }
    if welcome.hello.member != to.member {
        return Err(LinkError::OtherMember { expected: to.member, found: welcome.hello.member });
    }
    Ok((welcome, link))
}

/// A connection to an address, within the time for it.
pub(crate) async fn connect(net: &dyn Net, address: &str) -> Result<BoxStream, LinkError> {
    match timeout(Duration::from_millis(limits::PEER_CONNECT_MS_MAX), net.connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(LinkError::Unreachable { address: address.to_owned(), source }),
        Err(_) => Err(LinkError::ConnectTimeout { address: address.to_owned() }),
    }
}

/// The client's side of the TLS handshake; gives the server's certificates.
pub(crate) async fn tls_client(
    config: Arc<ClientConfig>,
    stream: BoxStream,
) -> Result<(BoxStream, Vec<CertificateDer<'static>>), LinkError> {
    // No name is sent or compared: whom a certificate is of, its URI says.
    let name = ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    let handshake = TlsConnector::from(config).connect(name, stream);
    let stream = timeout(Duration::from_millis(limits::PEER_HANDSHAKE_MS_MAX), handshake)
        .await
        .map_err(|_| LinkError::HandshakeTimeout)??;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    Ok((Box::new(stream), chain))
}

/// Says hello and reads the answer. Who answers was settled by the certificate.
pub(crate) async fn exchange(stream: BoxStream, hello: &Hello) -> Result<(Welcome, Link), LinkError> {
    let mut framed = Framed::new(stream);
    let talk = async {
        framed.sender.queue_with(limits::PEER_HELLO_BYTES_MAX, |out| {
            hello.encode(out);
            None
        })?;
        framed.sender.flush().await?;
        framed.receiver.receive_bytes(limits::PEER_HELLO_BYTES_MAX).await
    };
    let answer = timeout(Duration::from_millis(limits::PEER_HANDSHAKE_MS_MAX), talk)
        .await
        .map_err(|_| LinkError::HandshakeTimeout)??;
    match Reply::decode(answer)? {
        Reply::Refused(refused) => Err(LinkError::Refused(refused)),
        Reply::Welcome(welcome) => {
            if welcome.hello.class != hello.class {
                return Err(LinkError::OtherClass(welcome.hello.class));
            }
            agree(hello, &welcome.hello)?;
            Ok((*welcome, Link::new(framed, hello.class, None)))
        }
    }
}
