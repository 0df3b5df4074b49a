//! Forwarders between the members of a pair, so that one member can be cut off without the right to change the network.
//!
//! Each member tells the others the address of its forwarder. While a member is cut off, its links stand still in both
//! directions, as in a network that lost its packets: what was under way arrives when it is whole again. New connections
//! to it are refused, and those that it opens are closed at once; whose they are is read from the kernel's tables.
//!
//! Must never drop or change a byte of a link that goes on.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::error::BenchError;
use crate::limits::{BENCH_FORWARD_BYTES, BENCH_OWNER_TRIES_MAX, BENCH_POLL_MS, BENCH_PORT_TRIES_MAX};

/// A member's number among those that are forwarded to.
pub type MemberIndex = usize;

/// Who is cut off, if anyone, and the process of each member.
#[derive(Debug)]
pub struct Cut {
    who: watch::Sender<Option<MemberIndex>>,
    pids: RefCell<Vec<Option<u32>>>,
}

impl Cut {
    /// Nobody is cut off; `members` members whose processes are not known yet.
    #[must_use]
    pub fn new(members: usize) -> Rc<Self> {
        Rc::new(Self { who: watch::channel(None).0, pids: RefCell::new(vec![None; members]) })
    }

    /// How many members there are. Of two, neither reaches the other when one is cut off.
    fn members(&self) -> usize {
        self.pids.borrow().len()
    }

    /// A member's process is this from now on.
    pub fn is_process(&self, member: MemberIndex, pid: u32) {
        if let Some(known) = self.pids.borrow_mut().get_mut(member) {
            *known = Some(pid);
        }
    }

    /// Cuts a member off.
    pub fn off(&self, member: MemberIndex) {
        self.who.send_replace(Some(member));
    }

    /// Makes everything whole again.
    pub fn heal(&self) {
        self.who.send_replace(None);
    }

    /// Whose process has the local end `address` of a connection. The kernel's table moves while it is read, so an entry
    /// may be missed once, but not again and again.
    fn owner(&self, address: SocketAddr) -> Option<MemberIndex> {
        (0..BENCH_OWNER_TRIES_MAX).find_map(|_| self.owner_now(address))
    }

    fn owner_now(&self, address: SocketAddr) -> Option<MemberIndex> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let socket = format!("socket:[{}]", inode(&table, address)?);
        let has = |pid: u32| {
            let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            files.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|to| to == Path::new(&socket)))
        };
        self.pids.borrow().iter().position(|pid| pid.is_some_and(has))
    }
}

/// The inode of the socket with this IPv4 local address in the text of `/proc/net/tcp` (proc_net_tcp(5)).
fn inode(table: &str, address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(address) = address else { return None };
    // The address is a number of the machine's byte order.
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port());
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next()? == local).then(|| fields.nth(7)?.parse().ok())?
    })
}

/// Listens for one member and hands its links on. Ends when this is dropped.
#[derive(Debug)]
pub struct Forwarder {
    /// Where the others connect.
    pub address: SocketAddr,
    _task: JoinSet<()>,
}

impl Forwarder {
    /// Forwards from `address` to the member, which listens on `to`. Must be called on a `LocalSet`.
    ///
    /// # Errors
    /// The address is taken.
    pub async fn start(
        address: SocketAddr,
        to: SocketAddr,
        member: MemberIndex,
        cut: Rc<Cut>,
    ) -> Result<Self, BenchError> {
        let listener = bind(address).await?;
        let address = listener.local_addr().map_err(|error| BenchError::io("listen", &error))?;
        let mut task = JoinSet::new();
        task.spawn_local(accept(listener, (address, to), member, cut));
        Ok(Self { address, _task: task })
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, BenchError> {
    TcpListener::bind(address).await.map_err(|error| BenchError::io(format!("listen on {address}"), &error))
}

async fn accept(listener: TcpListener, (own, to): (SocketAddr, SocketAddr), member: MemberIndex, cut: Rc<Cut>) {
    let mut listener = Some(listener);
    let mut who = cut.who.subscribe();
    let mut links = JoinSet::new();
    loop {
        let cut_off = *who.borrow_and_update();
        let closed = cut_off == Some(member) || (cut_off.is_some() && cut.members() == 2);
        if closed {
            listener = None;
        } else if listener.is_none() {
            listener = bind(own).await.ok();
        }
        tokio::select! {
            changed = who.changed() => if changed.is_err() { return },
            // Taken by somebody else for a moment: again soon.
            () = tokio::time::sleep(Duration::from_millis(BENCH_POLL_MS)), if listener.is_none() && !closed => {}
            accepted = accepted(listener.as_ref()), if listener.is_some() => {
                if let Some((stream, from)) = accepted {
                    let owner = cut.owner(from);
                    if cut_off.is_none() || (owner.is_some() && owner != cut_off) {
                        links.spawn_local(forward(stream, to, [Some(member), owner], cut.who.subscribe()));
                    }
                }
            }
            Some(_) = links.join_next() => {}
        }
    }
}

async fn accepted(listener: Option<&TcpListener>) -> Option<(TcpStream, SocketAddr)> {
    listener?.accept().await.ok()
}

/// One link, between the two members `ends`. One whose opener is not known (a command that joins, which ends soon) is
/// closed by any cut, as it may cross it.
async fn forward(
    from: TcpStream,
    to: SocketAddr,
    ends: [Option<MemberIndex>; 2],
    who: watch::Receiver<Option<MemberIndex>>,
) {
    // The member does not listen: the other end sees the connection closed.
    let Ok(to) = TcpStream::connect(to).await else { return };
    let _ = (from.set_nodelay(true), to.set_nodelay(true));
    let ((from_in, from_out), (to_in, to_out)) = (from.into_split(), to.into_split());
    tokio::join!(pump(from_in, to_out, ends, who.clone()), pump(to_in, from_out, ends, who));
}

/// One direction of a link, until its source ends; then the end is handed on.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    ends: [Option<MemberIndex>; 2],
    mut who: watch::Receiver<Option<MemberIndex>>,
) {
    let mut buffer = vec![0; BENCH_FORWARD_BYTES];
    loop {
        let read = from.read(&mut buffer).await;
        if ends.contains(&None) && who.borrow().is_some() {
            return;
        }
        // What is under way while the link is cut waits here, also the news that an end closed it.
        let whole = who.wait_for(|cut_off| cut_off.is_none() || !ends.contains(cut_off)).await;
        match read {
            Ok(count) if count > 0 && whole.is_ok() => {
                drop(whole);
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            _ => {
                drop(whole);
                let _ = to.shutdown().await;
                return;
            }
        }
    }
}

/// A port on loopback that nobody uses, below those that the system gives to outgoing connections: so it is still free
/// when a member that was killed wants it again.
///
/// # Errors
/// There is none.
pub fn free_port(taken: &Cell<u16>) -> Result<u16, BenchError> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first_outgoing = range.split_ascii_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(32_768_u16);
    let top = first_outgoing.max(20_000);
    for _ in 0..BENCH_PORT_TRIES_MAX {
        // Downwards from a random place, so that two runs at the same time seldom meet.
        let port = match taken.get() {
            0 => top - 1 - (uuid::Uuid::new_v4().as_u128() % 8_000) as u16,
            last => last - 1,
        };
        taken.set(port);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err(BenchError::options(format!("no free port found below {top} on 127.0.0.1")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    async fn echo(listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    }

    async fn round_trip(stream: &mut TcpStream, text: &[u8]) {
        stream.write_all(text).await.unwrap();
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, text);
    }

    #[tokio::test]
    async fn a_cut_link_stands_still_and_goes_on_and_new_ones_are_refused() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let member = TcpListener::bind(LOOPBACK).await.unwrap();
                let to = member.local_addr().unwrap();
                tokio::task::spawn_local(echo(member));
                let cut = Cut::new(2);
                cut.is_process(1, std::process::id());
                let forwarder = Forwarder::start(LOOPBACK, to, 0, cut.clone()).await.unwrap();
                let mut link = TcpStream::connect(forwarder.address).await.unwrap();
                round_trip(&mut link, b"hello").await;
                cut.off(0);
                link.write_all(b"late").await.unwrap();
                let patience = Duration::from_millis(100);
                assert!(tokio::time::timeout(patience, link.read_u8()).await.is_err(), "nothing passes");
                assert!(TcpStream::connect(forwarder.address).await.is_err(), "nobody gets in");
                cut.heal();
                let mut back = [0; 4];
                link.read_exact(&mut back).await.unwrap();
                assert_eq!(&back, b"late", "what was under way arrives");
                let deadline = std::time::Instant::now() + Duration::from_secs(10);
                let mut again = loop {
                    match TcpStream::connect(forwarder.address).await {
                        Ok(stream) => break stream,
                        Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
                    }
                };
                round_trip(&mut again, b"again").await;
            })
            .await;
    }

    #[tokio::test]
    async fn what_a_cut_off_member_opens_itself_is_closed_and_others_pass() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let member = TcpListener::bind(LOOPBACK).await.unwrap();
                let to = member.local_addr().unwrap();
                tokio::task::spawn_local(echo(member));
                let cut = Cut::new(3);
                cut.is_process(1, std::process::id());
                let forwarder = Forwarder::start(LOOPBACK, to, 0, cut.clone()).await.unwrap();
                cut.off(2);
                let mut other = TcpStream::connect(forwarder.address).await.unwrap();
                round_trip(&mut other, b"the other two still talk").await;
                cut.off(1);
                let mut own = TcpStream::connect(forwarder.address).await.unwrap();
                assert!(matches!(own.read(&mut [0; 1]).await, Ok(0) | Err(_)));
            })
            .await;
    }

    #[test]
    fn the_kernels_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                     \x20  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n";
        assert_eq!(inode(table, "127.0.0.1:8080".parse().unwrap()), Some(4711));
        assert_eq!(inode(table, "127.0.0.1:8081".parse().unwrap()), None);
        let taken = Cell::new(0);
        let (one, two) = (free_port(&taken).unwrap(), free_port(&taken).unwrap());
        assert!(one > two && two > 1_024);
    }
}
