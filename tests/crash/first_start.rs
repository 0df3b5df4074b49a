//! Kills while the directory is being made: whatever is there then, the next start goes on from it.

use std::time::Duration;

use holdfast::bench::client::{Call, Http, text};
use holdfast::bench::text::Picker;

use crate::check::check_output;
use crate::process::Server;
use crate::world::{on_one_thread, set_up};

/// Directories that are made anew.
const DIRECTORIES: u64 = 12;
/// Kills on each.
const KILLS: usize = 3;

#[test]
fn a_kill_during_the_first_start_does_not_spoil_the_directory() {
    on_one_thread(async {
        let mut usual_start = Duration::from_millis(150);
        for seed in 0..DIRECTORIES {
            let mut picker = Picker::new(seed);
            let scratch = tempfile::tempdir().expect("a scratch directory");
            for _ in 0..KILLS {
                let server = Server::spawn(scratch.path());
                tokio::time::sleep(usual_start * picker.below(110) as u32 / 100).await;
                check_output(&server.kill(), false);
            }
            let (server, endpoint) = Server::start(scratch.path()).await;
            usual_start = (usual_start * 3 + server.started().elapsed()) / 4;
            let mut http = Http::connect(&endpoint).await.expect("the server listens");
            let owner = set_up(&mut http, &scratch.path().join("data")).await;
            // And once more right behind the set-up: it was acknowledged, so there is an owner from here on.
            check_output(&server.kill(), false);
            let (server, endpoint) = Server::start(scratch.path()).await;
            let mut http = Http::connect(&endpoint).await.expect("the server listens");
            let me = http.call(Call::get("/api/v1/me", text(&owner, "/token").expect("a token"))).await;
            assert_eq!(me.expect("the owner is signed in")["user"]["role"], "owner");
            assert!(!scratch.path().join("data/setup-link.txt").exists(), "the set-up link works once");
            check_output(&server.terminate().await, false);
        }
    });
}
