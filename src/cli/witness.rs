//! `holdfast witness`: the third vote of a pair, on any machine that is not one of the two.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::pair::{Applying, accepted, peer_addresses};
use super::{CliError, Global, Output};
use crate::api::serve_witness;
use crate::core::command::LEVEL;
use crate::core::rows::PairMemberKind;
use crate::ops::durable_file::create_private_dir;
use crate::ops::lockfile::DataLock;
use crate::ops::logging::{self, LogOptions};
use crate::replication::invite::{Applicant, Invitation, join};
use crate::replication::net::TcpNet;
use crate::replication::pki::PairPki;
use crate::replication::{Identity, WitnessOptions, WitnessService, host_name};

/// `holdfast witness`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
A witness holds no messages: a few hundred bytes, on any third machine that
both data nodes reach. With it a pair never acknowledges two histories, and the
standby takes over in two seconds.

Examples:
  holdfast witness --data /srv/witness --join BLOB   join, then run
  holdfast witness --data /srv/witness               run again later
  holdfast status --data /srv/witness                how it stands")]
pub struct WitnessArgs {
    /// The invitation that `holdfast pair invite --witness` printed
    #[arg(long, value_name = "BLOB")]
    join: Option<String>,
    /// Address and port for the data nodes
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:8444")]
    listen: String,
    /// HOST:PORT under which the data nodes reach it [default: this machine's address and the port]
    #[arg(long, value_name = "HOST:PORT")]
    address: Vec<String>,
    #[command(flatten)]
    applying: Applying,
}

/// Runs it until it is told to stop. Blocks.
pub fn run(global: &Global, args: &WitnessArgs, output: &Output) -> Result<(), CliError> {
    let data = &global.data;
    if data.join("node.toml").exists() {
        let text = "this is the data directory of a data node: a witness needs one of its own, on another machine";
        return Err(CliError::failed(text));
    }
    // Before anything is made: what a refused command leaves behind would be in the way of the right one.
    if args.join.is_none() {
        load(data)?;
    }
    let before = Before::of(data);
    create_private_dir(data).map_err(CliError::failed)?;
    let _lock = DataLock::acquire(data).map_err(CliError::failed)?;
    let ended = run_locked(data, args, output);
    if ended.is_err() {
        before.restore(data);
    }
    ended
}

/// What the data directory was before this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Missing,
    Empty,
    InUse,
}

impl Before {
    fn of(data: &Path) -> Self {
        match std::fs::read_dir(data).map(Iterator::count) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::Missing,
            Ok(0) => Self::Empty,
            _ => Self::InUse,
        }
    }

    /// Leaves nothing of a witness that did not join: a data node may want the directory. Called with the lock held.
    fn restore(self, data: &Path) {
        if self == Self::InUse || data.join("pair/pair.toml").exists() {
            return;
        }
        // What cannot be removed is in the way of nothing but a later `serve`, which says so.
        for own in ["logs", "pair", "run"] {
            drop(std::fs::remove_dir_all(data.join(own)));
        }
        if self == Self::Missing {
            drop(std::fs::remove_dir(data));
        }
    }
}

fn run_locked(data: &Path, args: &WitnessArgs, output: &Output) -> Result<(), CliError> {
    let options = LogOptions { dir: Some(data.join("logs")), ..LogOptions::default() };
    let (_control, _guard) = logging::install(&options).map_err(CliError::failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::failed)?;
    runtime.block_on(async {
        let pki = match &args.join {
            Some(text) => join_pair(data, args, text).await?,
            None => load(data)?,
        };
        serve(data, args, (pki, output)).await
    })
}

fn load(data: &Path) -> Result<PairPki, CliError> {
    let found = PairPki::load(&data.join("pair")).map_err(CliError::failed)?;
    let missing = "this witness has not joined a pair yet: make an invitation with `holdfast pair invite --witness` on the \
                   active node, then say --join BLOB";
    found.filter(|pki| pki.membership().kind == PairMemberKind::Witness).ok_or_else(|| CliError::failed(missing))
}

async fn join_pair(data: &Path, args: &WitnessArgs, text: &str) -> Result<PairPki, CliError> {
    let invitation: Invitation = accepted(text, PairMemberKind::Witness, args.applying.yes)?;
    let pair_dir: PathBuf = data.join("pair");
    let before = PairPki::load(&pair_dir).map_err(CliError::failed)?.map(|pki| pki.membership());
    let applicant = Applicant {
        name: args.applying.name.clone().unwrap_or_else(host_name),
        addresses: peer_addresses(&args.address, &args.listen, &invitation)?,
        client_url: String::new(),
        level: LEVEL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        retired_member: before.filter(|before| before.cluster == invitation.cluster).map(|before| before.member),
    };
    let joined = Box::pin(join(&TcpNet, &invitation, &applicant, &pair_dir)).await.map_err(CliError::failed)?;
    // Under a new number it has no memory of votes: what an earlier member remembered is not its own.
    crate::ops::durable_file::remove_durably(&pair_dir.join("durable.bin")).map_err(CliError::failed)?;
    tracing::info!(member = joined.membership().member, "this witness has joined the pair");
    Ok(joined)
}

async fn serve(data: &Path, args: &WitnessArgs, (pki, output): (PairPki, &Output)) -> Result<(), CliError> {
    let membership = pki.membership();
    let identity =
        Identity { member: membership.member, cluster: membership.cluster, client_url: String::new(), level: LEVEL };
    let options = WitnessOptions {
        data: data.to_owned(),
        listen: args.listen.clone(),
        net: std::sync::Arc::new(TcpNet),
        tls: pki.tls(std::sync::Arc::default()).map_err(CliError::failed)?,
        identity,
        validity: Some(pki.validity()),
    };
    let shutdown = CancellationToken::new();
    let (service, handle) = WitnessService::open(options).await.map_err(CliError::failed)?;
    serve_witness(data, handle, shutdown.clone()).map_err(CliError::failed)?;
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(CliError::failed)?;
    let asked = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        asked.cancel();
    });
    let state = serde_json::json!({ "member": membership.member, "listen": args.listen });
    let text = format!("Holdfast {} is running as witness, member {}.", env!("CARGO_PKG_VERSION"), membership.member);
    output.show(&state, &text)?;
    service.run(shutdown).await.map_err(CliError::failed)
}
