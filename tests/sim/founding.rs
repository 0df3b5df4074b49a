//! The organisation that a simulation begins with, and who belongs to the pair. Node 1 has it in its log before the
//! simulated time begins.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast::blobs::BlobStore;
use holdfast::core::chat::Reply;
use holdfast::core::command::{
    Actor, Command, CreateChannel, Envelope, LEVEL, NewUser, SendMessage, SetUp, UpdatePair,
};
use holdfast::core::entry::Origin;
use holdfast::core::failover::{Durable, Epoch};
use holdfast::core::pair::row_after;
use holdfast::core::rows::{Pair, PairMember, PairMemberKind};
use holdfast::node::{EventSink, Execution, Node, NodeOptions, Published, ReplyTo};
use holdfast::oplog::{LogOptions, LogWriter};
use holdfast::projection::snapshot::{SnapshotInfo, write_snapshot};
use holdfast::replication::{PairSettings, Place, SettingsCache, begin_membership};

use crate::clock;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::wires::HOSTS;

/// The cluster of every simulation.
pub(crate) const CLUSTER: [u8; 16] = [7; 16];
/// Small, so that a short run has many segments.
pub(crate) const SEGMENT_BYTES: u64 = 32 << 10;
/// How many people write.
pub(crate) const PEOPLE: usize = 5;
/// How many messages the log has that a fresh standby cannot get from the log.
const OLD_MESSAGES: u64 = 400;

/// Who is there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Organisation {
    /// The people's ids.
    pub(crate) people: Vec<u64>,
    /// The one channel that all of them are in.
    pub(crate) channel: u64,
    /// What was sent before the simulation: client ids and texts.
    pub(crate) sent: Vec<([u8; 16], String)>,
}

/// Nobody listens.
pub(crate) struct NoSink;

impl EventSink for NoSink {
    fn start_from(&self, _pos: u64) {}
    fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
}

/// The place of a data node (0 or 1).
pub(crate) fn place(data: &Path, node: usize) -> Place {
    Place {
        data: data.to_owned(),
        cluster: CLUSTER,
        origin: Origin { site: 0, node: node as u16 + 1 },
        execution: Execution::Inline { segment_bytes: SEGMENT_BYTES, now_ms: clock::WALL_CLOCKS[node] },
    }
}

fn member(number: u16) -> PairMember {
    let witness = number == 3;
    let host = HOSTS[usize::from(number) - 1];
    PairMember {
        number: number.into(),
        kind: if witness { PairMemberKind::Witness.into() } else { PairMemberKind::Data.into() },
        addresses: vec![format!("{host}:7401")],
        client_url: if witness { String::new() } else { format!("https://{host}") },
        fingerprint: vec![number as u8; 32].into(),
        name: host.to_owned(),
        level: LEVEL,
    }
}

/// The change of the pair's settings that leaves these members.
pub(crate) fn update(before: &Pair, members: &[u16]) -> UpdatePair {
    let members = members.iter().map(|number| member(*number)).collect();
    UpdatePair { members, auto_promote: true, ..PairSettings(before.clone()).to_update() }
}

/// Writes what a member (node 1, node 2, the witness: 0 to 2) knows of the pair before it runs for the first time.
pub(crate) fn begin_member(data: &Path, (number, settings): (usize, &PairSettings)) {
    let dir = data.join("pair");
    std::fs::create_dir_all(&dir).unwrap();
    match number {
        // It was active, alone, until the others came.
        0 => {
            let durable = Durable { epoch: Epoch::new(1, 1), was_active: true, ..Durable::default() };
            std::fs::write(dir.join("durable.bin"), durable.to_bytes()).unwrap();
        }
        1 => begin_membership(&dir).unwrap(),
        _ => {}
    }
    SettingsCache::open(&dir).unwrap().put(settings.clone()).unwrap();
}

struct Founder {
    node: Node,
}

impl Founder {
    fn propose(&self, actor: Option<Actor>, command: Command) -> Reply {
        let (sender, mut answer) = tokio::sync::oneshot::channel();
        let envelope = Envelope { actor, command: Some(command) };
        self.node.propose_into(&envelope, ReplyTo::Task(sender)).unwrap();
        answer.try_recv().unwrap().unwrap().outcome.unwrap()
    }

    fn user(&self, name: &str) -> u64 {
        let user = NewUser {
            username: name.to_owned(),
            display_name: name.to_owned(),
            role: 2,
            password_hash: "hash".to_owned(),
            ..NewUser::default()
        };
        match self.propose(Some(Actor::operator()), Command::CreateUser(user)) {
            Reply::User(user) => user.id.0,
            other => panic!("{other:?}"),
        }
    }
}

/// Fills the directory of node 1, and tells the other members of the pair.
pub(crate) fn found(dirs: &[std::path::PathBuf; 3], scenario: &Scenario) -> Organisation {
    let node = start(&dirs[0]);
    let founder = Founder { node };
    founder.node.activate(Epoch::new(1, 1).0).unwrap();
    let owner = NewUser {
        username: "owner".to_owned(),
        display_name: "Owner".to_owned(),
        password_hash: "hash".to_owned(),
        ..NewUser::default()
    };
    let set_up = SetUp { organisation: "Acme".to_owned(), owner: Some(owner), ..SetUp::default() };
    let owner = match founder.propose(Some(Actor::operator()), Command::SetUp(set_up)) {
        Reply::User(user) => user.id.0,
        other => panic!("{other:?}"),
    };
    let people: Vec<u64> = (0..PEOPLE).map(|number| founder.user(&format!("person{number}"))).collect();
    let create = CreateChannel { kind: 2, name: "general".to_owned(), members: people.clone(), ..Default::default() };
    let actor = Some(Actor { user: owner, session: 0, address: String::new() });
    let channel = match founder.propose(actor, Command::CreateChannel(create)) {
        Reply::Entry { entry, .. } => entry.channel.id.0,
        other => panic!("{other:?}"),
    };
    let mut organisation = Organisation { people, channel, sent: Vec::new() };
    let members: &[u16] = match (scenario.join, scenario.witness) {
        (true, false) => &[1],
        (true, true) => &[1, 2],
        (false, true) => &[1, 2, 3],
        (false, false) => &[1, 2],
    };
    let update = update(&Pair::default(), if scenario.join { &[1] } else { members });
    let settings = PairSettings(row_after(&Pair::default(), &update));
    founder.propose(Some(Actor::operator()), Command::UpdatePair(update));
    if scenario.join {
        old_messages(&founder, &mut organisation);
        make_old(founder.node, &dirs[0]);
        begin_member(&dirs[0], (0, &settings));
    } else {
        founder.node.stop(Duration::ZERO);
        for (number, dir) in dirs.iter().enumerate().take(members.len()) {
            begin_member(dir, (number, &settings));
        }
    }
    organisation
}

fn start(data: &Path) -> Node {
    let place = place(data, 0);
    let options = NodeOptions {
        data: place.data,
        cluster: CLUSTER,
        origin: place.origin,
        alone: true,
        events: Arc::new(()),
        sink: Arc::new(NoSink),
        execution: place.execution,
        on_fatal: Arc::new(|reason| panic!("{reason}")),
    };
    Node::start(options).unwrap().0
}

fn old_messages(founder: &Founder, organisation: &mut Organisation) {
    let mut random = Random::new(0, 3);
    for number in 0..OLD_MESSAGES {
        let mut client_id = [9; 16];
        client_id[..8].copy_from_slice(&number.to_be_bytes());
        let user = organisation.people[number as usize % PEOPLE];
        // Nothing that a compressor could make small.
        let words: Vec<String> = (0..30).map(|_| format!("{:x}", random.next())).collect();
        let body = format!("old {number} {}", words.join(" "));
        let send = SendMessage {
            channel: organisation.channel,
            client_id: Bytes::copy_from_slice(&client_id),
            body: body.clone(),
        };
        founder.propose(Some(Actor { user, session: 0, address: String::new() }), Command::SendMessage(send));
        organisation.sent.push((client_id, body));
    }
}

/// Leaves a log whose beginning is gone, with the snapshot that stands for it, and some blobs.
fn make_old(node: Node, data: &Path) {
    node.projection().checkpoint().unwrap();
    let hold = node.projection().hold_checkpoints();
    let index = hold.stored().index;
    let chain = node.log().position_at(index).unwrap().chain;
    let info = SnapshotInfo { site: 0, chain };
    write_snapshot(&hold, &data.join("snapshots"), info, |_| {}).unwrap();
    drop(hold);
    node.stop(Duration::ZERO);
    drop(node);
    let mut options = LogOptions::new(data.join("log"), CLUSTER);
    options.segment_bytes = SEGMENT_BYTES;
    let (mut log, _) = LogWriter::open(options).unwrap();
    assert!(!log.trim_below(index / 2).unwrap().is_empty(), "nothing could be trimmed");
    let blobs = BlobStore::open(&data.join("blobs")).unwrap();
    for number in 0..5_u8 {
        blobs.put(&vec![number; 1_000 * usize::from(number) + 1][..], 1 << 20).unwrap();
    }
}
