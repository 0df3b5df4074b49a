//! `holdfast switchover` and `holdfast promote`: who is active, by the operator's word.

use clap::Args;
use hyper::Method;
use serde_json::{Value, json};

use super::admin_client::AdminClient;
use super::pair::confirmed;
use super::{CliError, Global, Output};

/// `holdfast switchover`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Run it on the active node. Nobody loses anything: writes wait for less than a
second, then the other node takes them. Use it before maintenance.

Example:
  holdfast switchover --data /srv/holdfast")]
pub struct SwitchoverArgs {}

/// `holdfast promote`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
For when the other node is lost and this one does not take over by itself;
`holdfast status` says why it does not. Says first what may be lost.

Examples:
  holdfast promote --data /srv/holdfast          only tell what may be lost
  holdfast promote --force --data /srv/holdfast  tell it, ask, then do it")]
pub struct PromoteArgs {
    /// Become active although nobody votes for it
    #[arg(long)]
    force: bool,
    /// Do not ask
    #[arg(long, requires = "force")]
    yes: bool,
}

const PROMOTION: &str = "/admin/v1/pair/promotion";

/// Runs `switchover`.
pub fn switchover(global: &Global, _args: &SwitchoverArgs, output: &Output) -> Result<(), CliError> {
    let client = AdminClient::new(&global.data);
    let answer = client.request_blocking(Method::POST, "/admin/v1/pair/switchover", Some(&json!({})))?;
    let member = answer.get("member").and_then(Value::as_u64).unwrap_or(0);
    output.show(&answer, &format!("Member {member} is active now; this node is the standby."))
}

/// Runs `promote`.
pub fn promote(global: &Global, args: &PromoteArgs, output: &Output) -> Result<(), CliError> {
    let client = AdminClient::new(&global.data);
    let report = client.request_blocking(Method::GET, PROMOTION, None)?;
    let text = report.get("text").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !args.force {
        return output.show(&report, &format!("{text}\nTo go ahead: holdfast promote --force"));
    }
    if !args.yes && !confirmed(&format!("{text}\n\nMake this node active?"))? {
        return Err(CliError::failed("nothing was done"));
    }
    let done = client.request_blocking(Method::POST, PROMOTION, Some(&json!({ "force": true })))?;
    output.show(&done, &format!("{text}\nThis node is active now."))
}
