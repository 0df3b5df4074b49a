//! Why a benchmark could not be run. Not for what it measured: a lost message is a result, in the report.

use std::fmt;
use std::path::Path;

/// Why a benchmark could not be run.
#[derive(Clone, Debug)]
pub enum BenchError {
    /// What was asked for cannot be done.
    Options {
        /// What is wrong and what would be right.
        detail: String,
    },
    /// The operating system refused.
    Io {
        /// What was being done, with the path or address.
        op: String,
        /// The system's answer.
        detail: String,
    },
    /// The server refused a request that the benchmark needs.
    Refused {
        /// The request.
        op: String,
        /// The HTTP status.
        status: u16,
        /// The stable code of the problem.
        code: String,
        /// The server's explanation.
        detail: String,
    },
    /// The node is not the active one of its pair.
    NotActive {
        /// The address of the one that is, as far as it knows.
        active: Option<String>,
        /// The addresses of all.
        addresses: Vec<String>,
    },
    /// The server did not answer, or not as the API says.
    Protocol {
        /// What was being done.
        op: String,
        /// What came instead.
        detail: String,
    },
    /// The server that the benchmark started did not start, or ended.
    Server {
        /// What happened.
        detail: String,
        /// The end of the server's output.
        output: String,
    },
    /// The user ended it.
    Interrupted,
}

impl BenchError {
    /// What was asked for cannot be done.
    #[must_use]
    pub fn options(detail: impl Into<String>) -> Self {
        Self::Options { detail: detail.into() }
    }

    /// The operating system refused `op`.
    #[must_use]
    pub fn io(op: impl Into<String>, error: &std::io::Error) -> Self {
        Self::Io { op: op.into(), detail: error.to_string() }
    }

    /// For `map_err`: the operating system refused `op` on `path`.
    pub fn on_path<'a>(op: &'a str, path: &'a Path) -> impl Fn(std::io::Error) -> Self + 'a {
        move |error| Self::io(format!("{op} {}", path.display()), &error)
    }

    /// The stable name of the error.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Options { .. } => "bench_options",
            Self::Io { .. } => "bench_io",
            Self::Refused { .. } => "bench_refused",
            Self::NotActive { .. } => "bench_not_active",
            Self::Protocol { .. } => "bench_protocol",
            Self::Server { .. } => "bench_server",
            Self::Interrupted => "bench_interrupted",
        }
    }
}

impl fmt::Display for BenchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options { detail } => f.write_str(detail),
            Self::Io { op, detail } | Self::Protocol { op, detail } => write!(f, "{op}: {detail}"),
            Self::Refused { op, status, code, detail } => write!(f, "{op}: refused, {status} {code}: {detail}"),
            Self::NotActive { active: Some(active), .. } => write!(f, "this node is not active, {active} is"),
            Self::NotActive { active: None, .. } => f.write_str("this node is not active"),
            Self::Server { detail, output } => write!(f, "{detail}; its last output:\n{output}"),
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl std::error::Error for BenchError {}
