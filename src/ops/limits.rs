//! Raises the process's open-file limit to what the system allows. Must never lower it.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The open-file limit before and after [`raise_open_files`]. `None` is "unlimited".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The soft limit found.
    pub before: Option<u64>,
    /// The soft limit now.
    pub now: Option<u64>,
    /// The hard limit, which only the administrator can raise.
    pub hard: Option<u64>,
}

/// The limits as they are.
pub fn open_files() -> OpenFiles {
    let limit = getrlimit(Resource::Nofile);
    OpenFiles { before: limit.current, now: limit.current, hard: limit.maximum }
}

/// Raises the soft limit to the hard one: each connection is an open file, and the usual soft limit is 1,024.
pub fn raise_open_files() -> io::Result<OpenFiles> {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    if before != limit.maximum {
        limit.current = limit.maximum;
        setrlimit(Resource::Nofile, limit)?;
    }
    let after = getrlimit(Resource::Nofile);
    Ok(OpenFiles { before, now: after.current, hard: after.maximum })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_reaches_the_hard_one() {
        let raised = raise_open_files().unwrap();
        assert_eq!(raised.now, raised.hard);
        assert!(raised.now >= raised.before || raised.now.is_none());
        assert_eq!(open_files().now, raised.now);
    }
}
