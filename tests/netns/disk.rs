//! One node's disk fills up: what the other one and the people notice.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::cuts::{notices, summary};
use crate::lan::{Place, on_a_lan};
use crate::load::Load;
use crate::pair::{Pair, Plan};
use crate::support::people::client_id;
use crate::support::until;

/// A small file system in memory. It is unmounted when this is dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(mib: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-disk-").tempdir().unwrap();
        let size = format!("size={mib}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self { dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes so much of it that writes are refused; gives what to remove.
    fn fill(&self, free_bytes: u64) -> PathBuf {
        let path = self.path().join("somebody-elses");
        let left_mib = u64::from(RESERVE_MIB) - 10;
        std::fs::write(&path, vec![1; (free_bytes - (left_mib << 20)) as usize]).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
    }
}

const DISK_MIB: u32 = 300;
const RESERVE_MIB: u32 = 64;

fn plan(place: Place, disk: &SmallDisk) -> Plan {
    let config = format!("[storage]\ndisk_reserve_mib = {RESERVE_MIB}\n");
    Plan { config, disk: Some((place, disk.path().to_owned())), ..Plan::default() }
}

#[test]
fn a_standby_with_a_full_disk_is_left_behind_and_catches_up_when_there_is_room() {
    on_a_lan(async |lan| {
        let disk = SmallDisk::mount(DISK_MIB);
        let pair = Pair::start(&lan, plan(Place::B, &disk)).await;
        let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
        load.more(50).await;
        let (epoch, free) =
            (pair.a.status().await["pair"]["epoch"].clone(), pair.b.status().await["disk"]["free_bytes"].clone());
        let filler = disk.fill(free.as_u64().unwrap());
        let full = pair.b.until_status("it has no room", |status| status["pair"]["has_room"] == false).await;
        assert_eq!(full["disk"]["accepting"], false, "{full:#}");
        let alone = pair.a.until_status("exposed", |status| status["pair"]["exposed_since_ms"].is_u64()).await;
        assert!(summary(&alone).starts_with("exposed"), "{alone:#}");
        let why = "the other data node does not have everything yet";
        pair.a.until_status(why, |status| status["pair"]["automatic_failover_obstacle"] == why).await;
        load.more(100).await;
        let behind = pair.a.status().await;
        assert!(behind["pair"]["lag_records"].as_u64().unwrap() >= 50, "{behind:#}");
        let still = pair.b.status().await;
        assert_eq!((&still["role"], &still["pair"]["has_room"]), (&"standby".into(), &false.into()), "{still:#}");

        std::fs::remove_file(filler).unwrap();
        let (active, standby) = pair.protected(&pair.a).await;
        assert_eq!(active["pair"]["epoch"], epoch, "nobody else was active");
        assert_eq!(standby["pair"]["has_room"], true);
        assert!(notices(&active).contains("exposed: records from index"), "{active:#}");
        load.more(30).await;
        let book = load.finish().await;
        assert!(book.acked.iter().all(|acked| acked.by == Place::A));
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}

#[test]
fn an_active_with_a_full_disk_refuses_writes_until_it_is_told_to_hand_over() {
    on_a_lan(async |lan| {
        let disk = SmallDisk::mount(DISK_MIB);
        let pair = Pair::start(&lan, plan(Place::A, &disk)).await;
        let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
        load.more(50).await;
        let free = pair.a.status().await["disk"]["free_bytes"].as_u64().unwrap();
        let filler = disk.fill(free);
        let path = format!("/channels/{}/messages", pair.channel);
        let mut tried = Vec::new();
        until("it refuses", async || {
            tried.push(format!("try {}", tried.len()));
            let answer = pair.owner.api.post(&path, json!({"client_id": client_id(), "body": tried.last()})).await;
            (answer.status == 503).then(|| answer.refused(503, "disk_full"))
        })
        .await;
        let full = pair.a.status().await;
        assert_eq!((&full["role"], &full["disk"]["accepting"]), (&"active".into(), &false.into()), "{full:#}");
        assert_eq!(pair.owner.api.get(&path).await.status, 200, "reading goes on");
        // Nobody takes over: a person decides whether to make room or to hand over.
        tokio::time::sleep(std::time::Duration::from_secs(4)).await;
        assert_eq!(pair.b.status().await["role"], "standby");
        let said = pair.a.run(&["switchover"]).await;
        let now = pair.b.until_status("it is active", |status| status["role"] == "active").await;
        assert_eq!(said["member"], now["pair"]["member"]);
        load.more(30).await;

        std::fs::remove_file(filler).unwrap();
        pair.protected(&pair.b).await;
        let mut book = load.finish().await;
        book.unknown.extend(tried);
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}
