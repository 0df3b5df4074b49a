//! The pair on a simulated network and clock: seeded, replayable.
//!
//! The program's own code runs in it, from the links up to the node: only the network, the clocks and the disk's durability
//! are simulated (what is written counts as durable). `HOLDFAST_SIM_SEED=n` runs one seed and prints its trace,
//! `HOLDFAST_SIM_SEEDS=n` so many of each scenario; `make sim SEEDS=n`. The state's checkpoint threads are the only
//! threads beside the one of a run; nothing of what they do comes back into it.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say why on stderr")]

mod breakage;
mod clock;
mod desk;
mod faults;
mod founding;
mod invariants;
mod links;
mod members;
mod net;
mod oracle;
mod people;
mod random;
mod run;
mod scenario;
mod scenarios;
mod wires;
mod world;
