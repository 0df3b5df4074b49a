//! The shipped hook moves a virtual address with the active node.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::{Duration, Instant};

use holdfast::bench::client::{Endpoint, Trust};

use crate::lan::{Lan, Place, on_a_lan};
use crate::pair::{Pair, Plan};
use crate::support::{Api, until};

/// The address that people use.
const VIRTUAL: &str = "10.77.0.100";

/// Puts the hook where its path has no blanks, as an installation does.
fn installed_hook(dir: &Path) -> String {
    let hook = dir.join("virtual-ip");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/hooks/virtual-ip"), &hook).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    hook.display().to_string()
}

/// Whether the machine has the virtual address.
fn has_it(lan: &Lan, place: Place) -> bool {
    let shown = lan.command(place, "ip").args(["-o", "address", "show", "dev", "eth0"]).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).contains(VIRTUAL)
}

/// The Ethernet address of a machine.
fn hardware(lan: &Lan, place: Place) -> String {
    let shown = lan.command(place, "cat").arg("/sys/class/net/eth0/address").output().unwrap();
    String::from_utf8_lossy(&shown.stdout).trim().to_owned()
}

/// Where the people's machine believes the virtual address to be.
fn believed(lan: &Lan) -> String {
    let shown = lan.command(Place::C, "ip").args(["neigh", "show", VIRTUAL]).output().unwrap();
    String::from_utf8_lossy(&shown.stdout).trim().to_owned()
}

/// A client that knows nothing but the virtual address.
fn client(pair: &Pair) -> Api {
    let endpoint = Endpoint::new(&format!("http://{VIRTUAL}:8443"), &Trust::AnyCertificate).unwrap();
    Api::new(endpoint).with_token(pair.owner.token())
}

/// Waits until a message can be sent through the virtual address; gives how long that took.
async fn reached(pair: &Pair, text: &str) -> Duration {
    let (begun, api) = (Instant::now(), client(pair));
    let path = format!("/api/v1/channels/{}/messages", pair.channel);
    let message = serde_json::json!({"client_id": crate::support::people::client_id(), "body": text});
    until("a message gets through at the virtual address", async || {
        let call = crate::support::Call::new("POST", &path).json(&message);
        let answer = tokio::time::timeout(Duration::from_secs(1), api.try_send(call)).await.ok()?.ok()?;
        [200, 201].contains(&answer.status).then_some(())
    })
    .await;
    begun.elapsed()
}

async fn pair_with_hooks(lan: &Rc<Lan>, dir: &Path) -> Pair {
    let tools = Command::new("arping").arg("-V").output();
    assert!(tools.is_ok(), "arping is missing: apt-get install iputils-arping (`make test` does it)");
    let hook = installed_hook(dir);
    let set = |when: &str, what: &str| format!("{when} = \"{hook} {what} {VIRTUAL}/24 eth0\"\n");
    let hooks = set("on_active", "add") + &set("on_standby", "remove");
    Pair::start(lan, Plan { tls: false, hooks, ..Plan::default() }).await
}

#[test]
fn the_virtual_address_is_where_the_active_node_is() {
    on_a_lan(async |lan| {
        let dir = tempfile::tempdir().unwrap();
        let pair = pair_with_hooks(&lan, dir.path()).await;
        until("A has the address", async || has_it(&lan, Place::A).then_some(())).await;
        assert!(!has_it(&lan, Place::B));
        reached(&pair, "before").await;
        assert!(believed(&lan).contains(&hardware(&lan, Place::A)), "{}", believed(&lan));

        // Planned: the old one gives it up, the new one has it.
        pair.a.run(&["switchover"]).await;
        eprintln!("switchover: reached after {:?}", reached(&pair, "handed over").await);
        let moved = || (has_it(&lan, Place::A), has_it(&lan, Place::B)) == (false, true);
        until("only B has the address", async || moved().then_some(())).await;
        until("the neighbours know", async || believed(&lan).contains(&hardware(&lan, Place::B)).then_some(())).await;
        pair.protected(&pair.b).await;
        assert!(moved(), "and it stays so");

        // The process dies. Its machine lives on with the address: the new place must win all the same.
        pair.b.kill9();
        eprintln!("kill -9: reached after {:?}", reached(&pair, "after the crash").await);
        assert!(has_it(&lan, Place::A) && has_it(&lan, Place::B), "a dead process runs no hook");
        until("the neighbours know", async || believed(&lan).contains(&hardware(&lan, Place::A)).then_some(())).await;
        // Started again, it gives the address up before anything else.
        pair.b.spawn();
        until("only A has the address", async || (!has_it(&lan, Place::B)).then_some(())).await;
        assert!(has_it(&lan, Place::A));
        pair.protected(&pair.a).await;

        // The whole machine is gone.
        pair.a.kill9();
        let down = lan.command(Place::A, "ip").args(["link", "set", "eth0", "down"]).status().unwrap();
        assert!(down.success());
        eprintln!("machine gone: reached after {:?}", reached(&pair, "without the machine").await);
        let up = lan.command(Place::A, "ip").args(["link", "set", "eth0", "up"]).status().unwrap();
        assert!(up.success());
        pair.a.spawn();
        until("only B has the address", async || moved().then_some(())).await;
        pair.protected(&pair.b).await;
        let texts: Vec<String> =
            client(&pair).get(&format!("/channels/{}/messages", pair.channel)).await.expect(200)["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|message| message["body"].as_str().unwrap().to_owned())
                .collect();
        assert_eq!(texts, ["before", "handed over", "after the crash", "without the machine"]);
        pair.equal_at_the_end().await;
    });
}
