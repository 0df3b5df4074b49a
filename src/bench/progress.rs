//! A line on standard error from time to time while a benchmark runs, so that nobody thinks it hangs.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::limits::{BENCH_PROGRESS_LOG_MS, BENCH_PROGRESS_TERMINAL_MS};

/// Says at most one thing per interval: often to a terminal (over the last line), seldom to a file.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    next: Instant,
}

impl Progress {
    /// To standard error.
    #[must_use]
    pub fn stderr() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), next: Instant::now() }
    }

    /// Says `line`, unless something was said a moment ago.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        let mut stderr = std::io::stderr().lock();
        // Nothing is lost when nobody can read it.
        let _ = if self.terminal {
            self.next = now + Duration::from_millis(BENCH_PROGRESS_TERMINAL_MS);
            write!(stderr, "\r\x1b[K{}", line()).and_then(|()| stderr.flush())
        } else {
            self.next = now + Duration::from_millis(BENCH_PROGRESS_LOG_MS);
            writeln!(stderr, "{}", line())
        };
    }

    /// Says `line` in any case, and lets it stand.
    pub fn tell(&mut self, line: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stderr(), "{clear}{line}");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
