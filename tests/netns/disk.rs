//! One node's disk fills up: what the other one and the people notice.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cuts::{notices, summary};
use crate::lan::{Place, on_a_lan};
use crate::load::Load;
use crate::pair::{Pair, Plan};
use crate::support::people::client_id;

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

fn plan(disks: &[(Place, &SmallDisk)]) -> Plan {
    let config = format!("[storage]\ndisk_reserve_mib = {RESERVE_MIB}\n");
    Plan {
        config,
        disks: disks.iter().map(|(place, disk)| (*place, disk.path().to_owned())).collect(),
        ..Plan::default()
    }
}

#[test]
fn a_standby_with_a_full_disk_is_left_behind_and_catches_up_when_there_is_room() {
    on_a_lan(async |lan| {
        let disk = SmallDisk::mount(DISK_MIB);
        let pair = Pair::start(&lan, plan(&[(Place::B, &disk)])).await;
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
fn an_active_with_a_full_disk_hands_over_and_stays_standby() {
    on_a_lan(async |lan| {
        let disk = SmallDisk::mount(DISK_MIB);
        let pair = Pair::start(&lan, plan(&[(Place::A, &disk)])).await;
        let load = Load::start(&pair, "w", &[Place::A, Place::B], 3);
        load.more(50).await;
        let before = pair.a.status().await;
        let begun = Instant::now();
        let filler = disk.fill(before["disk"]["free_bytes"].as_u64().unwrap());
        let now = pair.b.until_status("it is active", |status| status["role"] == "active").await;
        eprintln!("handed over {:?} after the disk was full", begun.elapsed());
        let epoch = before["pair"]["epoch"].as_u64().unwrap();
        assert_eq!(now["pair"]["epoch"], epoch + 1, "{now:#}");
        load.more(50).await;
        eprintln!("longest time without an acknowledgement: {:?}", load.longest_gap(begun));
        let full = pair.a.until_status("it has no room", |status| status["pair"]["has_room"] == false).await;
        assert_eq!((&full["role"], &full["disk"]["accepting"]), (&"standby".into(), &false.into()), "{full:#}");
        assert!(notices(&full).contains("the disk of this node is full: it hands over"), "{full:#}");
        let refused = pair.b.try_run(&["switchover"]).await;
        assert!(refused.contains("does not have everything") || refused.contains("takes nothing over"), "{refused}");
        tokio::time::sleep(Duration::from_secs(4)).await;
        let (a, b) = (pair.a.status().await, pair.b.status().await);
        assert_eq!((&a["role"], &b["role"]), (&"standby".into(), &"active".into()), "it does not come back: {a:#}");
        assert!(summary(&b).starts_with("exposed"), "{b:#}");

        std::fs::remove_file(filler).unwrap();
        let (active, _) = pair.protected(&pair.b).await;
        assert_eq!(active["pair"]["epoch"], epoch + 1, "nor when there is room");
        let trail = pair.owner_on(Place::B).api.get("/audit?action=pair.switchover").await.expect(200).to_string();
        assert!(trail.contains("the disk of the active is full"), "{trail}");
        let book = load.finish().await;
        book.check(&pair).await;
        pair.equal_at_the_end().await;
    });
}

#[test]
fn when_both_disks_are_full_writes_are_refused_and_nobody_hands_over() {
    on_a_lan(async |lan| {
        let disks = [SmallDisk::mount(DISK_MIB), SmallDisk::mount(DISK_MIB)];
        let pair = Pair::start(&lan, plan(&[(Place::A, &disks[0]), (Place::B, &disks[1])])).await;
        let epoch = pair.a.status().await["pair"]["epoch"].clone();
        let fill = async |place: Place, disk: &SmallDisk| {
            let filler = disk.fill(pair.node(place).status().await["disk"]["free_bytes"].as_u64().unwrap());
            let told = |status: &serde_json::Value| status["pair"]["peer_takes_records"] == false;
            let other = pair.other(place).until_status("told", told).await;
            assert_eq!(other["pair"]["protected"], true, "{other:#}");
            filler
        };
        // Nothing is written meanwhile: the standby with the full disk still holds everything.
        let standbys = fill(Place::B, &disks[1]).await;
        let refused = pair.a.try_run(&["switchover"]).await;
        assert!(refused.contains("takes nothing over"), "{refused}");
        let actives = fill(Place::A, &disks[0]).await;
        let path = format!("/channels/{}/messages", pair.channel);
        let send = async |body: &str| pair.owner.api.post(&path, json!({"client_id": client_id(), "body": body})).await;
        send("no room").await.refused(503, "disk_full");
        assert_eq!(pair.owner.api.get(&path).await.status, 200, "reading goes on");
        tokio::time::sleep(Duration::from_secs(7)).await;
        let (a, b) = (pair.a.status().await, pair.b.status().await);
        assert_eq!((&a["role"], &b["role"]), (&"active".into(), &"standby".into()), "{a:#} {b:#}");
        assert_eq!((&a["pair"]["epoch"], &b["pair"]["epoch"]), (&epoch, &epoch), "{a:#}");
        assert!(!notices(&a).contains("switchover"), "not even tried: {a:#}");

        // Room on the standby: now it can take over.
        std::fs::remove_file(standbys).unwrap();
        let now = pair.b.until_status("it is active", |status| status["role"] == "active").await;
        assert_eq!(now["pair"]["epoch"].as_u64().unwrap(), epoch.as_u64().unwrap() + 1, "{now:#}");
        std::fs::remove_file(actives).unwrap();
        pair.protected(&pair.b).await;
        pair.equal_at_the_end().await;
    });
}
