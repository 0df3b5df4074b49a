//! Links between members: dialled or accepted, with TLS and a hello, then framed messages of one class.
//!
//! A frame is a length (u32, little-endian) and that many bytes of protobuf. The length is checked against the limit of the
//! class before anything is allocated. Must never trust a member number that the certificate does not name.

mod dial;
mod error;
mod framed;
mod server;

pub use dial::{Target, dial};
pub(super) use dial::{connect, exchange, tls_client};
pub use error::LinkError;
#[cfg(test)]
use framed::Framed;
pub use framed::{Link, LinkReceiver, LinkSender};
pub use server::{LinkHandler, LinkServer, LinkServerOptions, LinkTimes, PeerHello};

use crate::replication::wire::Hello;

/// The protocol that both speak, or why they do not fit together.
///
/// The level is looked at on every class but control: a witness of an older build applies nothing, and while a data node is
/// being upgraded its votes still count.
///
/// # Errors
/// [`LinkError::Protocol`], [`LinkError::Level`].
fn agree(own: &Hello, theirs: &Hello) -> Result<u32, LinkError> {
    let protocol = own.protocol.min(theirs.protocol);
    if protocol < own.protocol_min || protocol < theirs.protocol_min {
        return Err(LinkError::Protocol { theirs: theirs.protocol, theirs_min: theirs.protocol_min });
    }
    if theirs.class != crate::replication::wire::Class::Control {
        for (can, needed) in [(own.level, theirs.level_in_use), (theirs.level, own.level_in_use)] {
            if can < needed {
                return Err(LinkError::Level { can, needed });
            }
        }
    }
    Ok(protocol)
}

#[cfg(test)]
mod tests;
