//! Running the program: data directory, lock, logging, metrics, disk watch, background workers, doctor.
//! Must never take part in a write: nothing here may delay or lose a command.

pub mod datadir;
pub mod disk;
pub mod doctor;

pub mod durable_file;
pub mod limits;
pub mod lockfile;
pub mod logging;
pub mod metrics;
pub mod request_id;
pub mod workers;
