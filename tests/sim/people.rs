//! People who write. They do what the web client does: go to the other node when one is not active or does not answer,
//! and send again what may have been lost, under the same id. Some give up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use holdfast::core::command::{Actor, Command, Envelope, SendMessage, UpdateChannel};
use holdfast::replication::net::{BoxStream, Net as _};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::desk::{NOT_ACTIVE, PORT, REFUSED, TAKEN};
use crate::oracle::ClientId;
use crate::random::Random;
use crate::scenario::Breakage;
use crate::wires::{HOSTS, WiredNet};
use crate::world::World;

/// How long somebody waits for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

struct Person {
    world: Arc<World>,
    number: usize,
    random: Random,
    net: WiredNet,
    connection: Option<BoxStream>,
    /// The node (0 or 1) that answered last.
    node: usize,
}

/// All of them.
pub(crate) async fn people(world: Arc<World>) -> turmoil::Result {
    for number in 0..world.organisation.people.len() {
        let person = Person {
            random: Random::new(world.seed, 1_000 + number as u64),
            net: WiredNet { me: 3, wires: world.wires.clone() },
            world: world.clone(),
            number,
            connection: None,
            node: 0,
        };
        tokio::task::spawn_local(person.live());
    }
    std::future::pending().await
}

impl Person {
    async fn live(mut self) {
        let mut count = 0_u64;
        loop {
            let pause = self.random.skewed(20, 1_000);
            sleep(Duration::from_millis(pause)).await;
            if self.world.quiet.load(Ordering::Relaxed) {
                continue;
            }
            count += 1;
            self.world.busy.fetch_add(1, Ordering::Relaxed);
            if self.random.chance(6) {
                self.change_topic(count).await;
            } else {
                self.write(count).await;
            }
            self.world.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn client_id(&self, count: u64) -> ClientId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(self.number as u64 + 1).to_be_bytes());
        id[8..].copy_from_slice(&count.to_be_bytes());
        id
    }

    fn envelope(&self, command: Command) -> Vec<u8> {
        let actor = Actor { user: self.world.organisation.people[self.number], session: 0, address: String::new() };
        Envelope { actor: Some(actor), command: Some(command) }.encode_to_vec()
    }

    async fn write(&mut self, count: u64) {
        let mut id = self.client_id(count);
        let words = self.random.skewed(1, 200) as usize;
        let body = format!("{} {count} {}", self.number, "word ".repeat(words));
        self.world.oracle.lock().begin(id, body.clone());
        let patient = !self.random.chance(5);
        let mut tries = 0;
        loop {
            let send = SendMessage {
                channel: self.world.organisation.channel,
                client_id: Bytes::copy_from_slice(&id),
                body: body.clone(),
            };
            let bytes = self.envelope(Command::SendMessage(send));
            self.world.oracle.lock().tried(&id);
            tries += 1;
            match self.ask(&id, &bytes).await {
                Some(TAKEN) if self.world.broken(Breakage::ResendsAsNew) && id[0] == 0 => {
                    id[0] = 1;
                    self.world.oracle.lock().begin(id, body.clone());
                }
                Some(TAKEN | REFUSED) => return,
                Some(_) | None => {}
            }
            if tries > 2 && !patient {
                return;
            }
            let pause = self.random.between(50, 400);
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// What two people change on two sides of a partition becomes a conflict.
    async fn change_topic(&mut self, count: u64) {
        let update = UpdateChannel {
            channel: self.world.organisation.channel,
            topic: Some(format!("topic {count} of {}", self.number)),
            ..UpdateChannel::default()
        };
        let bytes = self.envelope(Command::UpdateChannel(update));
        self.ask(&[0; 16], &bytes).await;
    }

    /// Asks the node that answered last. After silence, an error or a no it is the other one's turn.
    async fn ask(&mut self, id: &ClientId, bytes: &[u8]) -> Option<u8> {
        let answer = timeout(PATIENCE, self.asked(id, bytes)).await.ok().flatten();
        if answer.is_none_or(|answer| answer == NOT_ACTIVE) {
            self.connection = None;
            self.node = 1 - self.node;
        }
        answer
    }

    async fn asked(&mut self, id: &ClientId, bytes: &[u8]) -> Option<u8> {
        if self.connection.is_none() {
            let address = format!("{}:{PORT}", HOSTS[self.node]);
            self.connection = Some(self.net.connect(&address).await.ok()?);
        }
        let connection = self.connection.as_mut()?;
        let mut request = (bytes.len() as u32).to_be_bytes().to_vec();
        request.extend_from_slice(id);
        request.extend_from_slice(bytes);
        connection.write_all(&request).await.ok()?;
        connection.read_u8().await.ok()
    }
}
