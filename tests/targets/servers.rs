//! Real servers on loopback: moto for S3, wsgidav for WebDAV, OpenSSH for SFTP. Each is a process of its own that ends with the
//! test. `make backup-servers` installs them; a test that finds none fails.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use holdfast::backup::target::{Patience, S3Settings, SftpSettings, WebdavSettings};
use tempfile::TempDir;

/// Long enough for a busy machine, short enough for a test of silence.
pub(crate) const PATIENCE: Patience = Patience { timeout: Duration::from_secs(20), retries: 2 };

/// A program of the servers' own Python.
fn installed(name: &str) -> PathBuf {
    let own = std::env::var_os("HOLDFAST_BACKUP_SERVERS").map(PathBuf::from);
    let place = own.unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("../backup-servers"));
    let program = place.join("bin").join(name);
    assert!(program.exists(), "{} is not there: run `make backup-servers`", program.display());
    program
}

/// A port that nobody has at the moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process that ends with its owner, and its descendants with it.
pub(crate) struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    /// As a power cut does.
    pub(crate) fn kill(&mut self) {
        let mut ids = vec![self.0.id()];
        let mut next = 0;
        while next < ids.len() {
            ids.extend(children(ids[next]));
            next += 1;
        }
        for id in ids {
            let id = rustix::process::Pid::from_raw(id.cast_signed()).unwrap();
            let _ = rustix::process::kill_process(id, rustix::process::Signal::KILL);
        }
        self.0.wait().unwrap();
    }

    fn wait_for_port(&mut self, port: u16) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(self.0.try_wait().unwrap().is_none(), "the server ended at once");
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::yield_now();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            self.kill();
        }
    }
}

fn children(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        if parent == Some(of) {
            found.push(id);
        }
    }
    found
}

/// moto.
pub(crate) struct Store {
    pub(crate) running: Running,
    answers: BufReader<std::process::ChildStdout>,
    keys: serde_json::Value,
    pub(crate) port: u16,
}

impl Store {
    pub(crate) fn start() -> Self {
        Self::start_at(free_port())
    }

    pub(crate) fn start_at(port: u16) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets/store.py");
        let mut command = Command::new(installed("python"));
        command.arg(script).arg(port.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = Running::start(&mut command);
        let mut answers = BufReader::new(running.0.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let keys = serde_json::from_str(&line).unwrap_or_else(|e| panic!("moto did not start: {line:?}: {e}"));
        Self { running, answers, keys, port }
    }

    /// The settings of one of its users: `admin`, `reader` or `keeper`.
    pub(crate) fn settings(&self, user: &str) -> S3Settings {
        let part = |index: usize| self.keys[user][index].as_str().unwrap().to_owned();
        S3Settings {
            endpoint: format!("http://127.0.0.1:{}", self.port),
            bucket: "backups".to_owned(),
            prefix: "of/one".to_owned(),
            access_key: part(0),
            secret: part(1),
            patience: PATIENCE,
            ..S3Settings::default()
        }
    }

    /// How many multipart uploads are neither ended nor aborted.
    pub(crate) fn unfinished_uploads(&mut self) -> usize {
        self.running.0.stdin.as_mut().unwrap().write_all(b"uploads\n").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }
}

/// wsgidav.
pub(crate) struct Dav {
    pub(crate) running: Running,
    pub(crate) folder: TempDir,
    config: PathBuf,
    port: u16,
    scheme: &'static str,
}

impl Dav {
    pub(crate) fn start() -> Self {
        Self::start_with(serde_json::json!({}), "http")
    }

    /// Over TLS, with this certificate and key in PEM.
    pub(crate) fn start_tls(certificate: &str, key: &str) -> Self {
        let place = tempfile::tempdir().unwrap().keep();
        let (certificate_file, key_file) = (place.join("certificate.pem"), place.join("key.pem"));
        fs::write(&certificate_file, certificate).unwrap();
        fs::write(&key_file, key).unwrap();
        let tls = serde_json::json!({ "ssl_certificate": certificate_file, "ssl_private_key": key_file,
            "ssl_certificate_chain": null, "ssl_adapter": "builtin" });
        let dav = Self::start_with(tls, "https");
        // The server has read them.
        fs::remove_dir_all(place).unwrap();
        dav
    }

    fn start_with(more: serde_json::Value, scheme: &'static str) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        fs::create_dir(folder.path().join("shared")).unwrap();
        let mut config = serde_json::json!({
            "host": "127.0.0.1", "port": port, "server": "cheroot", "verbose": 1, "logging": { "enable": false },
            "provider_mapping": { "/dav": folder.path().join("shared") },
            "http_authenticator": { "accept_basic": true, "accept_digest": false, "default_to_digest": false },
            "simple_dc": { "user_mapping": { "*": { "holdfast": { "password": "correct horse" } } } },
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let file = folder.path().join("wsgidav.json");
        fs::write(&file, config.to_string()).unwrap();
        let running = Self::run(&file, port);
        Self { running, folder, config: file, port, scheme }
    }

    fn run(config: &Path, port: u16) -> Running {
        let mut command = Command::new(installed("wsgidav"));
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = Running::start(&mut command);
        running.wait_for_port(port);
        running
    }

    pub(crate) fn restart(&mut self) {
        self.running = Self::run(&self.config, self.port);
    }

    pub(crate) fn settings(&self) -> WebdavSettings {
        WebdavSettings {
            url: format!("{}://localhost:{}/dav/backups", self.scheme, self.port),
            user: "holdfast".to_owned(),
            password: "correct horse".to_owned(),
            ca_pem: String::new(),
            patience: PATIENCE,
        }
    }
}

/// OpenSSH.
pub(crate) struct Ssh {
    pub(crate) running: Running,
    pub(crate) folder: TempDir,
    pub(crate) port: u16,
}

impl Ssh {
    pub(crate) fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let at = |name: &str| folder.path().join(name);
        for (name, kind) in [("host_ed25519", "ed25519"), ("host_rsa", "rsa"), ("user", "ed25519"), ("stranger", "rsa")]
        {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", kind, "-N", "", "-f"]).arg(at(name));
            let made = command.status().unwrap_or_else(|e| panic!("no ssh-keygen ({e}): run `make backup-servers`"));
            assert!(made.success());
        }
        fs::create_dir(at("backups")).unwrap();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nSubsystem sftp internal-sftp\nPermitRootLogin yes\nPasswordAuthentication yes\n",
            at("host_ed25519").display(),
            at("host_rsa").display(),
            at("user.pub").display(),
        );
        fs::write(at("sshd_config"), config).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let running = Self::run(folder.path(), port);
        Self { running, folder, port }
    }

    fn run(folder: &Path, port: u16) -> Running {
        // Where it separates its privileges, when root.
        let _ = fs::create_dir_all("/run/sshd");
        let log = fs::File::create(folder.join("log")).unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        assert!(Path::new("/usr/sbin/sshd").exists(), "no sshd: run `make backup-servers`");
        command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut running = Running::start(&mut command);
        running.wait_for_port(port);
        running
    }

    pub(crate) fn restart(&mut self) {
        self.running = Self::run(self.folder.path(), self.port);
    }

    pub(crate) fn fingerprint(&self, key: &str) -> String {
        let file = self.folder.path().join(format!("{key}.pub"));
        let told = Command::new("ssh-keygen").arg("-lf").arg(file).output().unwrap();
        String::from_utf8(told.stdout).unwrap().split_whitespace().nth(1).unwrap().to_owned()
    }

    pub(crate) fn settings(&self) -> SftpSettings {
        let user = Command::new("id").arg("-un").output().unwrap();
        SftpSettings {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            user: String::from_utf8(user.stdout).unwrap().trim().to_owned(),
            private_key: fs::read_to_string(self.folder.path().join("user")).unwrap(),
            path: self.folder.path().join("backups").display().to_string(),
            host_key: self.fingerprint("host_ed25519"),
            patience: PATIENCE,
            ..SftpSettings::default()
        }
    }
}

/// A small file system in memory, mounted on a folder. Needs root.
pub(crate) struct Small(PathBuf);

impl Small {
    /// `None`, with a line that says so, when this is not root.
    pub(crate) fn mount(on: &Path) -> Option<Self> {
        if !rustix::process::getuid().is_root() {
            println!("skipped: mounting a small file system needs root");
            return None;
        }
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "small"]).arg(on).status().unwrap();
        assert!(mounted.success());
        Some(Self(on.to_owned()))
    }

    pub(crate) fn make_read_only(&self) {
        assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
