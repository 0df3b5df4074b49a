//! Compares what the server shows with what the oracle knows. Reads through the public API only.

use holdfast::bench::client::{Call, Endpoint, Http};
use holdfast::bench::error::BenchError;
use holdfast::oplog;
use serde_json::Value;

use crate::oracle::number;
use crate::process::{holdfast, said};
use crate::world::World;

/// Messages on a page.
const PAGE: usize = 200;

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What is new since the last time, and what was changed.
    New,
    /// Everything.
    All,
}

impl World {
    /// Compares everything new, or everything, with what was promised.
    ///
    /// # Errors
    /// The server could not be asked; what it answers wrongly is a panic.
    pub(crate) async fn check(&self, endpoint: &Endpoint, extent: Extent) -> Result<(), BenchError> {
        let mut http = Http::connect(endpoint).await?;
        let ids: Vec<String> = self.users.iter().map(|user| user.id.clone()).collect();
        let channels = self.oracle.borrow().channels.len();
        for channel in 0..channels {
            self.check_channel(&mut http, (channel, extent), &ids).await?;
        }
        self.check_changes(&mut http, &ids).await?;
        for user in 0..self.users.len() {
            self.check_read_marks(&mut http, user).await?;
        }
        check_metrics(&mut http).await
    }

    async fn check_channel(&self, http: &mut Http, what: (usize, Extent), users: &[String]) -> Result<(), BenchError> {
        let (channel, extent) = what;
        let (id, token, mut after) = {
            let oracle = self.oracle.borrow();
            let book = &oracle.channels[channel];
            let after = if extent == Extent::All { 0 } else { book.found.len() };
            (book.id.clone(), self.users[book.members[0]].token.clone(), after as u64)
        };
        loop {
            let path = format!("/api/v1/channels/{id}/messages?after={after}&limit={PAGE}");
            let page = http.call(Call::get(&path, &token)).await?;
            let items = page["items"].as_array().expect("a page has items");
            for item in items {
                after += 1;
                assert_eq!(number(item, "seq"), after, "a gap in channel {id}");
                self.oracle.borrow_mut().see(channel, users, item);
            }
            let last_seq = number(&page, "last_seq");
            if after >= last_seq {
                self.oracle.borrow_mut().conclude(channel, last_seq);
                return Ok(());
            }
            assert!(!items.is_empty(), "channel {id} ends at {after}, not at {last_seq}");
        }
    }

    /// Looks at each message that was changed, or was asked to be.
    async fn check_changes(&self, http: &mut Http, users: &[String]) -> Result<(), BenchError> {
        let touched = self.oracle.borrow().touched.clone();
        for index in touched {
            let (path, token, channel) = {
                let oracle = self.oracle.borrow();
                let message = &oracle.messages[index];
                let channel = &oracle.channels[message.channel].id;
                let seq = message.place.as_ref().expect("only messages with a place are changed").seq;
                let token = self.users[message.sender].token.clone();
                (format!("/api/v1/channels/{channel}/messages/{seq}"), token, message.channel)
            };
            let shown = http.call(Call::get(&path, &token)).await?;
            let mut oracle = self.oracle.borrow_mut();
            oracle.see(channel, users, &shown);
            oracle.touched.remove(&index);
        }
        Ok(())
    }

    /// A read mark is at least where the user's own newest message is, and never goes back.
    async fn check_read_marks(&self, http: &mut Http, user: usize) -> Result<(), BenchError> {
        let list = http.call(Call::get("/api/v1/channels", &self.users[user].token)).await?;
        let entries = list["items"].as_array().expect("a list of channels");
        let mut oracle = self.oracle.borrow_mut();
        let mine = |at: &usize| oracle.channels[*at].members.contains(&user);
        let channels: Vec<usize> = (0..oracle.channels.len()).filter(mine).collect();
        assert_eq!(entries.len(), channels.len(), "the channels of user {user}");
        for channel in channels {
            let is_this = |entry: &&Value| entry["channel"]["id"] == oracle.channels[channel].id.as_str();
            let entry = entries.iter().find(is_this).expect("the user's channel");
            let (mark, last_seq) = (number(&entry["member"], "read_seq"), number(&entry["channel"], "last_seq"));
            let own = oracle.newest_own.get(&(user, channel)).copied().unwrap_or(0);
            let before = oracle.read.insert((user, channel), mark).unwrap_or(0);
            assert!(mark >= own.max(before) && mark <= last_seq, "read mark {mark}: own {own}, before {before}");
        }
        Ok(())
    }
}

/// The running server has seen no difference between its state and what an earlier one recorded.
async fn check_metrics(http: &mut Http) -> Result<(), BenchError> {
    let call = Call { method: hyper::Method::GET, path: "/metrics", token: None, body: None };
    let (status, _, body) = http.exchange(&call).await?;
    assert!(status.is_success(), "/metrics says {status}");
    let body = String::from_utf8_lossy(&body);
    assert!(body.contains("# TYPE holdfast_"), "no metrics of ours");
    for line in body.lines().filter(|line| line.starts_with("holdfast_state_mismatches_total")) {
        assert!(line.ends_with(" 0"), "{line}");
    }
    Ok(())
}

impl World {
    /// Verifies the log, every frame and every hash. No server needs to run.
    pub(crate) fn verify_log(&self) {
        let report = oplog::verify(&self.data().join("log"), &mut |_| ()).expect("the log can be read");
        assert!(report.is_clean(), "the log is damaged: {:?}", report.findings);
    }

    /// The same by the command that operators have.
    pub(crate) fn verify_log_by_command(&self) {
        let output = holdfast(&self.data(), &["log", "verify"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert!(said(&output).contains("The log is whole"), "{}", said(&output));
    }
}

/// What a server must never have said. A damaged state makes the store below it panic; that is caught, but printed.
pub(crate) fn check_output(printed: &str, state_was_damaged: bool) {
    assert!(!printed.contains("differs from the recorded state hash"), "{printed}");
    assert!(state_was_damaged || !printed.contains("panicked"), "{printed}");
}
