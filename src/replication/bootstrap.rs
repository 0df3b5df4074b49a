//! Filling a new standby: a snapshot of the active's state, then all blobs, while the active goes on serving. Built beside
//! the node's own log and state, which stay in force until all of it is there, verified and durable; then the process
//! starts again and the new takes the place of the old in one step. What was fetched before a break is not fetched again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::context::{Context, Restart};
use super::link::{Link, LinkError};
use super::rejoin::{self, BootstrapReady};
use super::wire::{BlobMessage, Class, ListedBlob, SnapshotMessage};
use crate::blobs::{BlobError, BlobHash};
use crate::core::failover::{Epoch, Member};
use crate::core::ids::Hlc;
use crate::limits;
use crate::node::{Node, Role, now_ms};
use crate::oplog::{LogOptions, LogPosition, LogWriter};
use crate::ops::durable_file::{create_private_dir, sync_dir, write_private};
use crate::projection::snapshot::{self, Chunk, Manifest, SnapshotInfo};

/// Why a bootstrap did not come to its end this time.
#[derive(Debug)]
enum Failed {
    /// The link, or the other side.
    Link(LinkError),
    /// This side's disk, or what was fetched.
    Here(String),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Link(error) => error.fmt(f),
            Self::Here(text) => f.write_str(text),
        }
    }
}

impl From<LinkError> for Failed {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

fn here(error: impl std::fmt::Display) -> Failed {
    Failed::Here(error.to_string())
}

/// Fetches everything; on success the process is asked to start again. Returns when it has to be tried again.
pub(super) async fn fetch(context: &Arc<Context>, node: &Node, (active, epoch): (Member, Epoch)) {
    tracing::info!(active, "this node is filled from a snapshot of the active node");
    match fetch_all(context, node, (active, epoch)).await {
        Ok(()) => {
            if let Err(error) = context.restart(Restart::Bootstrapped) {
                tracing::error!(%error, "the bootstrap could not be completed");
            }
            std::future::pending().await
        }
        Err(error) => tracing::warn!(%error, "the bootstrap was interrupted; it goes on where it was"),
    }
}

async fn fetch_all(context: &Arc<Context>, node: &Node, (active, epoch): (Member, Epoch)) -> Result<(), Failed> {
    let dir = context.place.bootstrap().join("snapshots");
    create_private_dir(&dir).map_err(here)?;
    let (_, mut link) = context.dial(active, Class::Snapshot).await?;
    // Making the snapshot may take a while; the system's keepalive notices a peer that is gone.
    link.receiver().set_silence_max(Some(Duration::from_secs(limits::SNAPSHOT_WAIT_SECONDS_MAX)));
    let offered = ask(&mut link, begun(&dir)).await?;
    if offered.epoch < epoch {
        return Err(here("the snapshot offered is older than the active's epoch"));
    }
    let place = dir.join(format!("{:020}", offered.index));
    let manifest = keep_manifest(&dir, &place, &offered)?;
    fetch_chunks(context, active, (&place, &manifest)).await?;
    fetch_blobs(context, active).await?;
    let verified = place.clone();
    blocking(context, move || snapshot::verify_snapshot(&verified)).await.map_err(here)?;
    finish(context, node, &offered).map_err(here)
}

/// A snapshot that the active offers.
struct Offered {
    index: u64,
    epoch: Epoch,
    hlc: Hlc,
    chain: [u8; 32],
    manifest: Bytes,
}

async fn ask(link: &mut Link, have_index: u64) -> Result<Offered, Failed> {
    link.sender().send(&SnapshotMessage::Want { have_index }).await?;
    match link.receiver().receive().await? {
        SnapshotMessage::Is { index, epoch, hlc, chain, manifest } => {
            Ok(Offered { index, epoch, hlc, chain, manifest })
        }
        _ => Err(here("the active has no snapshot to offer")),
    }
}

/// The index of the snapshot that an earlier try began; 0 when there is none.
fn begun(dir: &Path) -> u64 {
    let newest = snapshot::list_snapshots(dir).unwrap_or_default().pop();
    newest.and_then(|dir| dir.file_name()?.to_str()?.parse().ok()).unwrap_or(0)
}

/// Puts the manifest in its place; what was fetched of other snapshots goes.
fn keep_manifest(dir: &Path, place: &Path, offered: &Offered) -> Result<Manifest, Failed> {
    for old in snapshot::list_snapshots(dir).map_err(here)? {
        if old != place {
            std::fs::remove_dir_all(&old).map_err(here)?;
        }
    }
    create_private_dir(place).map_err(here)?;
    write_private(&place.join("manifest.json"), &offered.manifest).map_err(here)?;
    let manifest = snapshot::read_manifest(place).map_err(here)?;
    let same = manifest.index == offered.index && manifest.epoch == offered.epoch.0;
    if same { Ok(manifest) } else { Err(here("the manifest is of another snapshot than was offered")) }
}

/// Fetches the chunks that are not there yet, over several links at once.
async fn fetch_chunks(
    context: &Arc<Context>,
    active: Member,
    (place, manifest): (&Path, &Manifest),
) -> Result<(), Failed> {
    let index = manifest.index;
    let missing: Vec<Chunk> =
        manifest.chunks.iter().filter(|chunk| !is_there(&place.join(&chunk.name), chunk)).cloned().collect();
    tracing::info!(index, chunks = manifest.chunks.len(), missing = missing.len(), "fetching the snapshot");
    let missing = Arc::new(missing);
    in_parallel(context, Class::Snapshot, active, {
        let (missing, place, next) = (missing.clone(), place.to_owned(), Arc::new(AtomicUsize::new(0)));
        move |context: Arc<Context>, mut link: Link| {
            let (missing, place, next) = (missing.clone(), place.clone(), next.clone());
            async move {
                while let Some(chunk) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                    fetch_chunk(&context, &mut link, (index, chunk, &place)).await?;
                }
                Ok(())
            }
        }
    })
    .await?;
    sync_dir(place).map_err(here)
}

fn is_there(path: &Path, chunk: &Chunk) -> bool {
    std::fs::read(path).is_ok_and(|bytes| fits(&bytes, chunk))
}

fn fits(bytes: &[u8], chunk: &Chunk) -> bool {
    bytes.len() as u64 == chunk.size && blake3::hash(bytes).to_hex().as_str() == chunk.blake3
}

async fn fetch_chunk(
    context: &Context,
    link: &mut Link,
    (index, chunk, place): (u64, &Chunk, &Path),
) -> Result<(), Failed> {
    link.sender().send(&SnapshotMessage::GetChunk { index, name: chunk.name.clone() }).await?;
    let SnapshotMessage::Chunk { bytes } = link.receiver().receive().await? else {
        return Err(here("the snapshot is no longer there; another one is asked for"));
    };
    if !fits(&bytes, chunk) {
        return Err(here(format!("chunk {} did not arrive as its manifest says", chunk.name)));
    }
    let path = place.join(&chunk.name);
    blocking(context, move || write_private(&path, &bytes)).await.map_err(here)
}

/// Fetches the blobs that are not there yet.
async fn fetch_blobs(context: &Arc<Context>, active: Member) -> Result<(), Failed> {
    let (_, mut link) = context.dial(active, Class::Blob).await?;
    let (mut missing, mut after) = (Vec::new(), None);
    loop {
        link.sender().send(&BlobMessage::List { after, max: limits::BLOB_LIST_MAX }).await?;
        let BlobMessage::Blobs(page) = link.receiver().receive().await? else { continue };
        let Some(last) = page.last() else { break };
        after = Some(last.hash);
        for blob in page {
            if context.blobs.bytes(&blob.hash).map_err(here)? != Some(blob.size) {
                missing.push(blob);
            }
        }
    }
    drop(link);
    if missing.is_empty() {
        return Ok(());
    }
    tracing::info!(missing = missing.len(), "fetching blobs");
    let (missing, next) = (Arc::new(missing), Arc::new(AtomicUsize::new(0)));
    in_parallel(context, Class::Blob, active, move |context: Arc<Context>, mut link: Link| {
        let (missing, next) = (missing.clone(), next.clone());
        async move {
            while let Some(blob) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                fetch_blob(&context, &mut link, *blob).await?;
            }
            Ok(())
        }
    })
    .await
}

async fn fetch_blob(context: &Context, link: &mut Link, blob: ListedBlob) -> Result<(), Failed> {
    link.sender().send(&BlobMessage::Get { hash: blob.hash, offset: 0 }).await?;
    let mut writer = context.blobs.writer(blob.size).map_err(here)?;
    let mut expected = 0;
    loop {
        match link.receiver().receive().await? {
            BlobMessage::Part { offset, bytes, last } if offset == expected => {
                expected += bytes.len() as u64;
                writer.write(&bytes).map_err(here)?;
                if last {
                    break;
                }
            }
            // It was removed there meanwhile: nothing refers to it any more.
            BlobMessage::Unknown { .. } => return Ok(()),
            _ => return Err(here("a blob did not arrive in order")),
        }
    }
    let stored = blocking(context, move || writer.finish()).await.map_err(here)?;
    if stored.hash == blob.hash {
        return Ok(());
    }
    context.blobs.remove(&stored.hash).map_err(here)?;
    Err(here(format!("blob {} arrived with another content", blob.hash)))
}

/// Does one kind of work over several links to the active; the first failure ends it.
async fn in_parallel<F, W>(context: &Arc<Context>, class: Class, active: Member, work: W) -> Result<(), Failed>
where
    W: Fn(Arc<Context>, Link) -> F,
    F: Future<Output = Result<(), Failed>> + Send + 'static,
{
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..limits::BOOTSTRAP_LINKS {
        let (_, link) = context.dial(active, class).await?;
        running.spawn(work(context.clone(), link));
    }
    while let Some(ended) = running.join_next().await {
        ended.map_err(here)??;
    }
    Ok(())
}

/// Makes the empty log that goes on behind the snapshot, and the mark that everything is there.
fn finish(context: &Context, node: &Node, offered: &Offered) -> std::io::Result<()> {
    let mut options = LogOptions::new(context.place.bootstrap().join("log"), context.place.cluster);
    if let Some(bytes) = context.place.segment_bytes() {
        options.segment_bytes = bytes;
    }
    if options.dir.is_dir() {
        std::fs::remove_dir_all(&options.dir)?;
    }
    let before = LogPosition { index: offered.index, epoch: offered.epoch.0, hlc: offered.hlc, chain: offered.chain };
    drop(LogWriter::create_after(options, before).map_err(std::io::Error::other)?);
    let archive_from = context.archive_from.lock().filter(|_| node.log().last_durable_index() > 0);
    sync_dir(&context.place.bootstrap())?;
    rejoin::write_json(&context.place.bootstrap_ready(), &BootstrapReady { index: offered.index, archive_from })
}

/// Runs what waits for the disk where it does not hold up heartbeats.
pub(super) async fn blocking<T: Send + 'static>(context: &Context, work: impl FnOnce() -> T + Send + 'static) -> T {
    if context.place.segment_bytes().is_some() {
        return work(); // a simulation: everything happens in one order
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// The active's side: offers a snapshot of its epoch, makes one if there is none, hands out its files.
pub(super) async fn serve_snapshots(context: &Arc<Context>, node: &Node, mut link: Link) -> Result<(), LinkError> {
    loop {
        let answer = match link.receiver().receive().await? {
            SnapshotMessage::Want { have_index } => offer(context, node, have_index).await,
            SnapshotMessage::GetChunk { index, name } => chunk(context, index, name).await,
            _ => continue,
        };
        link.sender().send(&answer).await?;
    }
}

async fn offer(context: &Arc<Context>, node: &Node, have_index: u64) -> SnapshotMessage {
    let Some(epoch) = context.active_epoch.get() else { return SnapshotMessage::Gone };
    if node.role() != Role::Active {
        return SnapshotMessage::Gone; // its first record is not committed yet
    }
    let making = context.snapshots.lock().await;
    let (snapshots, site) = (context.place.data.join("snapshots"), context.place.origin.site);
    let node = node.clone();
    let made = blocking(context, move || {
        // One of this epoch has this epoch's first record in it: the follower needs that.
        let usable = |dir: &PathBuf| snapshot::read_manifest(dir).is_ok_and(|it| it.epoch == epoch.0);
        let wanted = snapshots.join(format!("{have_index:020}"));
        if have_index > 0 && usable(&wanted) {
            return offer_of(&node, &wanted);
        }
        make(&node, &snapshots, site).and_then(|dir| offer_of(&node, &dir))
    })
    .await;
    drop(making);
    made.unwrap_or_else(|error| {
        tracing::error!(error, "no snapshot can be made for the standby");
        SnapshotMessage::Gone
    })
}

/// Makes a snapshot of the state as it is. Entries go on being applied meanwhile.
fn make(node: &Node, snapshots: &Path, site: u16) -> Result<PathBuf, String> {
    let started = now_ms();
    let projection = node.projection();
    projection.checkpoint().map_err(|e| e.to_string())?;
    let hold = projection.hold_checkpoints();
    let index = hold.stored().index;
    let chain = node.log().position_at(index).map_err(|e| e.to_string())?.chain;
    let dir =
        snapshot::write_snapshot(&hold, snapshots, SnapshotInfo { site, chain }, |_| {}).map_err(|e| e.to_string())?;
    tracing::info!(index, milliseconds = now_ms().saturating_sub(started), "a snapshot was made for the standby");
    Ok(dir)
}

fn offer_of(node: &Node, dir: &Path) -> Result<SnapshotMessage, String> {
    let manifest = snapshot::read_manifest(dir).map_err(|e| e.to_string())?;
    let bytes = std::fs::read(dir.join("manifest.json")).map_err(|e| e.to_string())?;
    let at = node.log().position_at(manifest.index).map_err(|e| e.to_string())?;
    let hlc = node.log().last_position().hlc; // not below the clock at the snapshot: enough to go on from
    Ok(SnapshotMessage::Is {
        index: manifest.index,
        epoch: Epoch(manifest.epoch),
        hlc,
        chain: at.chain,
        manifest: bytes.into(),
    })
}

async fn chunk(context: &Context, index: u64, name: String) -> SnapshotMessage {
    let path = context.place.data.join("snapshots").join(format!("{index:020}")).join(name);
    let read = blocking(context, move || std::fs::read(path)).await;
    read.map_or(SnapshotMessage::Gone, |bytes| SnapshotMessage::Chunk { bytes: bytes.into() })
}

/// Lists blobs and hands them out.
pub(super) async fn serve_blobs(context: &Arc<Context>, mut link: Link) -> Result<(), LinkError> {
    loop {
        match link.receiver().receive().await? {
            BlobMessage::List { after, max } => {
                let page = list(context, after, max).unwrap_or_else(|error| {
                    tracing::error!(%error, "the blobs cannot be listed");
                    Vec::new()
                });
                link.sender().send(&BlobMessage::Blobs(page)).await?;
            }
            BlobMessage::Get { hash, offset } => send_blob(context, &mut link, (hash, offset)).await?,
            _ => {}
        }
    }
}

fn list(context: &Context, after: Option<BlobHash>, max: u32) -> Result<Vec<ListedBlob>, BlobError> {
    let max = max.min(limits::BLOB_LIST_MAX) as usize;
    let mut page = Vec::new();
    context.blobs.list(&mut |blob| {
        if page.len() < max && after.is_none_or(|after| blob.hash > after) {
            page.push(ListedBlob { hash: blob.hash, size: blob.bytes });
        }
    })?;
    Ok(page)
}

async fn send_blob(context: &Context, link: &mut Link, (hash, from): (BlobHash, u64)) -> Result<(), LinkError> {
    use std::os::unix::fs::FileExt as _;
    let blobs = context.blobs.clone();
    // Checked against its name before a byte of it goes out.
    let Ok(reader) = blocking(context, move || blobs.get(&hash)).await else {
        return link.sender().send(&BlobMessage::Unknown { hash }).await;
    };
    let (bytes, file) = (reader.len_bytes(), Arc::new(reader.into_file()));
    let mut offset = from.min(bytes);
    loop {
        let count = (bytes - offset).min(limits::BLOB_PART_BYTES as u64);
        let file = file.clone();
        let read = blocking(context, move || {
            let mut part = vec![0; count as usize];
            file.read_exact_at(&mut part, offset).map(|()| part)
        });
        let part = read.await.map_err(LinkError::Io)?;
        let last = offset + count == bytes;
        link.sender().send(&BlobMessage::Part { offset, bytes: part.into(), last }).await?;
        if last {
            return Ok(());
        }
        offset += count;
    }
}
