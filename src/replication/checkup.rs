//! What `holdfast doctor` looks at when there is a pair: hooks, certificates, the other members. Must never change anything,
//! here or there: a member that is asked learns nothing that it does not know.

use std::ffi::OsStr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::context::{Identity, allowed};
use super::link::{self, LinkError, Target};
use super::net::{Net as _, TcpNet};
use super::pki::{PairPki, PeerTls};
use super::settings::{PairSettings, SettingsCache};
use super::wire::Class;
use crate::core::failover::{Epoch, Member};
use crate::core::rows::{PairMember, PairMemberKind};
use crate::limits;
use crate::node::{now_ms, now_seconds};
use crate::ops::doctor::Check;

/// What to look at.
#[derive(Clone, Debug)]
pub struct Checkup {
    /// The data directory.
    pub data: PathBuf,
    /// `pair.on_active`, as configured.
    pub on_active: Option<String>,
    /// `pair.on_standby`, as configured.
    pub on_standby: Option<String>,
    /// The level of commands that this node tells the others.
    pub level: u32,
}

impl Checkup {
    /// Looks. Blocks for some seconds when a member does not answer. Empty for a node without a pair and without hooks.
    ///
    /// # Errors
    /// When the system gives no runtime.
    pub fn run(&self) -> std::io::Result<Vec<Check>> {
        let hooks = [("on_active", &self.on_active), ("on_standby", &self.on_standby)];
        let mut checks: Vec<Check> =
            hooks.into_iter().filter_map(|(name, line)| Some(check_hook(name, line.as_deref()?))).collect();
        let dir = self.data.join("pair");
        let pki = match PairPki::load(&dir) {
            Ok(None) => return Ok(checks),
            Ok(Some(pki)) => pki,
            Err(error) => {
                let advice = "Restore the file from a copy, or leave the pair and join again with an empty directory.";
                checks.push(Check::fail("pair_files", error.to_string(), advice));
                return Ok(checks);
            }
        };
        checks.push(check_certificates(&pki, now_seconds()));
        let settings = match SettingsCache::open(&dir) {
            Ok(settings) => settings.latest(),
            Err(error) => {
                let advice = "Stop the node, move pair/settings.bin away and start it: it is written again.";
                checks.push(Check::fail("pair_files", format!("settings.bin: {error}"), advice));
                return Ok(checks);
            }
        };
        if settings.version() > 0 {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            checks.extend(runtime.block_on(self.check_members(&pki, &settings)));
        }
        Ok(checks)
    }

    /// The other members, one after the other.
    async fn check_members(&self, pki: &PairPki, settings: &PairSettings) -> Vec<Check> {
        let own = u32::from(pki.membership().member);
        let allowed = std::sync::Arc::new(arc_swap::ArcSwap::from_pointee(allowed(settings)));
        let tls = match pki.tls(allowed) {
            Ok(tls) => tls,
            Err(error) => return vec![Check::fail("pair_files", error.to_string(), "Join the pair again.")],
        };
        let mut checks = Vec::new();
        for member in settings.0.members.iter().filter(|member| member.number != own) {
            checks.push(self.check_member(pki, &tls, member).await);
        }
        let witness = settings.0.members.iter().any(|member| member.kind() == PairMemberKind::Witness);
        if !witness {
            let found = "there is none: in a partition both nodes may go on, and merge afterwards";
            checks.push(Check::ok("pair_witness", found));
        }
        checks
    }

    async fn check_member(&self, pki: &PairPki, tls: &PeerTls, member: &PairMember) -> Check {
        let name = match member.kind() {
            PairMemberKind::Data => "pair_peer",
            PairMemberKind::Witness => "pair_witness",
        };
        let mut asked = Vec::new();
        for address in &member.addresses {
            asked.push((address.as_str(), self.ask(pki, (tls, member.number), address).await));
        }
        judge(name, (member, &asked))
    }

    /// Says hello to a member at one address, and hangs up.
    async fn ask(&self, pki: &PairPki, (tls, number): (&PeerTls, u32), address: &str) -> Result<Answered, LinkError> {
        let begun = Instant::now();
        let patience = Duration::from_millis(limits::PEER_CONNECT_MS_MAX);
        drop(tokio::time::timeout(patience, TcpNet.connect(address)).await);
        let rtt = begun.elapsed();
        let membership = pki.membership();
        // No address for clients: what is said here must not become a setting.
        let identity = Identity {
            member: membership.member,
            cluster: membership.cluster,
            client_url: String::new(),
            level: self.level,
        };
        let member = Member::try_from(number).unwrap_or(Member::MAX);
        let hello = identity.hello(Class::Control, (Epoch::default(), 0), now_ms());
        let before = now_ms();
        let (welcome, _link) = link::dial(&TcpNet, tls, Target { address, member }, &hello).await?;
        let half_way = before + now_ms().saturating_sub(before) / 2;
        Ok(Answered { rtt, ahead_ms: welcome.hello.now_ms as i64 - half_way as i64, version: welcome.hello.version })
    }
}

/// What a member's answer tells.
#[derive(Clone, Debug)]
struct Answered {
    /// How long connecting took: once there and back.
    rtt: Duration,
    /// How far its clock is ahead of ours, roughly.
    ahead_ms: i64,
    version: String,
}

/// An address, and what became of the hello there.
type Asked<'a> = (&'a str, Result<Answered, LinkError>);

/// What the answers at a member's addresses mean.
fn judge(name: &'static str, (member, asked): (&PairMember, &[Asked<'_>])) -> Check {
    let tell = |(address, answer): &Asked<'_>| match answer {
        Ok(it) => format!("{address} answers in {} ms", it.rtt.as_millis()),
        Err(error) => format!("{address}: {error}"),
    };
    let told: Vec<String> = asked.iter().map(tell).collect();
    let who = format!("{} (member {})", member.name, member.number);
    let answers: Vec<&Answered> = asked.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
    let Some(first) = answers.first() else {
        let advice =
            "Start it, and check that this machine reaches its peer port (pair.listen, firewall, pair.addresses).";
        return Check::warn(name, format!("{who} does not answer: {}", told.join("; ")), advice);
    };
    // The network and a busy machine blur the difference by as much as the answer took.
    let unsure = first.rtt.as_millis() as u64 * 2;
    let apart = answers.iter().map(|it| it.ahead_ms.unsigned_abs()).min().unwrap_or(0);
    let found = format!(
        "{who}, version {}: {}; its clock is {} ms {}",
        first.version,
        told.join("; "),
        first.ahead_ms.unsigned_abs(),
        if first.ahead_ms < 0 { "behind" } else { "ahead" }
    );
    if answers.len() < asked.len() {
        return Check::warn(name, found, "Mend the network that does not work: the pair has no second way without it.");
    }
    if apart > limits::DOCTOR_PEER_CLOCK_WARN_MS + unsure {
        return Check::warn(name, found, "Keep the clocks of all members with NTP or chrony.");
    }
    if answers.iter().all(|it| it.rtt.as_millis() as u64 > limits::DOCTOR_PEER_RTT_WARN_MS) {
        let advice = "Every send takes at least that long; above 500 ms raise the timings with holdfast pair set.";
        return Check::warn(name, found, advice);
    }
    Check::ok(name, found)
}

/// Whether a hook can run, and is only what its owner wants.
fn check_hook(setting: &str, line: &str) -> Check {
    const NAME: &str = "pair_hooks";
    let advice = format!("Correct pair.{setting} in the configuration file.");
    let Some(program) = line.split_whitespace().next() else {
        return Check::fail(NAME, format!("pair.{setting} names no program"), advice);
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(path) = find_program(program, &path) else {
        return Check::fail(NAME, format!("pair.{setting}: there is no {program}"), advice);
    };
    let shown = path.display();
    let metadata = match std::fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) => return Check::fail(NAME, format!("pair.{setting}: {shown}: {error}"), advice),
    };
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        let advice = format!("Make it executable: chmod 755 {shown}");
        return Check::fail(NAME, format!("pair.{setting}: {shown} is no program that can be run"), advice);
    }
    match writable_by_others(&path, rustix::process::geteuid().as_raw()) {
        Some(loose) => {
            let advice = format!("Whoever may write there runs programs as this user: chmod go-w {}", loose.display());
            Check::warn(NAME, format!("pair.{setting}: {} can be written by others", loose.display()), advice)
        }
        None => Check::ok(NAME, format!("pair.{setting}: {shown}")),
    }
}

/// The program's file: as it is named, or in the directories of `path`.
fn find_program(program: &str, path: &OsStr) -> Option<PathBuf> {
    if program.contains('/') {
        return Path::new(program).exists().then(|| PathBuf::from(program));
    }
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// The file or the directory around it, if others than root and `us` may change it.
fn writable_by_others(program: &Path, us: u32) -> Option<PathBuf> {
    // Of a link its target counts.
    let program = program.canonicalize().ok()?;
    let around = program.parent().map(Path::to_owned);
    [Some(program), around].into_iter().flatten().find(|path| {
        std::fs::metadata(path).is_ok_and(|found| {
            let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
            let foreign = found.uid() != 0 && found.uid() != us;
            foreign || (found.mode() & 0o022 != 0 && !sticky)
        })
    })
}

/// How long the pair's certificates last.
fn check_certificates(pki: &PairPki, now_unix_seconds: i64) -> Check {
    const NAME: &str = "pair_certificate";
    let validity = pki.validity();
    let found = validity.text(now_unix_seconds);
    match validity.trouble(now_unix_seconds) {
        None => Check::ok(NAME, found),
        Some(advice) if validity.days_left(now_unix_seconds) < 0 => Check::fail(NAME, found, advice),
        Some(advice) => Check::warn(NAME, found, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::doctor::Verdict;

    #[test]
    fn a_hook_must_be_there_runnable_and_closed_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("move-address");
        let line = format!("{} add 10.0.0.1/24 eth0", program.display());
        let judged = || check_hook("on_active", &line);
        assert_eq!(judged().verdict, Verdict::Fail, "not there");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(judged().found.contains("no program that can be run"), "{:?}", judged());
        mode(0o755);
        assert_eq!(judged().verdict, Verdict::Ok, "{:?}", judged());
        mode(0o775);
        let check = judged();
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(check.advice.contains("chmod go-w"), "{check:?}");
        mode(0o755);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        assert_eq!(judged().verdict, Verdict::Warn, "the directory counts too: {:?}", judged());
        assert_eq!(check_hook("on_standby", "  ").verdict, Verdict::Fail);
        assert_eq!(check_hook("on_standby", "no-such-program-anywhere x").verdict, Verdict::Fail);
        assert_eq!(check_hook("on_standby", "sh -c true").verdict, Verdict::Ok, "found on the path");
    }

    #[test]
    fn an_answer_is_judged_by_reach_clock_and_distance() {
        let member = PairMember { number: 2, name: "two".to_owned(), ..PairMember::default() };
        let answer = |rtt_ms, ahead_ms| {
            Ok(Answered { rtt: Duration::from_millis(rtt_ms), ahead_ms, version: "0.1.0".to_owned() })
        };
        let judged = |asked: &[Asked<'_>]| judge("pair_peer", (&member, asked));
        assert_eq!(
            judged(&[("a:1", answer(1, -3))]).found,
            "two (member 2), version 0.1.0: a:1 answers in 1 ms; its clock is 3 ms behind"
        );
        assert_eq!(judged(&[("a:1", answer(1, -3))]).verdict, Verdict::Ok);
        let silent = judged(&[("a:1", Err(LinkError::HandshakeTimeout))]);
        assert!(silent.verdict == Verdict::Warn && silent.found.contains("does not answer"), "{silent:?}");
        let half = judged(&[("a:1", answer(1, 0)), ("b:1", Err(LinkError::HandshakeTimeout))]);
        assert!(half.verdict == Verdict::Warn && half.advice.contains("second way"), "{half:?}");
        let clock = judged(&[("a:1", answer(1, 60_000))]);
        assert!(clock.verdict == Verdict::Warn && clock.advice.contains("NTP"), "{clock:?}");
        let far = judged(&[("a:1", answer(600, 900))]);
        assert!(far.verdict == Verdict::Warn && far.advice.contains("pair set"), "{far:?}");
        assert_eq!(judged(&[("a:1", answer(600, 0)), ("b:1", answer(2, 0))]).verdict, Verdict::Ok, "one way is short");
    }
}
