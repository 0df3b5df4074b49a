//! A backup of a server that is stopped, made by the program's own jobs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use holdfast::backup::Watch;
use holdfast::backup::job::{self, Facts, Job, Source};
use holdfast::backup::manifest::{BackupKind, Manifest, Signer};
use holdfast::backup::repository::Repository;
use holdfast::backup::target::Target;
use holdfast::blobs::BlobStore;
use holdfast::core::entry::Origin;
use holdfast::node::{EventSink, Execution, Node, NodeOptions, Published};
use holdfast::ops::datadir;
use tokio_util::sync::CancellationToken;

struct NoSink;

impl EventSink for NoSink {
    fn start_from(&self, _pos: u64) {}
    fn publish(&self, _events: &[Published], _pos: u64, _wakes: &mut Vec<std::task::Waker>) {}
}

/// Makes a full backup of the data directory `data` into the folder `repository`. No server runs on it.
pub(crate) async fn back_up(data: &Path, repository: &Path) -> Manifest {
    let (data, repository) = (data.to_owned(), repository.to_owned());
    tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&repository).unwrap();
        let identity = datadir::read_identity(&data).unwrap();
        let cluster = identity.cluster_id_bytes().unwrap();
        let options = NodeOptions {
            data: data.clone(),
            cluster,
            origin: Origin { site: identity.site, node: identity.node },
            alone: true,
            events: Arc::new(()),
            sink: Arc::new(NoSink),
            execution: Execution::Threads,
            on_fatal: Arc::new(|reason| panic!("{reason}")),
        };
        let (node, _) = Node::start(options).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let source = Source {
            projection: node.projection().clone(),
            log: node.log().clone(),
            blobs: BlobStore::open(&data.join("blobs")).unwrap(),
            snapshots: data.join("snapshots"),
            scratch: scratch.path().to_owned(),
            facts: Facts { cluster, organisation: "Acme".to_owned(), site: 0, node: identity.node },
            signer: Arc::new(Signer::generate().unwrap()),
            extras: Vec::new(),
        };
        let target = Repository::new(Target::directory(&repository).unwrap(), false);
        let job = Job { kind: BackupKind::Full, recipients: Vec::new() };
        let watch = Watch { progress: &|_| {}, cancel: &CancellationToken::new() };
        let made = job::run(&source, &target, &job, watch).unwrap().made.unwrap();
        node.stop(Duration::ZERO);
        made.manifest
    })
    .await
    .unwrap()
}
