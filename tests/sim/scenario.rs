//! What a run is made of.

/// One run, but for its seed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scenario {
    /// Its name, for people and for the stream of chance.
    pub(crate) name: &'static str,
    /// A witness votes.
    pub(crate) witness: bool,
    /// The second node joins while node 1 serves, and has to be filled from a snapshot.
    pub(crate) join: bool,
    /// Planned switchovers at random.
    pub(crate) switchovers: bool,
    /// `promote --force` at random: promises less.
    pub(crate) force: bool,
    /// The network never fails; machines do.
    pub(crate) network_holds: bool,
    /// How long faults happen, in milliseconds.
    pub(crate) faults_ms: u64,
    /// What is broken on purpose.
    pub(crate) breakage: Option<Breakage>,
}

/// A defect that the checks must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Breakage {
    /// A node answers as soon as the record is on its own disk.
    AcksBeforeTheStandby,
    /// A node's disk forgets the last records that it had said were durable when it crashes.
    DiskForgets,
    /// The people send what was taken once more, under another client id.
    ResendsAsNew,
    /// The oracle believes in a message that nobody took.
    OracleDreams,
}
