//! Kill, damage, start, compare, work; again and again.

use std::rc::Rc;
use std::time::{Duration, Instant};

use holdfast::bench::client::Endpoint;
use holdfast::bench::text::Picker;
use rustix::process::Signal;

use crate::check::{Extent, check_output};
use crate::havoc::wreak;
use crate::oracle::Oracle;
use crate::process::Server;
use crate::rebuild;
use crate::world::{Load, World, on_one_thread};

/// Rounds unless `HOLDFAST_CRASH_ROUNDS` says otherwise.
const ROUNDS: usize = 200;
/// Rounds on one data directory: beyond it, replaying and comparing everything would take most of the time.
const ROUNDS_OF_ONE_WORLD: usize = 50;
/// The same in a long run, so that logs get longer too.
const ROUNDS_OF_ONE_WORLD_LONG: usize = 200;
/// After so many rounds everything is compared, not only what is new.
const FULL_CHECK_EVERY: usize = 25;
/// After so many rounds each frame of the log is verified.
const VERIFY_EVERY: usize = 5;
/// Starts that may fail because the store below the state finds damage only while it works: the next one rebuilds it.
const STARTS_MAX: usize = 3;
/// So often a life is long enough for a checkpoint.
const LONG_LIFE_EVERY: usize = 30;
/// What the server says when it makes its state anew.
const REBUILT: &str = "the state is rebuilt from";
/// The time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(holdfast::limits::CHECKPOINT_EVERY_MS);

/// How a life of the server ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Killed after this time of work.
    Kill(Duration),
    /// Killed this long after SIGTERM, or as soon as its last checkpoint is in steps.
    KillWhileStopping(Duration, Duration),
    /// Killed this long after its first checkpoint became due, or as soon as that is in steps.
    KillInCheckpoint(Duration),
    /// Stopped.
    Stop(Duration),
}

impl End {
    fn pick(picker: &mut Picker, round: usize) -> Self {
        let ms = |picker: &mut Picker, from: usize, to: usize| {
            Duration::from_millis((from + picker.below(to - from)) as u64)
        };
        let load = ms(picker, 50, 300);
        if round.is_multiple_of(LONG_LIFE_EVERY) {
            return Self::KillInCheckpoint(ms(picker, 0, 450));
        }
        match picker.below(100) {
            0..=71 => Self::Kill(load),
            72..=94 => Self::KillWhileStopping(load, ms(picker, 0, 150)),
            _ => Self::Stop(load),
        }
    }
}

/// A server and where it listens.
type Running = (Server, Rc<Endpoint>);

/// What the rounds did, for people.
#[derive(Debug, Default)]
struct Tally {
    killed_at_start: usize,
    killed_at_work: usize,
    killed_while_stopping: usize,
    killed_in_checkpoint: usize,
    /// Kills that left a checkpoint unfinished, wherever they fell.
    checkpoints_cut: usize,
    stopped: usize,
    rebuilt: usize,
    ended_by_itself: usize,
    tails_cut: usize,
    resumed: u64,
    messages: usize,
    answers: usize,
    starting: Duration,
    comparing: Duration,
    working: Duration,
}

impl Tally {
    /// Everything that the rounds are meant to do was done.
    fn assert_full(&self) {
        let kills = [self.killed_at_start, self.killed_at_work, self.killed_while_stopping, self.killed_in_checkpoint];
        let seen = [self.stopped, self.rebuilt, self.tails_cut, self.messages, self.answers];
        assert!(kills.iter().chain(&seen).all(|count| *count > 0) && self.resumed > 0, "{self:?}");
    }
}

struct Run {
    picker: Picker,
    tally: Tally,
    /// How long starts take here: kills at start fall into that time.
    usual_start: Duration,
    /// The state's files were changed in place and not made anew since: damage may lie where nobody has read yet.
    damaged: bool,
}

fn number_from(name: &str) -> Option<u64> {
    // `make crash` hands on an empty one when none is given.
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

#[test]
fn rounds_of_kills_lose_nothing_and_double_nothing() {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    let seed = number_from("HOLDFAST_CRASH_SEED").unwrap_or(clock.as_millis() as u64 % 1_000_000);
    let rounds = number_from("HOLDFAST_CRASH_ROUNDS").map_or(ROUNDS, |rounds| rounds as usize);
    println!("HOLDFAST_CRASH_SEED={seed} HOLDFAST_CRASH_ROUNDS={rounds}");
    let started = Instant::now();
    let mut run = Run {
        picker: Picker::new(seed),
        tally: Tally::default(),
        usual_start: Duration::from_millis(200),
        damaged: false,
    };
    let mut left = rounds;
    while left > 0 {
        let now = left.min(if rounds > ROUNDS { ROUNDS_OF_ONE_WORLD_LONG } else { ROUNDS_OF_ONE_WORLD });
        on_one_thread(run.world(now));
        left -= now;
        println!("{} of {rounds} rounds after {:?}: {:?}", rounds - left, started.elapsed(), run.tally);
    }
    if rounds >= ROUNDS {
        run.tally.assert_full();
    }
}

impl Run {
    /// Some rounds on one data directory, and the comparison of everything at their end.
    async fn world(&mut self, rounds: usize) {
        let (world, server, _) = World::new().await;
        check_output(&server.kill(), false);
        for round in 1..=rounds {
            self.before_start(&world, round).await;
            let began = Instant::now();
            let running = self.start(&world).await;
            self.tally.starting += began.elapsed();
            let extent = if round.is_multiple_of(FULL_CHECK_EVERY) { Extent::All } else { Extent::New };
            let began = Instant::now();
            let (server, endpoint) = self.checked(&world, running, extent).await;
            self.tally.comparing += began.elapsed();
            let began = Instant::now();
            let crew = world.put_to_work(&endpoint, self.load());
            let printed = self.end(&world, server, round).await;
            let outcome = crew.join().await;
            self.tally.working += began.elapsed();
            self.tally.answers += outcome.ended.iter().map(|ended| ended.answers).sum::<usize>();
            self.tally.checkpoints_cut += usize::from(world.data().join("state/redo").exists());
            self.note(&printed);
            if round.is_multiple_of(VERIFY_EVERY) {
                world.verify_log();
            }
        }
        if std::mem::take(&mut self.damaged) {
            std::fs::remove_dir_all(world.data().join("state")).expect("state/ is deleted");
        }
        self.finish(&world).await;
    }

    fn load(&mut self) -> Load {
        let gap = Duration::from_millis([0, 3, 10, 30][self.picker.below(4)]);
        Load { gap, quota: 10 + self.picker.below(60), seed: self.picker.next() }
    }

    /// Damages something, and sometimes kills a server that is only starting.
    async fn before_start(&mut self, world: &World, round: usize) {
        let mut done = self.wreak(world);
        while self.picker.below(100) < 20 {
            let server = Server::spawn(world.scratch());
            let share = self.picker.below(130) as u32;
            tokio::time::sleep(self.usual_start * share / 100).await;
            self.note(&server.kill());
            self.tally.killed_at_start += 1;
            done = format!("{done}; killed at start; {}", self.wreak(world));
        }
        println!("round {round}: {done}");
    }

    fn wreak(&mut self, world: &World) -> String {
        let havoc = wreak(&world.data(), &mut self.picker);
        self.damaged = (self.damaged && !havoc.removes_state) || havoc.damages_state;
        havoc.what
    }

    /// Starts the server. It may end by itself only when the state's files were damaged, and then not again and again.
    async fn start(&mut self, world: &World) -> Running {
        for _ in 0..STARTS_MAX {
            let mut server = Server::spawn(world.scratch());
            match server.ready().await {
                Ok(endpoint) => {
                    self.usual_start = (self.usual_start * 3 + server.started().elapsed()) / 4;
                    return (server, endpoint);
                }
                Err(not_ready) => {
                    let (status, output) = (not_ready.status, not_ready.output);
                    assert!(self.damaged, "the server did not start ({status:?}):\n{output}");
                    assert_eq!(status.and_then(|status| status.code()), Some(70), "how it ended:\n{output}");
                    self.note(&output);
                    self.tally.ended_by_itself += 1;
                }
            }
        }
        panic!("the server does not start any more on a damaged state:\n{}", printed(world));
    }

    /// Compares; starts again when a damaged state stopped the server meanwhile.
    async fn checked(&mut self, world: &World, running: Running, extent: Extent) -> Running {
        let mut running = running;
        for _ in 0..STARTS_MAX {
            let Err(error) = world.check(&running.1, extent).await else { return running };
            let status = running.0.wait(Duration::from_secs(10)).await;
            let output = running.0.printed();
            assert!(self.damaged, "the server could not be asked: {error}; it ended with {status:?}:\n{output}");
            assert_eq!(status.and_then(|status| status.code()), Some(70), "after {error}:\n{output}");
            self.note(&output);
            self.tally.ended_by_itself += 1;
            running = self.start(world).await;
        }
        panic!("the server ends again and again on a damaged state:\n{}", running.0.printed());
    }

    /// Lets everybody work for a while, then ends the server. Gives what it printed.
    async fn end(&mut self, world: &World, server: Server, round: usize) -> String {
        match End::pick(&mut self.picker, round) {
            End::Kill(load) => {
                tokio::time::sleep(load).await;
                self.tally.killed_at_work += 1;
                kill(server, self.damaged)
            }
            End::KillWhileStopping(load, delay) => {
                tokio::time::sleep(load).await;
                server.signal(Signal::TERM);
                checkpoint_in_steps(world, Instant::now() + delay).await;
                self.tally.killed_while_stopping += 1;
                kill(server, true)
            }
            End::KillInCheckpoint(delay) => {
                checkpoint_in_steps(world, server.started() + CHECKPOINT_EVERY + delay).await;
                self.tally.killed_in_checkpoint += 1;
                kill(server, self.damaged)
            }
            End::Stop(load) => {
                tokio::time::sleep(load).await;
                self.tally.stopped += 1;
                if self.damaged { kill(server, true) } else { server.terminate().await }
            }
        }
    }

    fn note(&mut self, printed: &str) {
        check_output(printed, self.damaged);
        self.tally.tails_cut += usize::from(printed.contains("a torn tail was cut"));
        if printed.contains(REBUILT) {
            self.tally.rebuilt += 1;
            self.damaged = false;
        }
    }

    /// Sends again what nobody knows the fate of, compares everything, and rebuilds the state from the log.
    async fn finish(&mut self, world: &World) {
        let (server, endpoint) = Server::start(world.scratch()).await;
        world.check(&endpoint, Extent::All).await.expect("the server answers");
        let crew = world.put_to_work(&endpoint, Load { gap: Duration::ZERO, quota: 0, seed: 1 });
        let deadline = Instant::now() + Duration::from_secs(30);
        while !world.oracle.borrow().unknown.is_empty() {
            assert!(Instant::now() < deadline, "some messages are not acknowledged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.check(&endpoint, Extent::All).await.expect("the server answers");
        world.oracle.borrow().finish();
        let printed = server.terminate().await;
        check_output(&printed, false);
        let outcome = crew.join().await;
        assert!(outcome.ended.iter().all(|ended| ended.close_code == Some(4008)), "{:?}", outcome.ended);
        world.verify_log_by_command();
        rebuild::compare(&world.data());
        self.tally.messages += world.oracle.borrow().messages.len();
        self.tally.resumed += world.users.iter().map(|user| user.feed.borrow().resumed).sum::<u64>();
        assert_busy(&world.oracle.borrow());
    }
}

/// The rounds were worth something: each kind of thing happened.
fn assert_busy(oracle: &Oracle) {
    let edited = oracle.messages.iter().filter(|message| message.content.version > 1).count();
    let deleted = oracle.messages.iter().filter(|message| message.content.deleted).count();
    println!("{} messages, {edited} of them changed, {deleted} deleted", oracle.messages.len());
    assert!(oracle.messages.len() > 10 && oracle.channels.iter().all(|channel| !channel.found.is_empty()));
}

/// Waits for a checkpoint that is applied in steps (only large ones are), or until `give_up`.
async fn checkpoint_in_steps(world: &World, give_up: Instant) {
    let redo = world.data().join("state/redo");
    while Instant::now() < give_up && !redo.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Kills it. It must have run until now, unless it runs on a damaged state or was told to stop.
fn kill(mut server: Server, may_have_ended: bool) -> String {
    let status = server.ended();
    assert!(may_have_ended || status.is_none(), "the server ended by itself ({status:?}):\n{}", server.printed());
    server.kill()
}

fn printed(world: &World) -> String {
    std::fs::read_to_string(world.scratch().join("server.log")).unwrap_or_default()
}
