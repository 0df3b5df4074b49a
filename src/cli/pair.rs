//! `holdfast pair`: invite a standby or a witness, join, leave, and what the members agree on.

use std::io::{self, IsTerminal, Write as _};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::admin_client::AdminClient;
use super::serve::{load_config, no_flags};
use super::{CliError, Global, Output};
use crate::core::rows::PairMemberKind;
use crate::node::now_ms;
use crate::ops::datadir::DataDir;
use crate::replication::invite::{Applicant, Invitation, join};
use crate::replication::net::TcpNet;
use crate::replication::pki::PairPki;
use crate::replication::{begin_membership, host_name, level_held};

/// `holdfast pair`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A pair is two data nodes; a witness on any third machine gives the casting vote
and holds no data.

  1. on the first machine:   holdfast pair invite --data /srv/holdfast
  2. on the second machine:  holdfast pair join --data /srv/holdfast BLOB
                             holdfast serve --data /srv/holdfast
  3. on a third machine:     holdfast witness --data /srv/witness --join BLOB
                             (BLOB from `holdfast pair invite --witness`)

`holdfast status` then says whether the pair is protected.")]
pub struct PairArgs {
    #[command(subcommand)]
    command: PairCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum PairCommand {
    /// Make an invitation for a second node, or for a witness; good once, for 15 minutes
    Invite(InviteArgs),
    /// Join a pair with an invitation: prepares the data directory; `serve` then fills it
    Join(JoinArgs),
    /// Remove the other node, or a member by its number; run it on the active node
    Leave(LeaveArgs),
    /// Change what the members agree on: automatic promotion, reference address, timings
    Set(SetArgs),
    /// Give this data node a new certificate for the pair now; it does so by itself a year before the end
    Renew,
}

#[derive(Clone, Debug, Args)]
struct InviteArgs {
    /// For a witness instead of a standby
    #[arg(long)]
    witness: bool,
}

/// What a machine that joins says of itself.
#[derive(Clone, Debug, Args)]
pub(super) struct Applying {
    /// Do not ask whether the fingerprint is right
    #[arg(long)]
    pub(super) yes: bool,
    /// What people call this machine [default: the host name]
    #[arg(long)]
    pub(super) name: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct JoinArgs {
    /// The invitation that `holdfast pair invite` printed on the other machine
    #[arg(value_name = "BLOB")]
    invitation: String,
    #[command(flatten)]
    applying: Applying,
    /// The address people type for this node [default: server.public_url, else https, this machine's address and port]
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
}

#[derive(Clone, Debug, Args)]
struct LeaveArgs {
    /// The member's number, as `holdfast status` shows it [default: the other data node]
    member: Option<u16>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Debug, Default, Args)]
struct SetArgs {
    /// Without a witness: let the standby promote itself (true) or wait for a person (false)
    #[arg(long, value_name = "true|false")]
    auto_promote: Option<bool>,
    /// HOST:PORT of an always-on host, such as the gateway; "" for none
    #[arg(long, value_name = "HOST:PORT")]
    reference: Option<String>,
    /// Milliseconds between two heartbeats
    #[arg(long, value_name = "MS")]
    heartbeat_ms: Option<u32>,
    /// Silence of the active after which the standby stands for election
    #[arg(long, value_name = "MS")]
    fail_after_ms: Option<u32>,
    /// How long a message waits for the standby before the active goes on alone
    #[arg(long, value_name = "MS")]
    solo_after_ms: Option<u32>,
    /// How long an active that hears nobody keeps its clients
    #[arg(long, value_name = "MS")]
    lease_ms: Option<u32>,
    /// Without a witness: silence after which the standby promotes itself
    #[arg(long, value_name = "MS")]
    promote_after_ms: Option<u32>,
    /// Use no command above this level; 0: use all
    #[arg(long, value_name = "LEVEL")]
    level_held: Option<u32>,
}

/// Runs it.
pub fn run(global: &Global, args: &PairArgs, output: &Output) -> Result<(), CliError> {
    match &args.command {
        PairCommand::Invite(invite) => make_invitation(global, invite, output),
        PairCommand::Join(join) => join_pair(global, join, output),
        PairCommand::Leave(leave) => remove(global, leave, output),
        PairCommand::Set(set) => change(global, set, output),
        PairCommand::Renew => renew(global, output),
    }
}

fn make_invitation(global: &Global, args: &InviteArgs, output: &Output) -> Result<(), CliError> {
    let kind = if args.witness { "witness" } else { "standby" };
    let body = json!({ "kind": kind });
    let client = AdminClient::new(&global.data);
    let made = client.request_blocking(Method::POST, "/admin/v1/pair/invitations", Some(&body))?;
    let text = |key: &str| made.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let command = if args.witness { "holdfast witness --data DIR --join" } else { "holdfast pair join --data DIR" };
    let shown = format!(
        "On the other machine, within 15 minutes:\n\n  {command} {}\n\nIt will show this fingerprint; it must be the \
         same:\n\n  {}\n",
        text("invitation"),
        text("ca_fingerprint")
    );
    output.show(&made, &shown)
}

/// Reads the invitation, and lets a person compare the fingerprint.
pub(super) fn accepted(text: &str, kind: PairMemberKind, yes: bool) -> Result<Invitation, CliError> {
    let invitation = Invitation::parse(text, kind, now_ms()).map_err(CliError::failed)?;
    if yes {
        return Ok(invitation);
    }
    let question = format!(
        "The pair's fingerprint:\n\n  {}\n\nIs it the one that the other machine shows?",
        invitation.ca_fingerprint_text()
    );
    if confirmed(&question)? { Ok(invitation) } else { Err(CliError::failed("nothing was done")) }
}

/// Asks a question that has to be answered with "yes".
pub(super) fn confirmed(question: &str) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::usage("there is nobody to ask: say --yes after you have compared it"));
    }
    let mut out = io::stderr().lock();
    write!(out, "{question} [yes/no] ").and_then(|()| out.flush()).map_err(CliError::failed)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(CliError::failed)?;
    Ok(answer.trim().eq_ignore_ascii_case("yes"))
}

fn join_pair(global: &Global, args: &JoinArgs, output: &Output) -> Result<(), CliError> {
    let invitation = accepted(&args.invitation, PairMemberKind::Data, args.applying.yes)?;
    let config = load_config(&global.data, None, no_flags())?.config;
    let (dir, lock) = DataDir::open_locked(&global.data).map_err(CliError::failed)?;
    let pair_dir = dir.path("pair");
    let before = PairPki::load(&pair_dir).map_err(CliError::failed)?.map(|pki| pki.membership());
    let same = before.is_some_and(|before| before.cluster == invitation.cluster);
    if !same && !dir.is_unused().map_err(CliError::failed)? {
        return Err(CliError::failed(format!(
            "{} holds the messages of another installation: join with an empty data directory",
            global.data.display()
        )));
    }
    let addresses = peer_addresses(&config.pair.addresses, &config.pair.listen, &invitation)?;
    let client_url = match args.public_url.clone().or_else(|| config.server.public_url.clone()) {
        Some(url) => url.trim_end_matches('/').to_owned(),
        None => client_url(&config, addresses.first().map_or("", String::as_str)),
    };
    let applicant = Applicant {
        name: args.applying.name.clone().unwrap_or_else(host_name),
        addresses,
        client_url,
        level: level_held(config.pair.level_max),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        retired_member: before.filter(|_| same).map(|before| before.member),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::failed)?;
    let joined = runtime.block_on(Box::pin(join(&TcpNet, &invitation, &applicant, &pair_dir)));
    let membership = joined.map_err(CliError::failed)?.membership();
    begin_membership(&pair_dir).map_err(CliError::failed)?;
    dir.adopt(&membership.cluster, membership.member).map_err(CliError::failed)?;
    drop(lock);
    let state = json!({ "member": membership.member, "data": dir.root(), "client_url": applicant.client_url });
    let text = format!(
        "This machine is member {} of the pair. Start it; it then fetches everything by itself:\n\n  holdfast serve --data {}\n",
        membership.member,
        dir.root().display()
    );
    output.show(&state, &text)
}

/// Where the others reach the peer port: as configured, else the address from which this machine talks to the inviter.
pub(super) fn peer_addresses(
    configured: &[String],
    listen: &str,
    invitation: &Invitation,
) -> Result<Vec<String>, CliError> {
    if !configured.is_empty() {
        return Ok(configured.to_vec());
    }
    let listen: std::net::SocketAddr = listen.parse().map_err(CliError::usage)?;
    if !listen.ip().is_unspecified() {
        return Ok(vec![listen.to_string()]);
    }
    let towards = |address: &String| {
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 0)).ok()?;
        socket.connect(address.as_str()).ok()?;
        socket.local_addr().ok().map(|own| std::net::SocketAddr::new(own.ip(), listen.port()).to_string())
    };
    let found = invitation.addresses.iter().find_map(towards);
    let hint = "say in pair.addresses of the configuration file where the others reach this machine";
    found.map(|address| vec![address]).ok_or_else(|| CliError::failed(hint))
}

/// The address that clients use when nobody said otherwise: the one that the other members use, with the clients' port.
fn client_url(config: &crate::config::Config, peer_address: &str) -> String {
    let own = config.public_url();
    let host = peer_address.rsplit_once(':').map_or("", |(host, _)| host);
    let listen: Option<std::net::SocketAddr> = config.server.listen.parse().ok();
    match listen.filter(|listen| listen.ip().is_unspecified() && !host.is_empty()) {
        Some(listen) => {
            let scheme = if config.tls.enabled { "https" } else { "http" };
            format!("{scheme}://{host}:{}", listen.port())
        }
        None => own,
    }
}

fn remove(global: &Global, args: &LeaveArgs, output: &Output) -> Result<(), CliError> {
    let who = args.member.map_or_else(|| "the other data node".to_owned(), |member| format!("member {member}"));
    if !args.yes && !confirmed(&format!("Remove {who} from the pair for ever?"))? {
        return Err(CliError::failed("nothing was done"));
    }
    let body = json!({ "member": args.member });
    let client = AdminClient::new(&global.data);
    let answer = client.request_blocking(Method::POST, "/admin/v1/pair/remove", Some(&body))?;
    let member = answer.get("member").and_then(Value::as_u64).unwrap_or(0);
    output.show(
        &answer,
        &format!("Member {member} is not in the pair any more. Its machine keeps its data; it can join again."),
    )
}

fn renew(global: &Global, output: &Output) -> Result<(), CliError> {
    let client = AdminClient::new(&global.data);
    let answer = client.request_blocking(Method::POST, "/admin/v1/pair/certificate", None)?;
    let summary = answer.get("summary").and_then(Value::as_str).unwrap_or_default();
    output.show(&answer, &format!("Renewed: {summary}."))
}

fn change(global: &Global, args: &SetArgs, output: &Output) -> Result<(), CliError> {
    let mut body = json!({});
    let mut set = |key: &str, value: Option<Value>| {
        if let (Some(members), Some(value)) = (body.as_object_mut(), value) {
            members.insert(key.to_owned(), value);
        }
    };
    set("auto_promote", args.auto_promote.map(Value::from));
    set("reference", args.reference.clone().map(Value::from));
    for (key, value) in [
        ("heartbeat_ms", args.heartbeat_ms),
        ("fail_after_ms", args.fail_after_ms),
        ("solo_after_ms", args.solo_after_ms),
        ("lease_ms", args.lease_ms),
        ("promote_after_ms", args.promote_after_ms),
        ("level_held", args.level_held),
    ] {
        set(key, value.map(Value::from));
    }
    let client = AdminClient::new(&global.data);
    let answer = client.request_blocking(Method::PATCH, "/admin/v1/pair", Some(&body))?;
    output.show(&answer, &super::status::text(&answer))
}
