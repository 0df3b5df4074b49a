//! A full disk: writes stop before it is full, reads go on, and when there is room everything goes on by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::people::client_id;
use crate::support::{Options, Server, Ws, until};
use crate::websocket::send_op;

/// A small file system in memory. It is unmounted when this is dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// None when this user may not mount.
    fn mount(mib: u32) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("holdfast-disk-").tempdir().unwrap();
        let size = format!("size={mib}m");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        match done {
            Ok(done) if done.status.success() => Some(Self { dir }),
            Ok(done) => {
                eprintln!("skipped, a disk cannot be mounted here: {}", String::from_utf8_lossy(&done.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped, there is no `mount` here: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes `mib` of it.
    fn fill(&self, mib: usize) -> PathBuf {
        let path = self.path().join("somebody-elses");
        std::fs::write(&path, vec![1; mib << 20]).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_reads_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount(300) else { return };
    let config = "[storage]\ndisk_reserve_mib = 64\n";
    let options = Options::plain().config(config).data(&disk.path().join("data"));
    let (mut server, owner) = Server::start_set_up(options).await;
    let channel = owner.channel("private", &[]).await;
    let path = format!("/channels/{channel}/messages");
    let mut acknowledged = vec![owner.say(&channel, "before").await];
    let mut ws = Ws::connect(&owner.api).await;
    let free = owner.api.get("/admin/status").await.expect(200)["disk"]["free_bytes"].as_u64().unwrap();
    let filler = disk.fill((free >> 20) as usize - 50);
    // Writes go on until the watch has looked; each is acknowledged or refused, never lost.
    until("writes are refused", async || {
        let answer = owner.api.post(&path, json!({"client_id": client_id(), "body": "meanwhile"})).await;
        if answer.status == 201 {
            acknowledged.push(answer.json());
            return None;
        }
        let problem = answer.refused(503, "disk_full");
        assert!(problem["hint"].as_str().is_some_and(|hint| hint.contains("free space")), "{problem}");
        Some(())
    })
    .await;
    let ready = server.api().try_get("/readyz").await.unwrap();
    assert_eq!(ready.expect(503), json!({"ready": false, "reasons": ["disk_full"], "warnings": []}));
    assert_eq!(server.api().try_get("/healthz").await.unwrap().status, 200);
    let error = ws.refused(send_op(&channel, "x"), "disk_full").await;
    assert!(error["retry_after_seconds"].is_u64(), "{error}");
    owner.api.post("/invites", json!({"role": "member"})).await.refused(503, "disk_full");
    owner.api.patch(&format!("{path}/1"), 1, json!({"body": "x"})).await.refused(503, "disk_full");
    assert!(server.stderr().contains("request failed"), "unlike a node that is not active, this one is in trouble");
    assert_eq!(owner.history(&channel).await, acknowledged, "reads go on");
    assert_eq!(owner.api.get("/admin/status").await.expect(200)["disk"]["accepting"], false);
    // A restart on the full disk reads too, and refuses still.
    server.kill9();
    server.spawn();
    server.listening().await;
    let api = server.api().with_token(owner.token());
    let owner = crate::support::Person { api, ..owner };
    until("it answers", async || owner.api.try_get("/healthz").await.ok()).await;
    assert_eq!(owner.history(&channel).await, acknowledged);
    owner.api.post(&path, json!({"client_id": client_id(), "body": "x"})).await.refused(503, "disk_full");

    std::fs::remove_file(filler).unwrap();
    until("writes are taken again", async || {
        let answer = owner.api.post(&path, json!({"client_id": client_id(), "body": "after"})).await;
        (answer.status == 201).then(|| acknowledged.push(answer.json()))
    })
    .await;
    until("it says so", async || (owner.api.try_get("/readyz").await.ok()?.status == 200).then_some(())).await;
    server.stop().await;
    server.restart().await;
    let owner = crate::support::Person { api: server.api().with_token(owner.token()), ..owner };
    assert_eq!(owner.history(&channel).await, acknowledged, "what was acknowledged is there");
    server.stop().await;
}
