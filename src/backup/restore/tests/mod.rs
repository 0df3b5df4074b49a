//! Restores of real backups of real nodes: whatever moment is asked for, the state is the one that was there; whatever is
//! wrong with the repository is named, and nothing is written.

mod damage;
mod drills;
mod moments;
mod places;
mod texts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{Moment, RestoreError, RestoreOptions, RestoreReport};
use crate::backup::Watch;
use crate::backup::crypt::{Identity, Recipient};
use crate::backup::job::{self, Extra, Facts, Job, Source};
use crate::backup::manifest::{BackupKind, Manifest, Signer};
use crate::backup::repository::Repository;
use crate::backup::target::Target;
use crate::blobs::{BlobHash, BlobStore};
use crate::core::chat::Reply;
use crate::core::command::{
    Actor, Command, CreateChannel, CreateSession, DeleteMessage, EditMessage, Envelope, NewUser, SendMessage, SetUp,
};
use crate::core::entry::{Digest, Origin};
use crate::core::ids::UserId;
use crate::node::{EventSink, Execution, Node, NodeOptions, Published, Role};

const CLUSTER: [u8; 16] = *b"cluster of tests";

struct NoSink;

impl EventSink for NoSink {
    fn start_from(&self, _pos: u64) {}
    fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
}

fn start(data: &Path) -> Node {
    let options = NodeOptions {
        data: data.to_owned(),
        cluster: CLUSTER,
        origin: Origin { site: 0, node: 1 },
        alone: true,
        events: Arc::new(()),
        sink: Arc::new(NoSink),
        execution: Execution::Threads,
        on_fatal: Arc::new(|reason| panic!("{reason}")),
    };
    Node::start(options).unwrap().0
}

/// A node with people, a channel and a repository beside it.
struct Rig {
    dir: TempDir,
    runtime: Runtime,
    node: Node,
    blobs: BlobStore,
    signer: Arc<Signer>,
    owner: u64,
    channel: u64,
    sent: u64,
    /// The state hash after every record that was proposed, and when that was.
    hashes: BTreeMap<u64, (Digest, u64)>,
    files: Vec<BlobHash>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.node.stop(Duration::ZERO);
    }
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let data = dir.path().join("live");
        for folder in [dir.path().join("repository"), data.clone()] {
            std::fs::create_dir(folder).unwrap();
        }
        let node = start(&data);
        node.activate(5 << 16 | 1).unwrap();
        runtime.block_on(async { node.watch_role().wait_for(|role| *role == Role::Active).await.unwrap().to_owned() });
        let blobs = BlobStore::open(&data.join("blobs")).unwrap();
        let mut rig = Self {
            dir,
            runtime,
            node,
            blobs,
            signer: Arc::new(Signer::generate().unwrap()),
            owner: 0,
            channel: 0,
            sent: 0,
            hashes: BTreeMap::new(),
            files: Vec::new(),
        };
        rig.people();
        rig
    }

    fn people(&mut self) {
        let owner = NewUser {
            username: "anna".to_owned(),
            display_name: "Anna".to_owned(),
            role: 5,
            password_hash: "x".to_owned(),
            locale: String::new(),
            must_change_password: false,
        };
        let set_up = SetUp {
            organisation: "示例".to_owned(),
            default_locale: "en".to_owned(),
            time_zone: "UTC".to_owned(),
            owner: Some(owner),
        };
        let Reply::User(user) = self.propose(Actor::default(), Command::SetUp(set_up)) else { panic!("no user") };
        self.owner = user.id.0;
        let token_hash = Bytes::from_static(&[7; 16]);
        let session = CreateSession { user: self.owner, token_hash, device: "phone".to_owned() };
        self.propose(Actor::default(), Command::CreateSession(session));
        let create = CreateChannel { kind: 2, name: "room".to_owned(), ..CreateChannel::default() };
        let made = self.propose(Actor::user_only(UserId(self.owner)), Command::CreateChannel(create));
        let Reply::Entry { entry, .. } = made else { panic!("no channel") };
        self.channel = entry.channel.id.0;
    }

    fn propose(&mut self, actor: Actor, command: Command) -> Reply {
        let envelope = Envelope { actor: Some(actor), command: Some(command) };
        let answer = self.runtime.block_on(self.node.propose(&envelope)).unwrap();
        let (applied, hash) = self.node.projection().state_hash();
        assert_eq!(applied.index, answer.pos, "nobody else proposes");
        let at_ms = self.node.log().read_from(answer.pos).unwrap().next().unwrap().unwrap().unix_ms();
        self.hashes.insert(answer.pos, (hash.to_bytes(), at_ms));
        answer.outcome.unwrap()
    }

    fn act(&mut self, command: Command) -> Reply {
        self.propose(Actor::user_only(UserId(self.owner)), command)
    }

    fn say(&mut self, body: &str) -> u64 {
        self.sent += 1;
        let client_id = Bytes::copy_from_slice(&u128::from(self.sent).to_be_bytes());
        self.act(Command::SendMessage(SendMessage { channel: self.channel, client_id, body: body.to_owned() }));
        self.sent
    }

    fn edit(&mut self, (seq, version): (u64, u32), body: &str) {
        let body = body.to_owned();
        self.act(Command::EditMessage(EditMessage { channel: self.channel, seq, version, body }));
    }

    fn delete(&mut self, (seq, version): (u64, u32)) {
        self.act(Command::DeleteMessage(DeleteMessage { channel: self.channel, seq, version }));
    }

    fn file(&mut self, content: &[u8]) {
        self.files.push(self.blobs.put(content, 1 << 30).unwrap().hash);
    }

    fn repository(&self) -> Repository {
        let _entered = self.runtime.enter();
        Repository::new(Target::directory(&self.place()).unwrap(), false)
    }

    fn place(&self) -> PathBuf {
        self.dir.path().join("repository")
    }

    fn back_up(&self, kind: BackupKind, recipients: &[Recipient]) -> Option<Manifest> {
        let data = self.dir.path().join("live");
        let extra = self.dir.path().join("ca.pem");
        std::fs::write(&extra, "a certificate").unwrap();
        let source = Source {
            projection: self.node.projection().clone(),
            log: self.node.log().clone(),
            blobs: self.blobs.clone(),
            snapshots: data.join("snapshots"),
            scratch: self.dir.path().join("scratch"),
            facts: Facts { cluster: CLUSTER, organisation: "示例".to_owned(), site: 0, node: 1 },
            signer: self.signer.clone(),
            extras: vec![Extra { name: "tls/ca.pem".to_owned(), path: extra }],
        };
        let _entered = self.runtime.enter();
        let job = Job { kind, recipients: recipients.to_vec() };
        let watch = Watch { progress: &|_| {}, cancel: &CancellationToken::new() };
        job::run(&source, &self.repository(), &job, watch).unwrap().made.map(|made| made.manifest)
    }

    fn options(&self, moment: Moment) -> RestoreOptions {
        RestoreOptions {
            repository: self.repository(),
            keys: Vec::new(),
            signer: None,
            moment,
            destination: self.destination(),
            force: false,
        }
    }

    fn destination(&self) -> PathBuf {
        self.dir.path().join("restored")
    }

    fn restore(&self, options: &RestoreOptions) -> Result<RestoreReport, RestoreError> {
        let _entered = self.runtime.enter();
        super::restore(options, &|_| {}, &CancellationToken::new())
    }

    /// The restored directory as a server finds it; removed afterwards.
    fn open_restored(&self, look: impl FnOnce(&Node, &BlobStore)) {
        let data = self.destination();
        assert!(!data.join("restoring.json").exists());
        let node = start(&data);
        look(&node, &BlobStore::open(&data.join("blobs")).unwrap());
        node.stop(Duration::ZERO);
        std::fs::remove_dir_all(&data).unwrap();
    }

    /// Neither the destination nor anything beside it was made.
    fn assert_untouched(&self, what: &str) {
        let names: Vec<String> = std::fs::read_dir(self.dir.path())
            .unwrap()
            .map(|item| item.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("restored"))
            .collect();
        assert_eq!(names, [""; 0], "{what}");
    }
}

fn hex(digest: Digest) -> String {
    data_encoding::HEXLOWER.encode(&digest)
}

fn identity() -> (Identity, Vec<Recipient>) {
    let identity = Identity::generate();
    let recipients = vec![identity.recipient()];
    (identity, recipients)
}
