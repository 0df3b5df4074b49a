//! A small network of its own: a switch and machines in network namespaces. Never touches the host's network.
//!
//! A cut is made at the sender: the machine believes the other one at an Ethernet address that nobody has, so its packets
//! leave and are lost without a word, in that direction only, for open connections too. That needs nothing but `ip`.

use std::cell::RefCell;
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A place for one machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The first data node.
    A,
    /// The second one.
    B,
    /// The witness.
    W,
    /// The people, and everything else that the test does itself.
    C,
    /// A host that is always on: a gateway.
    G,
}

/// All places.
pub(crate) const PLACES: [Place; 5] = [Place::A, Place::B, Place::W, Place::C, Place::G];

impl Place {
    /// Its name on the network.
    const fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
            Self::W => "w",
            Self::C => "c",
            Self::G => "g",
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
            Self::W => 3,
            Self::C => 9,
            Self::G => 254,
        }
    }

    /// Its address on the main network.
    pub(crate) fn address(self) -> String {
        Net::Main.address(self)
    }
}

/// One of the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// The one that everybody uses.
    Main,
    /// A second one, between the same machines.
    Second,
}

impl Net {
    const fn device(self) -> &'static str {
        match self {
            Self::Main => "eth0",
            Self::Second => "eth1",
        }
    }

    const fn bridge(self) -> &'static str {
        match self {
            Self::Main => "switch0",
            Self::Second => "switch1",
        }
    }

    /// The address of a machine on it.
    pub(crate) fn address(self, place: Place) -> String {
        let net = if self == Self::Main { 77 } else { 78 };
        format!("10.{net}.0.{}", place.number())
    }
}

/// An Ethernet address that nobody has.
const NOBODY: &str = "02:00:00:00:00:fe";

/// The network. Everything of it is removed when this is dropped.
pub(crate) struct Lan {
    tag: String,
    cuts: RefCell<Vec<(Net, Place, Place)>>,
    shut: RefCell<Vec<Place>>,
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in PLACES.map(Place::name).into_iter().chain(["lan"]) {
            let name = format!("{}-{name}", self.tag);
            let done = Command::new("ip").args(["netns", "del", &name]).stderr(Stdio::null()).status();
            if !done.is_ok_and(|status| status.success()) {
                eprintln!("the namespace {name} was not removed");
            }
        }
    }
}

/// Runs `ip` on these lines.
fn ip(namespace: &str, lines: &[String]) {
    for line in lines {
        let done = Command::new("ip").args(["-n", namespace]).args(line.split(' ')).output().unwrap();
        assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

/// The beginning of names that nobody else uses.
fn fresh_tag() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("hf{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Why the network cannot be made here. `None`: it can.
pub(crate) fn obstacle() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    let name = format!("{}-probe", fresh_tag());
    let add = match Command::new("ip").args(["netns", "add", &name]).output() {
        Ok(add) => add,
        Err(error) => return Some(format!("there is no `ip` (package iproute2): {error}")),
    };
    if !add.status.success() {
        return Some(format!("`ip netns add`: {}", String::from_utf8_lossy(&add.stderr).trim()));
    }
    let veth = "link add one type veth peer name other";
    let made = Command::new("ip").args(["-n", &name]).args(veth.split(' ')).output().unwrap();
    let _ = Command::new("ip").args(["netns", "del", &name]).status();
    (!made.status.success()).then(|| format!("a virtual cable: {}", String::from_utf8_lossy(&made.stderr).trim()))
}

impl Lan {
    /// Makes it, with both networks up.
    pub(crate) fn new() -> Self {
        let tag = fresh_tag();
        let lan = Self { tag, cuts: RefCell::default(), shut: RefCell::default() };
        let switch = lan.namespace_named("lan");
        for name in PLACES.map(Place::name).into_iter().chain(["lan"]) {
            let done = Command::new("ip").args(["netns", "add", &lan.namespace_named(name)]).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        }
        for net in [Net::Main, Net::Second] {
            let bridge = net.bridge();
            ip(&switch, &[format!("link add {bridge} type bridge"), format!("link set {bridge} up")]);
            for place in PLACES {
                let (port, namespace) = (format!("{}{}", place.name(), net.device()), lan.namespace(place));
                let device = net.device();
                ip(
                    &switch,
                    &[
                        format!("link add {port} type veth peer name {device} netns {namespace}"),
                        format!("link set {port} master {bridge} up"),
                    ],
                );
                let address = net.address(place);
                ip(&namespace, &[format!("address add {address}/24 dev {device}"), format!("link set {device} up")]);
            }
        }
        for place in PLACES {
            ip(&lan.namespace(place), &["link set lo up".to_owned()]);
        }
        lan
    }

    fn namespace_named(&self, name: &str) -> String {
        format!("{}-{name}", self.tag)
    }

    /// The namespace of a machine.
    pub(crate) fn namespace(&self, place: Place) -> String {
        self.namespace_named(place.name())
    }

    /// A command that runs on a machine. Its process is the program itself.
    pub(crate) fn command(&self, place: Place, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(place), program]);
        command
    }

    /// Loses every packet from one machine to another on a network.
    pub(crate) fn cut_on(&self, net: Net, from: Place, to: Place) {
        let (device, address) = (net.device(), net.address(to));
        ip(&self.namespace(from), &[format!("neigh replace {address} lladdr {NOBODY} dev {device} nud permanent")]);
        self.cuts.borrow_mut().push((net, from, to));
    }

    /// Loses every packet from one machine to another on the main network.
    pub(crate) fn cut(&self, from: Place, to: Place) {
        self.cut_on(Net::Main, from, to);
    }

    /// Loses every packet between two machines on the main network.
    pub(crate) fn part(&self, one: Place, other: Place) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Lets nobody in at a machine's port on the main network, as a firewall that was set up wrongly: connections to it,
    /// open ones too, go silent. The machine's own connections to others work in both directions.
    pub(crate) fn shut(&self, place: Place, port: u16) {
        self.drop_at(place, &format!("ipproto tcp dport {port}"));
    }

    /// The same for one other machine only.
    pub(crate) fn shut_for(&self, place: Place, (other, port): (Place, u16)) {
        self.drop_at(place, &format!("from {} ipproto tcp dport {port}", other.address()));
    }

    fn drop_at(&self, place: Place, what: &str) {
        // What comes in is looked up in the rules; the first one, for the own addresses, has to make room for ours.
        let own = ["rule add pref 100 lookup local", "rule del pref 0 lookup local"].map(str::to_owned);
        let ours = format!("rule add pref 10 iif {} {what} blackhole", Net::Main.device());
        ip(&self.namespace(place), &[own.as_slice(), &[ours]].concat());
        self.shut.borrow_mut().push(place);
    }

    /// Ends all cuts, and opens what was shut.
    pub(crate) fn heal(&self) {
        for place in self.shut.borrow_mut().drain(..) {
            let lines = ["rule del pref 10", "rule add pref 0 lookup local", "rule del pref 100 lookup local"];
            ip(&self.namespace(place), &lines.map(str::to_owned));
        }
        for (net, from, to) in self.cuts.borrow_mut().drain(..) {
            let (device, address) = (net.device(), net.address(to));
            ip(&self.namespace(from), &[format!("neigh del {address} dev {device}")]);
        }
    }
}

/// Moves the calling thread, and all that it starts, to a machine's namespace.
pub(crate) fn enter(namespace: &str) {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// Runs a test on a network of its own, on the machine of the people. Says loudly when there can be none.
pub(crate) fn on_a_lan<F: Future<Output = ()>>(test: impl FnOnce(Rc<Lan>) -> F + Send + 'static) {
    if let Some(why) = obstacle() {
        eprintln!("\n*** SKIPPED: {why}. Nothing of this test was run. ***\n");
        return;
    }
    let lan = Lan::new();
    let run = move || {
        enter(&lan.namespace(Place::C));
        // One thread: whatever it starts is on the people's machine, too.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, test(Rc::new(lan)));
    };
    // A thread of its own: the one that runs the tests stays where it is.
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}
