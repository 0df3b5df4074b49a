//! How a connection finds the active node again after it lost the one it had.
//!
//! Must never give up before a bounded time has passed, and never say hello under another token or position.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Http;
use super::error::BenchError;
use super::nodes::{NodeIndex, Nodes, Reach};
use super::scan::{Frame, Scanner};
use super::socket::{Hello, SharedBuffer, Socket, Turn};
use super::station::Book;
use super::stats::{Stats, add};
use crate::limits::{BENCH_FOLLOW_SECONDS_MAX, BENCH_TRY_MS, BENCH_TRY_MS_MAX};

/// Close codes after which another node, or the same one started again, will take the connection.
const CLOSE_SHUTTING_DOWN: u16 = 4008;
const CLOSE_NOT_ACTIVE: u16 = 4010;

/// The connection was lost in a way that another try may mend.
#[must_use]
pub fn is_passing(ended: &Result<Turn, BenchError>) -> bool {
    match ended {
        Ok(Turn::Closed(code)) => matches!(code, None | Some(CLOSE_SHUTTING_DOWN | CLOSE_NOT_ACTIVE)),
        Ok(Turn::Progress) => false,
        Err(error) => matches!(error, BenchError::Io { .. }),
    }
}

/// A new connection.
pub struct Found {
    /// The node that took it.
    pub node: NodeIndex,
    /// It said hello.
    pub socket: Socket,
    /// The answer to the hello.
    pub answer: Value,
}

/// Tries the nodes that are within `reach` at the time, one after the other, until one takes the connection.
///
/// # Errors
/// A node refused the token or the position; or no node took it for [`BENCH_FOLLOW_SECONDS_MAX`] seconds.
pub async fn follow(
    nodes: &Nodes,
    hello: &Hello<'_>,
    buffer: &SharedBuffer,
    reach: &dyn Fn() -> Reach,
) -> Result<Found, BenchError> {
    let deadline = Instant::now() + Duration::from_secs(BENCH_FOLLOW_SECONDS_MAX);
    loop {
        let attempt = nodes.next(reach()).await;
        let connecting = Socket::connect(&attempt.endpoint, hello, buffer);
        let patience = Duration::from_millis(BENCH_TRY_MS_MAX);
        let last = match tokio::time::timeout(patience, connecting).await {
            Ok(Ok((socket, answer))) => {
                attempt.succeeded();
                nodes.learn(addresses(&answer));
                return Ok(Found { node: attempt.index, socket, answer });
            }
            Ok(Err(BenchError::NotActive { active, addresses })) => {
                attempt.failed();
                nodes.learn(addresses.iter().map(String::as_str));
                active.iter().for_each(|active| nodes.told_active(active));
                "no node is active".to_owned()
            }
            Ok(Err(error @ BenchError::Refused { .. })) => return Err(error),
            Ok(Err(error)) => {
                attempt.failed();
                error.to_string()
            }
            Err(_) => {
                attempt.failed();
                format!("{} did not answer within {BENCH_TRY_MS_MAX} ms", attempt.endpoint.authority())
            }
        };
        if Instant::now() > deadline {
            let op = format!("connect again for {BENCH_FOLLOW_SECONDS_MAX} s");
            return Err(BenchError::Protocol { op, detail: last });
        }
        // Still counted as a try of this node: that is what keeps the tries few.
        tokio::time::sleep(Duration::from_millis(BENCH_TRY_MS)).await;
    }
}

/// Another HTTP connection after one was lost: to any node, as all of them answer reads.
///
/// # Errors
/// No node took it for [`BENCH_FOLLOW_SECONDS_MAX`] seconds.
pub async fn http(nodes: &Nodes) -> Result<Http, BenchError> {
    let deadline = Instant::now() + Duration::from_secs(BENCH_FOLLOW_SECONDS_MAX);
    loop {
        let attempt = nodes.next(Reach::Any).await;
        match Http::connect(&attempt.endpoint).await {
            Ok(http) => return Ok(http),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => attempt.failed(),
        }
        tokio::time::sleep(Duration::from_millis(BENCH_TRY_MS)).await;
    }
}

/// The nodes' addresses that an answer to a hello tells.
pub fn addresses(answer: &Value) -> impl Iterator<Item = &str> {
    answer.get("addresses").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Keeps reading a connection that its owner left because nothing came: a node that was paused or cut off may still
/// acknowledge what it was sent before, and is held to that like to any other promise.
pub async fn listen(mut socket: Socket, book: Rc<RefCell<Book>>, stats: Rc<Stats>) {
    let scanner = Scanner::default();
    let note = |payload: &[u8]| {
        if let Ok(Frame::Sent { id, seq }) = scanner.scan(payload) {
            add(&stats.late_answers, 1);
            let counter = u32::try_from(id).unwrap_or(u32::MAX);
            if counter == u32::MAX || !book.borrow_mut().ledger.acknowledge(counter, seq) {
                stats.renumbered(seq);
            }
        }
        Ok(())
    };
    while let Ok(Turn::Progress) = socket.turn(|_, payload| note(payload)).await {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_mend_is_followed() {
        let io = BenchError::io("read", &std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        for ended in [Ok(Turn::Closed(None)), Ok(Turn::Closed(Some(4008))), Ok(Turn::Closed(Some(4010))), Err(io)] {
            assert!(is_passing(&ended), "{ended:?}");
        }
        let broken = BenchError::Protocol { op: "read".to_owned(), detail: "a masked frame".to_owned() };
        let ended = [4000, 4001, 4003, 4009].map(|code| Ok(Turn::Closed(Some(code))));
        for ended in ended.into_iter().chain([Err(broken)]) {
            assert!(!is_passing(&ended), "{ended:?}");
        }
    }
}
