//! Crash tests on the real binary, over its public interfaces, under real load.
//!
//! An oracle notes what the server acknowledged; the server is killed at random moments, its state is damaged in
//! between, and after each restart the oracle compares: what was acknowledged is there exactly once, where and as it
//! was said; what was not is there at most once, and sending it again with the same client id makes it exactly once.
//!
//! What happens follows from a seed, which is printed; the moments within a run also depend on the machine, so a seed
//! repeats the plan, not each instruction. To set them:
//!
//! - `HOLDFAST_CRASH_SEED=n`: the seed (default: from the clock).
//! - `HOLDFAST_CRASH_ROUNDS=n`: how often the server is killed (default 200). `make crash ROUNDS=5000` takes some hours.
//!   From time to time a new data directory is begun, so that a round stays short.
//! - `HOLDFAST_CRASH_KEEP=1`: a failed round leaves its data directory behind and says where.
//!
//! Must never use anything but the public interfaces to find out what the server holds, and never give it the benefit
//! of the doubt. It writes into a data directory only while no server runs on it.

#![expect(clippy::print_stdout, reason = "a failed run is only of use with its seed and what was done")]

mod check;
mod client;
mod first_start;
mod havoc;
mod log_damage;
mod oracle;
mod process;
mod rebuild;
mod rounds;
mod signals;
mod world;
