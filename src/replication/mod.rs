//! The pair at work: drives `core::failover`, keeps the links to the other members, ships the log, fills a new standby,
//! takes care of what a returning node has too much.
//!
//! | module | |
//! |---|---|
//! | [`net`] | where connections come from: TCP, or a simulation |
//! | [`pki`] | the pair's own CA, this member's certificate, who is allowed |
//! | [`wire`] | every message, its limits and its bytes |
//! | [`link`] | dialling and accepting: TLS, hello, framed messages |
//! | [`invite`] | `pair invite` and `pair join` |
//! | `driver` | the only executor of the protocol's effects |
//! | `control`, `shipper`, `follower`, `compare` | heartbeats and votes; records, from both sides |
//! | `bootstrap`, `rejoin`, `quarantine`, `salvage` | a new standby; a diverged tail |
//!
//! Must never decide who is active or what may be acknowledged: that is `core::failover`. Whatever a peer sends is
//! bounded before it is allocated, and is never trusted to be well-formed.

pub mod invite;
pub mod link;
pub mod net;
pub mod pki;
pub mod wire;

mod bootstrap;
mod checkup;
mod compare;
mod context;
mod control;
mod desk;
mod driver;
mod durable;
mod face;
mod follower;
mod handler;
mod hooks;
mod notices;
mod probe;
mod quarantine;
mod rejoin;
mod renewal;
mod report;
mod room;
mod salvage;
mod service;
mod settings;
mod shipper;
mod watched;
mod watcher;
mod witness;

pub use checkup::Checkup;
pub use context::{Identity, LinkState, Restart};
pub use desk::{DeskError, ForceReport, SwitchoverReason, host_name, level_held};
pub use driver::DriverHandle;

/// Gives a data node that has just joined, with its files in `pair_dir`, an empty memory of votes.
///
/// # Errors
/// When it cannot be written.
pub fn begin_membership(pair_dir: &std::path::Path) -> std::io::Result<()> {
    durable::DurableFile::begin(pair_dir)
}

pub use face::Face;
pub use hooks::Hooks;
pub use rejoin::{Place, RejoinError, settle};
pub use report::PairStatus;
pub use service::{PairError, PairHandle, PairOptions, PairService};
pub use settings::{PairSettings, SettingsCache};
pub use witness::{WitnessError, WitnessHandle, WitnessOptions, WitnessReport, WitnessService};
