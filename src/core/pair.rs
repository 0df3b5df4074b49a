//! The pair in the log: who belongs to it, what its members agree on, and which commands all of them understand. What
//! the members do with it is the protocol's affair (`failover`); this must never depend on which node applies it.
//!
//! - A member's number is never used a second time: what lost its durable state comes back under the next one.
//! - The level that all members use never falls: the log may hold commands of it.

use super::chat::{Act, Context, Reply, Ruled, json};
use super::command::{Command, LEVEL, NotePair, PairEvent, UpdatePair};
use super::event;
use super::keys::Key;
use super::refusal::{Current, Refusal, RefusalCode};
use super::rows::{self, PairMember, PairMemberKind, PairTimings, Role};
use super::view::{View, ViewError, ViewExt};
use crate::limits;

/// The lowest level of a pair: that of the first release which could be one.
pub const LEVEL_MIN: u32 = 2;

/// The timings unless an admin decides otherwise.
pub const TIMINGS_DEFAULT: PairTimings = PairTimings {
    heartbeat_ms: 250,
    fail_after_ms: 1_500,
    solo_after_ms: 1_000,
    lease_ms: 2_000,
    promote_after_ms: 4_000,
};

/// The level that all members of a pair use: the lowest that any of them understands, or less while it is held back.
#[must_use]
pub fn level_of(pair: &rows::Pair) -> u32 {
    let understood = pair.members.iter().map(|member| member.level).min().unwrap_or(LEVEL);
    pair.level_held.map_or(understood, |held| held.min(understood))
}

/// The level that commands may have now; a node without a pair has only itself to ask.
///
/// # Errors
/// A failing state.
pub fn agreed_level(view: &(impl View + ?Sized)) -> Result<u32, ViewError> {
    Ok(view.row::<rows::Pair>(Key::Pair)?.map_or(LEVEL, |pair| level_of(&pair)))
}

/// Whether a command may be logged by a pair that agrees on `agreed_level` (from [`agreed_level`]): asked before it is
/// logged, because a member that does not understand a record must stop.
///
/// # Errors
/// `upgrade_pending`.
pub fn allowed(command: &Command, agreed_level: u32) -> Result<(), Refusal> {
    let inner = match command {
        Command::Salvage(salvage) => super::merge::inner(salvage)
            .map_or(LEVEL, |envelope| envelope.command.as_ref().map_or(LEVEL, Command::level)),
        _ => 1,
    };
    if command.level().max(inner) > agreed_level {
        return Err(RefusalCode::UpgradePending.into());
    }
    Ok(())
}

/// The number of the next new member.
#[must_use]
pub fn next_number(pair: &rows::Pair) -> u32 {
    let used = pair.members.iter().map(|member| member.number).chain(pair.retired.iter().copied());
    used.max().unwrap_or(0) + 1
}

/// Refuses all but admins, owners, the operator and the node itself.
fn require_authority(ctx: &Context<'_>) -> Ruled<()> {
    if ctx.actor.is_system() {
        return Ok(());
    }
    ctx.require_admin().map(|_: Role| ())
}

/// Changes the pair.
pub(crate) fn update(ctx: &mut Context<'_>, command: &UpdatePair) -> Ruled<Reply> {
    require_authority(ctx)?;
    let row = ctx.changes.row::<rows::Pair>(Key::Pair)?;
    let old = row.as_deref().cloned().unwrap_or_default();
    if old.version != command.version {
        return Err(Refusal::stale(Current::Pair((&old).into())).into());
    }
    let mut members = command.members.clone();
    members.sort_by_key(|member| member.number);
    check_members(&members)?;
    if row.is_some() {
        check_numbers(&old, &members)?;
    }
    let timings = command.timings.unwrap_or(TIMINGS_DEFAULT);
    check_timings(&timings)?;
    let addresses = members.iter().all(|member| member.addresses.iter().all(|address| is_address(address)));
    if !addresses || !(command.reference.is_empty() || is_address(&command.reference)) {
        return Err(RefusalCode::PairAddressInvalid.into());
    }
    let new = rows::Pair { timings: Some(timings), ..row_after(&old, command) };
    if level_of(&new) < row.as_deref().map_or(LEVEL_MIN, level_of) {
        return Err(RefusalCode::PairLevelFalls.into());
    }
    let before = row.as_deref().and_then(|row| json(&event::Pair::from(row)));
    let after = event::Pair::from(&new);
    ctx.changes.put(Key::Pair, new)?;
    ctx.audit(Act { action: "pair.update", kind: "pair", target: 0, before, after: json(&after) });
    Ok(Reply::Pair(after))
}

/// The row after a change that is allowed.
#[must_use]
pub fn row_after(old: &rows::Pair, command: &UpdatePair) -> rows::Pair {
    let mut members = command.members.clone();
    members.sort_by_key(|member| member.number);
    let gone = old.members.iter().map(|member| member.number);
    let gone = gone.filter(|number| members.iter().all(|member| member.number != *number));
    let mut retired: Vec<u32> = old.retired.iter().copied().chain(gone).collect();
    retired.sort_unstable();
    rows::Pair {
        version: old.version + 1,
        members,
        retired,
        auto_promote: command.auto_promote,
        reference: command.reference.clone(),
        timings: command.timings,
        level_held: command.level_held,
    }
}

/// What the members, in the order of their numbers, must be.
fn check_members(members: &[PairMember]) -> Ruled<()> {
    let count = |kind: PairMemberKind| members.iter().filter(|member| member.kind == i32::from(kind)).count();
    let (data, witnesses) = (count(PairMemberKind::Data), count(PairMemberKind::Witness));
    let counted = (1..=limits::PAIR_DATA_MEMBERS_MAX).contains(&data)
        && witnesses <= limits::PAIR_WITNESSES_MAX
        && data + witnesses == members.len();
    let distinct = members.iter().zip(members.iter().skip(1)).all(|(one, next)| one.number != next.number);
    let mut prints = members.iter().enumerate();
    let own = prints.all(|(at, one)| members.iter().skip(at + 1).all(|other| one.fingerprint != other.fingerprint));
    if !counted || !distinct || !own || !members.iter().all(is_complete) {
        return Err(RefusalCode::PairMembersInvalid.into());
    }
    Ok(())
}

fn is_complete(member: &PairMember) -> bool {
    let name = super::chat::forms::node_name(&member.name).is_ok_and(|name| name == member.name);
    let addresses = (1..=limits::PAIR_ADDRESSES_MAX).contains(&member.addresses.len());
    let url = match member.kind() {
        PairMemberKind::Data => is_client_url(&member.client_url),
        PairMemberKind::Witness => member.client_url.is_empty(),
    };
    let number = (1..=limits::PAIR_NUMBER_MAX).contains(&member.number);
    number && name && addresses && url && member.fingerprint.len() == 32 && member.level >= LEVEL_MIN
}

/// Who is new has the next number, and nobody becomes something else.
fn check_numbers(old: &rows::Pair, members: &[PairMember]) -> Ruled<()> {
    let mut next = next_number(old);
    for member in members {
        match old.members.iter().find(|before| before.number == member.number) {
            Some(before) if before.kind == member.kind => {}
            None if member.number == next => next += 1,
            _ => return Err(RefusalCode::PairNumberUsed.into()),
        }
    }
    Ok(())
}

/// - Silence means something only after some heartbeats.
/// - The standby stands before the active gives its clients up, so that they find somebody to go to.
/// - Without a witness the active has given up before the standby promotes itself.
fn check_timings(timings: &PairTimings) -> Ruled<()> {
    let PairTimings { heartbeat_ms, fail_after_ms, solo_after_ms, lease_ms, promote_after_ms } = *timings;
    let bounds = limits::PAIR_HEARTBEAT_MS_MIN..=limits::PAIR_TIMING_MS_MAX;
    let bounded = [heartbeat_ms, fail_after_ms, solo_after_ms, lease_ms, promote_after_ms];
    let fit = bounded.iter().all(|ms| bounds.contains(ms))
        && fail_after_ms / limits::PAIR_SILENT_HEARTBEATS_MIN >= heartbeat_ms
        && solo_after_ms > heartbeat_ms
        && lease_ms > fail_after_ms
        && promote_after_ms > lease_ms;
    if fit { Ok(()) } else { Err(RefusalCode::PairTimingsInvalid.into()) }
}

/// Whether a text is `host:port`: a DNS name, an IPv4 address, or an IPv6 address in brackets.
#[must_use]
pub fn is_address(text: &str) -> bool {
    if text.len() > limits::PAIR_ADDRESS_BYTES_MAX {
        return false;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    digits && port.parse::<u16>().is_ok_and(|port| port > 0) && is_host(host)
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // A zone, such as `fe80::1%eth0`, is a matter of the machine that connects.
        let (address, zone) = inner.split_once('%').unwrap_or((inner, "0"));
        let zoned = !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        return zoned && address.parse::<::core::net::Ipv6Addr>().is_ok();
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
            && !label.starts_with('-')
    };
    host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// Whether a text is `https://host[:port]`, or `http://` likewise, without a path.
#[must_use]
pub fn is_client_url(text: &str) -> bool {
    if text.len() > limits::PAIR_CLIENT_URL_BYTES_MAX {
        return false;
    }
    // Plain HTTP for nodes behind a reverse proxy, and on loopback.
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|rest| is_address(rest) || is_host(rest))
}

/// The audit record of what happened to the pair.
pub(crate) fn noted(command: &NotePair, what: PairEvent) -> Act<'static> {
    let after = serde_json::json!({
        "member": command.member,
        "epoch": super::failover::Epoch(command.epoch).number(),
        "index": command.index,
        "records": command.records,
        "text": command.text,
    });
    Act { action: what.action(), kind: "pair", target: command.member.into(), before: None, after: Some(after) }
}

/// Notes in the audit trail what happened to the pair.
pub(crate) fn note(ctx: &mut Context<'_>, command: &NotePair) -> Ruled<Reply> {
    require_authority(ctx)?;
    let what = PairEvent::try_from(command.what).map_err(|_| RefusalCode::InvalidCommand)?;
    if command.text.len() > limits::PAIR_NOTE_BYTES_MAX || command.text.chars().any(char::is_control) {
        return Err(RefusalCode::InvalidCommand.into());
    }
    ctx.audit(noted(command, what));
    Ok(Reply::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        for good in ["node-a:8444", "192.0.2.1:1", "[2001:db8::1]:65535", "[fe80::1%eth0]:8444", "节点.example.:8444"]
        {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "",
            "node",
            "node:",
            "node:0",
            "node:65536",
            "node:+1",
            ":8444",
            "a b:1",
            "2001:db8::1:1",
            "[::1:1",
            "[1.2.3.4]:1",
            "a..b:1",
            "-a:1",
            "http://a:1",
            "[fe80::1%]:1",
            "a/b:1",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        assert!(!is_address(&format!("{}:1", "a".repeat(300))));
    }

    #[test]
    fn client_urls_have_no_path() {
        for good in [
            "https://chat.example",
            "https://192.0.2.1:8443",
            "https://[::1]:8443",
            "https://[::1]",
            "http://127.0.0.1:80",
        ] {
            assert!(is_client_url(good), "{good}");
        }
        for bad in ["", "http://", "https://", "https://a/", "https://a/b", "https://u@a", "https://a:b", "ftp://a"] {
            assert!(!is_client_url(bad), "{bad}");
        }
    }

    #[test]
    fn timings_must_fit_together() {
        assert!(check_timings(&TIMINGS_DEFAULT).is_ok());
        let wrong = [
            PairTimings { heartbeat_ms: 49, ..TIMINGS_DEFAULT },
            PairTimings { heartbeat_ms: 501, ..TIMINGS_DEFAULT },
            PairTimings { fail_after_ms: 2_000, ..TIMINGS_DEFAULT },
            PairTimings { solo_after_ms: 250, ..TIMINGS_DEFAULT },
            PairTimings { lease_ms: 4_000, ..TIMINGS_DEFAULT },
            PairTimings { promote_after_ms: 60_001, ..TIMINGS_DEFAULT },
            PairTimings::default(),
        ];
        for timings in wrong {
            assert!(check_timings(&timings).is_err(), "{timings:?}");
        }
    }

    #[test]
    fn commands_wait_until_every_member_understands_them() {
        let note = Command::NotePair(NotePair::default());
        assert_eq!(allowed(&note, 1).unwrap_err().code, RefusalCode::UpgradePending);
        assert!(allowed(&note, 2).is_ok());
        assert!(allowed(&Command::MarkRead(super::super::command::MarkRead::default()), 1).is_ok());
        let member = |level| PairMember { level, ..PairMember::default() };
        let pair = rows::Pair { members: vec![member(4), member(3)], ..rows::Pair::default() };
        assert_eq!(level_of(&pair), 3);
        assert_eq!(level_of(&rows::Pair { level_held: Some(2), ..pair.clone() }), 2);
        assert_eq!(level_of(&rows::Pair { level_held: Some(9), ..pair }), 3);
    }
}
