//! The hub and the WebSocket sessions, presence, typing. Must never slow the apply thread for a slow reader.
//!
//! An event is encoded once, as a complete WebSocket frame, and the same bytes go to every session: what a session's
//! queue holds are references. A session that does not read is closed with `resync` when its queue is full.

pub mod frame;
mod hub;
mod outbox;
mod protocol;
mod read_marks;
mod ring;
mod session;
mod socket;

pub use hub::{Hub, HubStats};
pub use outbox::CloseReason;
pub use protocol::handshake_accept;
pub use read_marks::ReadMarks;
pub use session::{Arrival, SessionContext, serve};
