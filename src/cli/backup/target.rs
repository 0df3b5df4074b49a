//! `holdfast backup target`: where backups go. Must never take a secret as an argument: every user of the machine sees those.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Value, json};

use super::ask;
use super::follow::text;
use crate::cli::output::table;
use crate::cli::{CliError, Global, Output};

/// `holdfast backup target`
#[derive(Clone, Debug, Args)]
pub struct TargetArgs {
    #[command(subcommand)]
    command: TargetCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TargetCommand {
    /// Add a target, or change the one of this name
    #[command(after_help = "\
Secrets come from files, never from the command line. A secret that is left
out stays, as long as the place is the same.

Examples:
  holdfast backup target add usb --directory /mnt/usb/holdfast
  holdfast backup target add nas --directory /mnt/nas --append-only
  holdfast backup target add store --s3 https://s3.example --bucket chat \\
    --access-key AKIA... --secret-file key.txt
  holdfast backup target add nas --webdav https://nas.lan/dav/holdfast \\
    --user backup --password-file password.txt --ca-file nas-ca.pem
  holdfast backup target add box --sftp backup.lan --user holdfast \\
    --key-file id_ed25519 --path backups --host-key SHA256:...")]
    Add(Box<AddArgs>),
    /// List the targets
    List,
    /// Print a target as a file from which any machine restores without this server
    #[command(after_help = "\
The file holds no secrets: it names files where you put them. Keep all of it
beside the key of the backups, away from this server.

Example:
  holdfast backup target describe store > store.toml
  holdfast restore --target-file store.toml --list    (on any machine)")]
    Describe(NameArgs),
    /// Store, read and remove a small file: whether backups could be made there
    Test(NameArgs),
    /// Remove a target from the settings; what lies there stays
    Remove(NameArgs),
}

#[derive(Clone, Debug, Args)]
struct NameArgs {
    /// The target
    name: String,
}

#[derive(Clone, Debug, Args)]
#[command(group(clap::ArgGroup::new("place").required(true).args(["directory", "s3", "webdav", "sftp"])))]
struct AddArgs {
    /// What to call it: small letters, digits, - and _
    name: String,
    /// A folder of the machine that makes the backup: a disk, a mounted share, a USB stick
    #[arg(long, value_name = "PATH")]
    directory: Option<String>,
    /// The URL of an S3-compatible store
    #[arg(long, value_name = "URL", requires = "bucket")]
    s3: Option<String>,
    /// The URL of a folder on a WebDAV server
    #[arg(long, value_name = "URL")]
    webdav: Option<String>,
    /// An SSH server
    #[arg(long, value_name = "HOST[:PORT]", requires_all = ["user", "path", "host_key"])]
    sftp: Option<String>,
    /// S3: the bucket
    #[arg(long)]
    bucket: Option<String>,
    /// S3: the region
    #[arg(long)]
    region: Option<String>,
    /// S3: a folder within the bucket
    #[arg(long)]
    prefix: Option<String>,
    /// S3: the access key's id
    #[arg(long, value_name = "ID")]
    access_key: Option<String>,
    /// S3: a file with the access key's secret
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// WebDAV, SFTP: the user
    #[arg(long)]
    user: Option<String>,
    /// WebDAV, SFTP: a file with the password
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// S3, WebDAV: a file with the certificate (PEM) of the authority that signed the server's, if it is your own
    #[arg(long, value_name = "FILE", conflicts_with_all = ["directory", "sftp"])]
    ca_file: Option<PathBuf>,
    /// SFTP: a file with the private key in OpenSSH form
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// SFTP: the folder
    #[arg(long)]
    path: Option<String>,
    /// SFTP: the fingerprint of the host's key, as `ssh-keygen -lf` shows it
    #[arg(long, value_name = "SHA256:...")]
    host_key: Option<String>,
    /// Nothing on it is ever deleted by the server
    #[arg(long)]
    append_only: bool,
    /// Make no backups there for now
    #[arg(long)]
    disabled: bool,
}

/// Runs it.
pub(super) fn run(global: &Global, args: &TargetArgs, output: &Output) -> Result<(), CliError> {
    match &args.command {
        TargetCommand::Add(args) => add(global, args, output),
        TargetCommand::List => list(global, output),
        TargetCommand::Describe(args) => describe(global, &args.name, output),
        TargetCommand::Test(args) => {
            let answer = ask(global, Method::POST, (&format!("/targets/{}/test", args.name), None))?;
            output.show(&answer, &findings(&answer))
        }
        TargetCommand::Remove(args) => {
            let settings = ask(global, Method::DELETE, (&format!("/targets/{}", args.name), None))?;
            output.show(&settings, "It is not used any more. The backups on it stay.")
        }
    }
}

fn read(path: &Path) -> Result<String, CliError> {
    let text = std::fs::read_to_string(path);
    text.map_err(|error| CliError::failed(format!("{} cannot be read: {error}", path.display())))
}

/// A secret from a file, without the line's end.
fn secret(file: Option<&Path>) -> Result<Option<String>, CliError> {
    Ok(file.map(read).transpose()?.map(|text| text.trim_end_matches(['\n', '\r']).to_owned()))
}

fn place(args: &AddArgs) -> Result<Value, CliError> {
    let given = |text: &Option<String>| text.clone().unwrap_or_default();
    if let Some(path) = &args.directory {
        let path = std::path::absolute(path).map_err(CliError::usage)?;
        return Ok(json!({ "kind": "directory", "path": path }));
    }
    // As it is: a line's end belongs to it.
    let ca_pem = args.ca_file.as_deref().map(read).transpose()?.unwrap_or_default();
    if let Some(endpoint) = &args.s3 {
        return Ok(json!({
            "kind": "s3", "endpoint": endpoint, "bucket": given(&args.bucket), "region": given(&args.region),
            "prefix": given(&args.prefix), "access_key": given(&args.access_key),
            "secret": secret(args.secret_file.as_deref())?, "ca_pem": ca_pem,
        }));
    }
    let password = secret(args.password_file.as_deref())?;
    if let Some(url) = &args.webdav {
        let user = given(&args.user);
        return Ok(json!({ "kind": "webdav", "url": url, "user": user, "password": password, "ca_pem": ca_pem }));
    }
    let host = given(&args.sftp);
    let (host, port) = match host.rsplit_once(':').map(|(host, port)| (host.to_owned(), port.parse::<u16>())) {
        Some((name, Ok(port))) => (name, port),
        Some((_, Err(_))) => return Err(CliError::usage("--sftp is HOST or HOST:PORT")),
        None => (host, 22),
    };
    // A private key ends with a line's end: without it, it is none.
    let key = args.key_file.as_deref().map(read).transpose()?;
    Ok(json!({
        "kind": "sftp", "host": host, "port": port, "user": given(&args.user), "path": given(&args.path),
        "host_key": given(&args.host_key), "password": password, "private_key": key,
    }))
}

fn add(global: &Global, args: &AddArgs, output: &Output) -> Result<(), CliError> {
    let body = json!({ "append_only": args.append_only, "enabled": !args.disabled, "place": place(args)? });
    let settings = ask(global, Method::PUT, (&format!("/targets/{}", args.name), Some(&body)))?;
    let tested = ask(global, Method::POST, (&format!("/targets/{}/test", args.name), None));
    let shown = match tested {
        Ok(found) => format!("{} is a target now.\n{}", args.name, findings(&found)),
        Err(error) => format!("{} is a target now, but it does not work yet: {error}", args.name),
    };
    output.show(&settings, &shown)
}

/// What a test found, a line each; what somebody should know stands out.
fn findings(report: &Value) -> String {
    let all = report.get("findings").and_then(Value::as_array).into_iter().flatten();
    let line = |found: &Value| {
        let mark = if text(found, "/level") == "good" { "ok" } else { "NOTE" };
        format!("  {mark:<5}{}\n", text(found, "/text"))
    };
    format!("It works:\n{}", all.map(line).collect::<String>())
}

fn describe(global: &Global, name: &str, output: &Output) -> Result<(), CliError> {
    let settings = ask(global, Method::GET, ("/settings", None))?;
    let targets = settings.get("targets").and_then(Value::as_array);
    let target = targets.into_iter().flatten().find(|target| text(target, "/name") == name);
    let place = target.and_then(|target| target.get("place")).and_then(Value::as_object);
    let place = place.ok_or_else(|| CliError::failed(format!("there is no target {name}")))?;
    let described = description(place)?;
    output.show(&json!({ "target": name, "description": described }), &described)
}

/// A place as `--target-file` reads it, with the names of files where the secrets go.
fn description(place: &serde_json::Map<String, Value>) -> Result<String, CliError> {
    let mut table = toml::Table::new();
    for (name, value) in place {
        let secret = name.strip_suffix("_set").filter(|_| value.as_bool() == Some(true));
        let (name, value) = match (secret, value) {
            (Some(secret), _) => (format!("{secret}_file"), toml::Value::from(format!("{secret}.txt"))),
            (None, Value::String(text)) if !text.is_empty() => (name.clone(), toml::Value::from(text.clone())),
            (None, Value::Number(number)) => (name.clone(), toml::Value::from(number.as_i64().unwrap_or_default())),
            _ => continue,
        };
        table.insert(name, value);
    }
    let body = toml::to_string(&table).map_err(CliError::failed)?;
    let files: Vec<&str> =
        table.iter().filter(|(name, _)| name.ends_with("_file")).filter_map(|(_, file)| file.as_str()).collect();
    let first = if files.is_empty() {
        String::new()
    } else {
        format!("# The secrets belong into {} beside this file, readable by you only.\n", files.join(" and "))
    };
    Ok(format!("{first}{body}"))
}

fn list(global: &Global, output: &Output) -> Result<(), CliError> {
    let settings = ask(global, Method::GET, ("/settings", None))?;
    let mut rows = vec![["NAME", "KIND", "WHERE", "NOTES"].map(str::to_owned).to_vec()];
    for target in settings.get("targets").and_then(Value::as_array).into_iter().flatten() {
        let kind = text(target, "/place/kind");
        let place = ["path", "endpoint", "url", "host"].map(|name| text(target, &format!("/place/{name}")));
        let place =
            if kind == "sftp" { place[3] } else { place.into_iter().find(|text| !text.is_empty()).unwrap_or("") };
        let is = |name: &str| target.get(name).and_then(Value::as_bool).unwrap_or(false);
        let notes = [(is("append_only"), "append-only"), (!is("enabled"), "switched off")];
        let notes: Vec<&str> = notes.iter().filter(|(so, _)| *so).map(|(_, text)| *text).collect();
        rows.push(vec![text(target, "/name").to_owned(), kind.to_owned(), place.to_owned(), notes.join(", ")]);
    }
    output.show(&settings, &table(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_names_files_for_secrets_and_leaves_out_what_is_not_set() {
        let place = json!({ "kind": "webdav", "url": "https://nas.lan/dav", "user": "backup", "password_set": true,
            "ca_pem": "" });
        let text = description(place.as_object().unwrap()).unwrap();
        let table: toml::Table = toml::from_str(&text).unwrap();
        let mut names: Vec<&str> = table.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["kind", "password_file", "url", "user"], "{text}");
        assert!(text.starts_with("# The secrets belong into password.txt"), "{text}");
        let place = json!({ "kind": "sftp", "host": "h", "port": 22, "password_set": false, "private_key_set": true });
        let text = description(place.as_object().unwrap()).unwrap();
        assert!(text.contains("private_key_file = \"private_key.txt\"") && !text.contains("password"), "{text}");
    }
}
