//! The pair at work: links between its members, what travels on them, and how a machine joins.
//!
//! | module | |
//! |---|---|
//! | [`net`] | where connections come from: TCP, or a simulation |
//! | [`pki`] | the pair's own CA, this member's certificate, who is allowed |
//! | [`wire`] | every message, its limits and its bytes |
//! | [`link`] | dialling and accepting: TLS, hello, framed messages |
//! | [`invite`] | `pair invite` and `pair join` |
//!
//! Must never decide who is active or what may be acknowledged: that is `core::failover`. Whatever a peer sends is
//! bounded before it is allocated, and is never trusted to be well-formed.

pub mod invite;
pub mod link;
pub mod net;
pub mod pki;
pub mod wire;
