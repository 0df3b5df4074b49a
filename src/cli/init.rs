//! `holdfast init`: makes the data directory, or prints the set-up link again.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::serve::{load_config, no_flags};
use super::{CliError, Global, Output};
use crate::auth::setup_link::{SetupError, SetupLink};
use crate::config::Config;
use crate::ops::datadir::DataDir;
use crate::ops::lockfile;

/// `holdfast init`
#[derive(Debug, Args)]
#[command(after_help = "\
Whoever opens the link becomes the first owner. It works once.
`holdfast serve` makes the directory by itself; init is for those who want to
put a configuration into it before the first start.

Examples:
  holdfast init --data /srv/holdfast          make the directory, print the link
  holdfast init --data /srv/holdfast --link   print it again, a locked one anew")]
pub struct InitArgs {
    /// Only print the set-up link of an existing data directory
    #[arg(long)]
    pub link: bool,
    /// The configuration file, for the address in the link [default: DIR/holdfast.toml if it exists]
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs it.
pub fn run(global: &Global, args: &InitArgs, output: &Output) -> Result<(), CliError> {
    let (state, text) = prepare(global, args)?;
    output.show(&state, &text)
}

/// Does the work; gives what to print, as JSON and as text.
fn prepare(global: &Global, args: &InitArgs) -> Result<(Value, String), CliError> {
    let config = load_config(&global.data, args.config.as_deref(), no_flags())?.config;
    let (data, link) = if args.link {
        let data = DataDir::open(&global.data).map_err(CliError::failed)?;
        let link = SetupLink::at(data.root());
        (data, link)
    } else {
        make(global)?
    };
    let url = match link.print_token() {
        Ok(token) => Some(SetupLink::url(&address(&data, &config), &token)),
        Err(SetupError::AlreadyDone) if !args.link => None,
        Err(error) => return Err(CliError::failed(error)),
    };
    let running = matches!(lockfile::holder(data.root()), Ok(Some(_)));
    let state = json!({
        "data": data.root(),
        "created": data.created_now(),
        "cluster_id": data.identity().cluster_id,
        "setup_link": url,
        "server_running": running,
    });
    let text = text(&data, url.as_deref(), running);
    Ok((state, text))
}

/// The address in the link: the configured one, else where the running server listens, else where it would.
fn address(data: &DataDir, config: &Config) -> String {
    let running = std::fs::read_to_string(data.path("run/address")).ok().map(|line| line.trim().to_owned());
    match running.filter(|line| config.server.public_url.is_none() && !line.is_empty()) {
        Some(address) => address,
        None => config.public_url(),
    }
}

/// Makes the directory and, if it is new, the token: on an older one, no token means that the set-up was done.
fn make(global: &Global) -> Result<(DataDir, SetupLink), CliError> {
    let (data, _lock) = DataDir::open_locked(&global.data).map_err(CliError::failed)?;
    let link = SetupLink::at(data.root());
    // A new directory, or one that was killed before its first start: nothing is in the log.
    if data.created_now() || data.is_unused().map_err(CliError::failed)? {
        SetupLink::create_or_load(data.root()).map_err(CliError::failed)?;
    }
    Ok((data, link))
}

fn text(data: &DataDir, url: Option<&str>, running: bool) -> String {
    let root = data.root().display();
    let mut text = String::new();
    if data.created_now() {
        text.push_str(&format!("Data directory made: {root}\n"));
    }
    let Some(url) = url else {
        text.push_str("The set-up was already completed; nothing to do.\n");
        return text;
    };
    if !running {
        text.push_str(&format!("Start the server:  holdfast serve --data {root}\n"));
    }
    text.push_str(&format!("Then open this link to become the first owner (it works once):\n  {url}\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(data: &std::path::Path, link: bool) -> Result<Value, CliError> {
        let global = Global { data: data.to_owned(), json: true };
        prepare(&global, &InitArgs { link, config: None }).map(|(state, _)| state)
    }

    #[test]
    fn init_makes_once_and_the_link_can_be_printed_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert!(init(&data, true).unwrap_err().to_string().contains("holdfast init"), "--link makes nothing");
        assert!(!data.exists());
        let made = init(&data, false).unwrap();
        assert_eq!(made["created"], true);
        let token = SetupLink::at(&data).print_token().unwrap();
        assert_eq!(made["setup_link"], format!("https://127.0.0.1:8443/setup#{token}"));
        for link in [false, true] {
            let again = init(&data, link).unwrap();
            assert_eq!((&again["created"], &again["setup_link"]), (&Value::Bool(false), &made["setup_link"]));
        }
    }

    #[test]
    fn a_completed_setup_is_not_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        init(&data, false).unwrap();
        std::fs::write(data.join("log/1.seg"), "entries").unwrap();
        SetupLink::at(&data).consume().unwrap();
        assert_eq!(init(&data, false).unwrap()["setup_link"], Value::Null);
        assert!(!SetupLink::at(&data).is_open());
        let error = init(&data, true).unwrap_err();
        assert!(error.to_string().contains("already completed"), "{error}");
    }

    #[test]
    fn a_running_server_keeps_init_out_but_not_the_link() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        init(&data, false).unwrap();
        let _lock = lockfile::DataLock::acquire(&data).unwrap();
        assert!(init(&data, false).unwrap_err().to_string().contains("in use by process"));
        assert_eq!(init(&data, true).unwrap()["server_running"], true);
    }

    #[test]
    fn a_foreign_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "x").unwrap();
        init(dir.path(), false).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
