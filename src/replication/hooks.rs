//! Programs that run when the role changes: the way to move a virtual address. Must never hold the protocol up: they run
//! beside it, one at a time, and the latest role wins.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::watch;

use crate::limits;
use crate::node::Role;

/// The programs, as configured: a path and its arguments, separated by blanks.
#[derive(Clone, Debug, Default)]
pub struct Hooks {
    /// Runs when the node became active.
    pub on_active: Option<String>,
    /// Runs when the node stopped being active, and once at the start.
    pub on_standby: Option<String>,
    /// How long one may take.
    pub timeout: Duration,
}

impl Hooks {
    /// Runs the fitting program at the start and after every change, until `roles` ends. A role that came and went while a
    /// program ran is left out: what counts is that the last one to run fits the role.
    pub async fn run(self, mut roles: watch::Receiver<Role>, epoch: impl Fn() -> u64) {
        loop {
            let role = *roles.borrow_and_update();
            let program = if role == Role::Active { &self.on_active } else { &self.on_standby };
            if let Some(line) = program {
                self.call(line, role, epoch()).await;
            }
            if roles.changed().await.is_err() {
                return;
            }
        }
    }

    /// Runs one program to its end or to the timeout, and writes what became of it to the log.
    async fn call(&self, line: &str, role: Role, epoch: u64) {
        let mut words = line.split_whitespace();
        let Some(program) = words.next() else { return };
        let name = if role == Role::Active { "active" } else { "standby" };
        let mut command = Command::new(program);
        command
            .args(words)
            .env("HOLDFAST_ROLE", name)
            .env("HOLDFAST_EPOCH", epoch.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                tracing::error!(hook = line, %error, "the hook cannot be started; check the path in pair.on_{name}");
                return;
            }
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let finished = async {
            let (out, err) = tokio::join!(first_bytes(stdout), first_bytes(stderr));
            (child.wait().await, format!("{out}{err}"))
        };
        match tokio::time::timeout(self.timeout, finished).await {
            Ok((Ok(status), output)) if status.success() => {
                tracing::info!(hook = line, role = name, output = output.trim(), "the hook ran");
            }
            Ok((Ok(status), output)) => {
                tracing::error!(hook = line, role = name, %status, output = output.trim(), "the hook failed");
            }
            Ok((Err(error), _)) => tracing::error!(hook = line, role = name, %error, "the hook was lost"),
            Err(_) => tracing::error!(
                hook = line,
                role = name,
                seconds = self.timeout.as_secs(),
                "the hook took too long and was ended"
            ),
        }
    }
}

/// The first bytes of a stream, read to its end.
async fn first_bytes(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept = Vec::new();
    let mut piece = [0; 1_024];
    while let Ok(count) = stream.read(&mut piece).await {
        if count == 0 {
            break;
        }
        let room = limits::HOOK_OUTPUT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(piece.get(..count.min(room)).unwrap_or_default());
    }
    String::from_utf8_lossy(&kept).into_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    fn script(dir: &Path, body: &str) -> String {
        let path = dir.join("hook");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    async fn until(path: &Path, wanted: &str) {
        let read = || std::fs::read_to_string(path).unwrap_or_default();
        let seen = tokio::time::timeout(Duration::from_secs(20), async {
            while read() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(seen.await.is_ok(), "{:?} instead of {wanted:?}", read());
    }

    #[tokio::test]
    async fn the_program_that_fits_the_role_runs_with_its_arguments() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let hook = script(dir.path(), "echo \"$1 $HOLDFAST_ROLE $HOLDFAST_EPOCH\" >> \"$2\"; exit 3");
        let hooks = Hooks {
            on_active: Some(format!("{hook} add {}", told.display())),
            on_standby: Some(format!("{hook} remove {}", told.display())),
            timeout: Duration::from_secs(10),
        };
        let (roles, watched) = watch::channel(Role::Standby);
        let running = tokio::spawn(hooks.run(watched, || 7));
        until(&told, "remove standby 7\n").await;
        roles.send_replace(Role::Active);
        until(&told, "remove standby 7\nadd active 7\n").await;
        roles.send_replace(Role::Standby);
        until(&told, "remove standby 7\nadd active 7\nremove standby 7\n").await;
        drop(roles);
        running.await.unwrap();
    }

    #[tokio::test]
    async fn one_that_hangs_or_is_missing_does_not_stop_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let told = dir.path().join("told");
        let hook = script(dir.path(), "[ \"$1\" = hang ] && exec sleep 60; echo ran > \"$2\"");
        let hooks = Hooks {
            on_active: Some(format!("{hook} go {}", told.display())),
            on_standby: Some(format!("{hook} hang x")),
            timeout: Duration::from_millis(100),
        };
        let (roles, watched) = watch::channel(Role::Standby);
        let running = tokio::spawn(hooks.clone().run(watched, || 1));
        roles.send_replace(Role::Active);
        until(&told, "ran\n").await;
        drop(roles);
        running.await.unwrap();
        let missing = Hooks { on_standby: Some("/nonexistent/hook".to_owned()), ..hooks };
        let (roles, watched) = watch::channel(Role::Standby);
        drop(roles);
        missing.run(watched, || 1).await;
    }
}
