//! What the tests of the whole program share: the real server process, an HTTP client, a WebSocket client, and people.
//!
//! Nothing here stands in for a part of the server: every test talks to the built binary through real sockets, with
//! real TLS that is checked against the server's own authority. Every wait has a deadline and a reason; processes are
//! ended by their id, also when a test panics.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part of the shared support")]

pub(crate) mod backup;
pub(crate) mod http;
pub(crate) mod load;
pub(crate) mod pair;
pub(crate) mod people;
pub(crate) mod server;
pub(crate) mod wait;
pub(crate) mod ws;

pub(crate) use http::{Answer, Api, Call};
pub(crate) use load::{Book, Load};
pub(crate) use pair::{Pair, PairOptions, Witness};
pub(crate) use people::{Owner, PASSWORD, Person, unique};
pub(crate) use server::{Command, Finished, Options, Server, Site};
pub(crate) use wait::{PATIENCE, until, within};
pub(crate) use ws::{Frame, Ws};
