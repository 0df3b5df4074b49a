//! What the probe of a target tells its administrator.

use holdfast::backup::target::{Level, Report, S3Settings, SftpSettings, Target, WebdavSettings};

use super::servers::{Dav, Ssh, Store};
use super::suite::runtime;

fn codes(report: &Report, level: Level) -> Vec<&'static str> {
    report.findings.iter().filter(|finding| finding.level == level).map(|finding| finding.code).collect()
}

fn all_well(target: &Target) {
    let report = target.probe(None);
    assert!(report.works(), "{report:#?}");
    assert_eq!(codes(&report, Level::Good), ["write", "read", "list", "remove"], "{report:#?}");
    assert!(report.write_ms.is_some() && report.read_ms.is_some());
    assert_eq!(target.list("probe").unwrap(), [], "the probe left something");
}

#[test]
fn a_target_that_works_is_left_as_it_was() {
    // Beside the program: a temporary folder may be in memory, which a probe complains about.
    let (runtime, place) = (runtime(), tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap());
    let _entered = runtime.enter();
    let (store, dav, ssh) = (Store::start(), Dav::start(), Ssh::start());
    all_well(&Target::directory(place.path()).unwrap());
    all_well(&Target::s3(&store.settings("admin")).unwrap());
    all_well(&Target::webdav(&dav.settings()).unwrap());
    all_well(&Target::sftp(&ssh.settings()).unwrap());
}

#[test]
fn an_append_only_bucket_has_to_keep_files_by_itself() {
    let (runtime, store) = (runtime(), Store::start());
    let _entered = runtime.enter();
    let loose = Target::s3(&store.settings("admin")).unwrap().append_only(true).probe(None);
    assert_eq!(codes(&loose, Level::Warning), ["append_only_not_enforced"], "{loose:#?}");
    let by_rights = Target::s3(&store.settings("keeper")).unwrap().append_only(true).probe(None);
    assert_eq!(codes(&by_rights, Level::Good), ["write", "read", "list", "append_only"], "{by_rights:#?}");
    let locked = S3Settings { bucket: "locked".to_owned(), ..store.settings("admin") };
    let locked = Target::s3(&locked).unwrap().append_only(true).probe(None);
    assert_eq!(codes(&locked, Level::Good), ["write", "read", "list", "append_only"], "{locked:#?}");
    // The other way round: rights are missing on a target that files are to be removed from.
    let kept = Target::s3(&store.settings("keeper")).unwrap().probe(None);
    assert_eq!(codes(&kept, Level::Bad), ["remove"], "{kept:#?}");
}

#[test]
fn a_probe_that_fails_says_why_with_the_code_of_the_error() {
    let (runtime, dav, ssh) = (runtime(), Dav::start(), Ssh::start());
    let _entered = runtime.enter();
    let wrong = WebdavSettings { password: "wrong".to_owned(), ..dav.settings() };
    let report = Target::webdav(&wrong).unwrap().probe(None);
    assert!(!report.works());
    assert_eq!(codes(&report, Level::Bad), ["target_key_refused"], "{report:#?}");
    let stranger = SftpSettings { host_key: ssh.fingerprint("stranger"), ..ssh.settings() };
    assert_eq!(codes(&Target::sftp(&stranger).unwrap().probe(None), Level::Bad), ["target_host_key"]);
}
