//! Backup targets against real servers: one suite over all kinds, and what goes wrong with each.

mod faults;
mod probes;
mod servers;
mod suite;
