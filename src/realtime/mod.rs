//! The hub and the WebSocket sessions, presence, typing. Must never slow the apply thread for a slow reader.

pub mod frame;
