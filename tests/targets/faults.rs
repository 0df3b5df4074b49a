//! What goes wrong with remote targets, and how it is told.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use holdfast::backup::repository::Place as _;
use holdfast::backup::target::{Patience, S3Settings, SftpSettings, Target, TargetError, WebdavSettings};

use super::servers::{Dav, Small, Ssh, Store, free_port};
use super::suite::{Interrupted, MEBIBYTE, content, nothing_unfinished, runtime};

const HASTY: Patience = Patience { timeout: Duration::from_secs(1), retries: 1 };

fn code_of(target: &Target) -> (&'static str, String) {
    let error: TargetError = target.list("manifests").unwrap_err();
    (error.code(), error.to_string())
}

/// A target of each remote kind at a port.
fn remotes(port: u16) -> Vec<Target> {
    let url = format!("http://127.0.0.1:{port}");
    let (endpoint, bucket, patience) = (url.clone(), "backups".to_owned(), HASTY);
    let (access_key, secret) = ("id".to_owned(), "secret".to_owned());
    let (host, user) = ("127.0.0.1".to_owned(), "nobody".to_owned());
    vec![
        Target::s3(&S3Settings { endpoint, bucket, access_key, secret, patience, ..S3Settings::default() }).unwrap(),
        Target::webdav(&WebdavSettings { url, patience, ..WebdavSettings::default() }).unwrap(),
        Target::sftp(&SftpSettings { host, port, user, patience, ..SftpSettings::default() }).unwrap(),
    ]
}

#[test]
fn a_server_that_is_not_there_is_named_with_its_port() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let port = free_port();
    for target in remotes(port) {
        let (code, text) = code_of(&target);
        assert_eq!(code, "target_unreachable", "{text}");
        assert!(text.contains(&format!("127.0.0.1:{port} cannot be reached")), "{text}");
    }
    let url = "http://no-such-host.invalid:9000".to_owned();
    let nowhere = Target::webdav(&WebdavSettings { url, patience: HASTY, ..WebdavSettings::default() }).unwrap();
    let (code, text) = code_of(&nowhere);
    assert!(code == "target_unreachable" && text.contains("no-such-host.invalid:9000"), "{text}");
}

#[test]
fn a_server_that_is_silent_runs_into_the_timeout() {
    let runtime = runtime();
    let _entered = runtime.enter();
    // The kernel takes the connections; nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for target in remotes(silent.local_addr().unwrap().port()) {
        let began = Instant::now();
        let (code, text) = code_of(&target);
        assert_eq!(code, "target_unreachable", "{text}");
        assert!(text.contains("did not answer within 1 s"), "{text}");
        let error = target.put("log/a", &mut &content(20 * MEBIBYTE, 1)[..]).unwrap_err();
        assert_eq!(error.code(), "target_unreachable", "{error}");
        assert!(began.elapsed() < Duration::from_secs(60), "{target:?} took {:?}", began.elapsed());
    }
}

#[test]
fn a_store_tells_wrong_keys_buckets_and_rights_apart() {
    let (runtime, store) = (runtime(), Store::start());
    let _entered = runtime.enter();
    let right = store.settings("admin");
    let wrong = S3Settings { secret: "wrong".to_owned(), ..right.clone() };
    let (code, text) = code_of(&Target::s3(&wrong).unwrap());
    assert_eq!(code, "target_key_refused", "{text}");
    assert!(!text.contains("wrong") && !text.contains(&right.secret), "{text}");
    let unknown = S3Settings { access_key: "AKIAUNKNOWN".to_owned(), ..right.clone() };
    assert_eq!(code_of(&Target::s3(&unknown).unwrap()).0, "target_key_refused");
    let elsewhere = S3Settings { bucket: "no-such-bucket".to_owned(), ..right };
    let (code, text) = code_of(&Target::s3(&elsewhere).unwrap());
    assert_eq!(code, "target_not_there", "{text}");
    let reader = Target::s3(&store.settings("reader")).unwrap();
    let error = reader.put("log/a", &mut &b"x"[..]).unwrap_err();
    assert_eq!(error.code(), "target_denied", "{error}");
}

#[test]
fn a_webdav_server_tells_wrong_passwords_and_folders_apart() {
    let (runtime, dav) = (runtime(), Dav::start());
    let _entered = runtime.enter();
    let wrong = WebdavSettings { password: "wrong".to_owned(), ..dav.settings() };
    let (code, text) = code_of(&Target::webdav(&wrong).unwrap());
    assert_eq!(code, "target_key_refused", "{text}");
    let error = Target::webdav(&wrong).unwrap().put("log/a", &mut &b"x"[..]).unwrap_err();
    assert_eq!(error.code(), "target_key_refused", "{error}");
    let deep = WebdavSettings { url: format!("{}/not/there/at/all", dav.settings().url), ..dav.settings() };
    let error = Target::webdav(&deep).unwrap().put("log/a", &mut &b"x"[..]).unwrap_err();
    assert_eq!(error.code(), "target_not_there", "{error}");
    let inside = WebdavSettings { url: "http://holdfast:secret@127.0.0.1/".to_owned(), ..dav.settings() };
    let error = Target::webdav(&inside).unwrap_err();
    assert!(error.code() == "target_bad_settings" && !error.to_string().contains("secret"), "{error}");
}

#[test]
fn a_certificate_is_trusted_by_its_authority_only() {
    let runtime = runtime();
    let _entered = runtime.enter();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let dav = Dav::start_tls(&own.cert.pem(), &own.signing_key.serialize_pem());
    let (code, text) = code_of(&Target::webdav(&dav.settings()).unwrap());
    assert_eq!(code, "target_certificate", "{text}");
    let trusting = WebdavSettings { ca_pem: own.cert.pem(), ..dav.settings() };
    let target = Target::webdav(&trusting).unwrap();
    let bytes = content(20 * MEBIBYTE, 2);
    target.put("log/a", &mut &bytes[..]).unwrap();
    assert!(target.read("log/a", bytes.len()).unwrap() == bytes);
    // Another name is another server.
    let other = WebdavSettings { url: trusting.url.replace("localhost", "127.0.0.1"), ..trusting };
    assert_eq!(code_of(&Target::webdav(&other).unwrap()).0, "target_certificate");
}

#[test]
fn an_ssh_host_is_known_by_any_of_its_keys_and_by_no_other() {
    let (runtime, ssh) = (runtime(), Ssh::start());
    let _entered = runtime.enter();
    let right = ssh.settings();
    // It would rather show its other key.
    let by_rsa = SftpSettings { host_key: ssh.fingerprint("host_rsa"), ..right.clone() };
    assert_eq!(Target::sftp(&by_rsa).unwrap().list("manifests").unwrap(), []);
    for host_key in [String::new(), ssh.fingerprint("stranger")] {
        let (code, text) = code_of(&Target::sftp(&SftpSettings { host_key, ..right.clone() }).unwrap());
        assert_eq!(code, "target_host_key", "{text}");
        assert!(text.contains(&right.host_key), "{text}");
    }
    let stranger = std::fs::read_to_string(ssh.folder.path().join("stranger")).unwrap();
    for (private_key, password) in [(stranger, ""), ("no key".to_owned(), ""), (String::new(), "wrong")] {
        let settings = SftpSettings { private_key, password: password.to_owned(), ..right.clone() };
        let (code, text) = code_of(&Target::sftp(&settings).unwrap());
        assert_eq!(code, "target_key_refused", "{text}");
    }
    let elsewhere = SftpSettings { path: format!("{}/none", right.path), ..right };
    let (code, text) = code_of(&Target::sftp(&elsewhere).unwrap());
    assert!(code == "target_not_there" && text.contains("/none"), "{text}");
}

#[test]
fn a_store_killed_in_an_upload_has_nothing_and_works_again() {
    let (runtime, mut store) = (runtime(), Store::start());
    let _entered = runtime.enter();
    let (port, bytes) = (store.port, content(40 * MEBIBYTE, 3));
    let target = Target::s3(&store.settings("admin")).unwrap();
    let kill = || {
        store.running.kill();
        Ok(())
    };
    let error = target.put("log/a", &mut Interrupted::new(&bytes, 24 * MEBIBYTE, kill)).unwrap_err();
    assert_eq!(error.code(), "target_unreachable", "{error}");
    // It remembers nothing, not even its keys: it is a new one at the same place.
    let store = Store::start_at(port);
    let target = Target::s3(&store.settings("admin")).unwrap();
    assert_eq!(target.size("log/a").unwrap(), None);
    target.put("log/a", &mut &bytes[..]).unwrap();
    assert!(target.read("log/a", bytes.len()).unwrap() == bytes);
}

#[test]
fn a_webdav_server_killed_in_an_upload_has_nothing_under_the_name_and_works_again() {
    let (runtime, mut dav) = (runtime(), Dav::start());
    let _entered = runtime.enter();
    let bytes = content(40 * MEBIBYTE, 4);
    let target = Target::webdav(&dav.settings()).unwrap();
    target.put("log/first", &mut &b"x"[..]).unwrap();
    let kill = || {
        dav.running.kill();
        Ok(())
    };
    let error = target.put("log/a", &mut Interrupted::new(&bytes, 24 * MEBIBYTE, kill)).unwrap_err();
    assert_eq!(error.code(), "target_unreachable", "{error}");
    dav.restart();
    assert_eq!(target.size("log/a").unwrap(), None);
    target.put("log/a", &mut &bytes[..]).unwrap();
    assert!(target.read("log/a", bytes.len()).unwrap() == bytes);
}

#[test]
fn an_sftp_upload_goes_on_when_the_server_comes_back_and_leaves_nothing_when_not() {
    let (runtime, mut ssh) = (runtime(), Ssh::start());
    let _entered = runtime.enter();
    let bytes = content(40 * MEBIBYTE, 5);
    let target = Target::sftp(&ssh.settings()).unwrap();
    let back = || {
        ssh.running.kill();
        ssh.restart();
        Ok(())
    };
    target.put("log/a", &mut Interrupted::new(&bytes, 24 * MEBIBYTE, back)).unwrap();
    let mut reading = target.open("log/a").unwrap();
    let mut read = vec![0; 3 * MEBIBYTE];
    std::io::Read::read_exact(&mut reading, &mut read).unwrap();
    // A restore goes on as well.
    ssh.running.kill();
    ssh.restart();
    std::io::Read::read_to_end(&mut reading, &mut read).unwrap();
    assert!(read == bytes);
    nothing_unfinished(&ssh.folder.path().join("backups"));
    let gone = || {
        ssh.running.kill();
        Ok(())
    };
    let error = target.put("log/b", &mut Interrupted::new(&bytes, 24 * MEBIBYTE, gone)).unwrap_err();
    assert_eq!(error.code(), "target_unreachable", "{error}");
    ssh.restart();
    assert_eq!(target.size("log/b").unwrap(), None);
    target.put("log/b", &mut &bytes[..]).unwrap();
    assert_eq!(target.size("log/b").unwrap(), Some(bytes.len() as u64));
}

#[test]
fn a_full_and_a_read_only_disk_are_told_apart() {
    let (runtime, ssh, place) = (runtime(), Ssh::start(), tempfile::tempdir().unwrap());
    let _entered = runtime.enter();
    let folder = ssh.folder.path().join("backups");
    let Some(behind_ssh) = Small::mount(&folder) else { return };
    let Some(here) = Small::mount(place.path()) else { return };
    let bytes = content(6 * MEBIBYTE, 6);
    let targets = [Target::sftp(&ssh.settings()).unwrap(), Target::directory(place.path()).unwrap()];
    for (target, disk, folder) in [(&targets[0], &behind_ssh, folder.as_path()), (&targets[1], &here, place.path())] {
        let error = target.put("log/a", &mut &bytes[..]).unwrap_err();
        assert_eq!(error.code(), "target_full", "{target:?}: {error}");
        assert_eq!(target.list("log").unwrap(), []);
        nothing_unfinished(folder);
        // What did not fit was taken back: there is room again.
        target.put("log/a", &mut &bytes[..MEBIBYTE]).unwrap();
        disk.make_read_only();
        for error in [target.put("log/b", &mut &b"x"[..]).unwrap_err(), target.remove("log/a").unwrap_err()] {
            assert_eq!(error.code(), "target_read_only", "{target:?}: {error}");
        }
        assert_eq!(target.size("log/a").unwrap(), Some(MEBIBYTE as u64));
    }
}
