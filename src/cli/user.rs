//! `holdfast user`: accounts from the server's own shell, through the running server.

use std::io::{self, BufRead, IsTerminal};

use clap::{Args, Subcommand, ValueEnum};
use hyper::Method;
use serde_json::{Value, json};

use super::admin_client::AdminClient;
use super::{CliError, Global, Output, output};
use crate::limits::PASSWORD_BYTES_MAX;

/// Where the server answers for accounts on its admin socket.
///
/// `GET` gives `{"users":[{"name","role","disabled",…}]}`. `POST {"name","role","display_name"?,"password"?}` makes one and
/// answers `{"name","password"?}`: a password that the server chose. `POST …/{name}/password {"password"?}` likewise.
/// `POST …/{name}/disable` and `…/enable` take no body.
pub const USERS_PATH: &str = "/admin/v1/users";

/// `holdfast user …`
#[derive(Clone, Debug, Args)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum UserCommand {
    /// Add a user; without --password-stdin a password is made and printed once
    #[command(after_help = "\
Examples:
  holdfast user add lilei --role admin --display-name 李雷
  pass show chat/bot | holdfast user add builder --role bot --password-stdin")]
    Add(AddArgs),
    /// Set a new password and end the user's sessions
    #[command(after_help = "\
Examples:
  holdfast user passwd lilei                    make one and print it once
  holdfast user passwd lilei --password-stdin   read it from standard input")]
    Passwd(PasswdArgs),
    /// Shut a user out and end the user's sessions; messages stay
    Disable(DisableArgs),
    /// List the users
    List,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything, and there is always one
    Owner,
    /// Runs the server and its users
    Admin,
    /// Reads the audit log, changes nothing
    Auditor,
    /// Takes part
    Member,
    /// Takes part where invited
    Guest,
    /// A program
    Bot,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Owner => "owner",
            Role::Admin => "admin",
            Role::Auditor => "auditor",
            Role::Member => "member",
            Role::Guest => "guest",
            Role::Bot => "bot",
        }
    }
}

#[derive(Clone, Debug, Args)]
struct AddArgs {
    /// The name to sign in with
    name: String,
    /// What the user may do
    #[arg(long, value_enum, default_value = "member")]
    role: Role,
    /// The name that others see [default: the name to sign in with]
    #[arg(long, value_name = "NAME")]
    display_name: Option<String>,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Clone, Debug, Args)]
struct PasswdArgs {
    /// The user's name
    name: String,
    /// Read the password from the first line of standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Clone, Debug, Args)]
struct DisableArgs {
    /// The user's name
    name: String,
    /// Let the user in again
    #[arg(long)]
    undo: bool,
}

/// Runs it.
pub fn run(global: &Global, args: &UserArgs, output: &Output) -> Result<(), CliError> {
    let client = AdminClient::new(&global.data);
    let post =
        |path: &str, body: &Value| client.request_blocking(Method::POST, path, Some(body)).map_err(CliError::from);
    match &args.command {
        UserCommand::Add(add) => {
            let mut body = json!({ "name": add.name, "role": add.role.name() });
            set(&mut body, "display_name", add.display_name.clone());
            set(&mut body, "password", read_password(add.password_stdin)?);
            let answer = post(USERS_PATH, &body)?;
            output.show(&answer, &with_password(&format!("User {} added.", add.name), &answer))
        }
        UserCommand::Passwd(passwd) => {
            let mut body = json!({});
            set(&mut body, "password", read_password(passwd.password_stdin)?);
            let answer = post(&user_path(&passwd.name, "password"), &body)?;
            output.show(&answer, &with_password(&format!("New password set for {}.", passwd.name), &answer))
        }
        UserCommand::Disable(disable) => {
            let action = if disable.undo { "enable" } else { "disable" };
            let answer = post(&user_path(&disable.name, action), &json!({}))?;
            let state = if disable.undo { "may sign in again" } else { "is shut out" };
            output.show(&answer, &format!("User {} {state}.", disable.name))
        }
        UserCommand::List => {
            let answer = client.request_blocking(Method::GET, USERS_PATH, None)?;
            output.show(&answer, &list(&answer))
        }
    }
}

fn set(body: &mut Value, key: &str, value: Option<String>) {
    if let (Some(members), Some(value)) = (body.as_object_mut(), value) {
        members.insert(key.to_owned(), Value::from(value));
    }
}

/// `/admin/v1/users/{name}/{action}`; the name is escaped so that it stays one segment.
fn user_path(name: &str, action: &str) -> String {
    let mut escaped = String::new();
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{USERS_PATH}/{escaped}/{action}")
}

/// Never from the arguments: those stand in the shell's history and in the list of processes.
fn read_password(from_stdin: bool) -> Result<Option<String>, CliError> {
    if !from_stdin {
        return Ok(None);
    }
    if io::stdin().is_terminal() {
        return Err(CliError::usage("--password-stdin reads a pipe or a file, so that nothing shows on the screen"));
    }
    first_line(&mut io::stdin().lock()).map(Some)
}

fn first_line(input: &mut impl BufRead) -> Result<String, CliError> {
    let mut line = String::new();
    let mut bounded = io::Read::take(input, PASSWORD_BYTES_MAX as u64 + 2);
    bounded.read_line(&mut line).map_err(CliError::failed)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        Err(CliError::usage("the first line of standard input is empty"))
    } else {
        Ok(password.to_owned())
    }
}

fn with_password(done: &str, answer: &Value) -> String {
    match answer.get("password").and_then(Value::as_str) {
        Some(password) => format!("{done}\nPassword (shown only now): {password}"),
        None => done.to_owned(),
    }
}

fn list(answer: &Value) -> String {
    let cell = |user: &Value, key: &str| user.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut rows = vec![vec!["NAME".to_owned(), "ROLE".to_owned(), "STATE".to_owned(), "SHOWN AS".to_owned()]];
    for user in answer.get("users").and_then(Value::as_array).into_iter().flatten() {
        let disabled = user.get("disabled").and_then(Value::as_bool).unwrap_or(false);
        let state = if disabled { "disabled" } else { "active" };
        rows.push(vec![cell(user, "name"), cell(user, "role"), state.to_owned(), cell(user, "display_name")]);
    }
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Alone {
        #[command(flatten)]
        user: UserArgs,
    }

    #[test]
    fn the_command_line_is_understood() {
        let parse = |line: &str| Alone::try_parse_from(line.split(' ')).map(|alone| alone.user.command);
        assert!(
            matches!(parse("user add lilei --role admin").unwrap(), UserCommand::Add(add) if add.role == Role::Admin)
        );
        assert!(matches!(parse("user add bot").unwrap(), UserCommand::Add(add) if add.role == Role::Member));
        assert!(matches!(parse("user disable x --undo").unwrap(), UserCommand::Disable(disable) if disable.undo));
        parse("user add lilei --role king").unwrap_err();
        parse("user add").unwrap_err();
        parse("user").unwrap_err();
    }

    #[test]
    fn names_stay_one_segment() {
        assert_eq!(user_path("li.lei/../x?y", "disable"), "/admin/v1/users/li%2Elei%2F%2E%2E%2Fx%3Fy/disable");
        assert_eq!(user_path("李", "password"), "/admin/v1/users/%E6%9D%8E/password");
    }

    #[test]
    fn the_password_is_the_first_line() {
        assert_eq!(first_line(&mut &b"three blue kettles\r\nmore"[..]).unwrap(), "three blue kettles");
        assert_eq!(first_line(&mut &b" with blanks "[..]).unwrap(), " with blanks ");
        assert_eq!(first_line(&mut &b"\n"[..]).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn users_are_listed_in_columns() {
        let answer =
            json!({ "users": [{ "name": "lilei", "role": "owner", "disabled": true, "display_name": "李雷" }] });
        assert_eq!(list(&answer), "NAME   ROLE   STATE     SHOWN AS\nlilei  owner  disabled  李雷\n");
    }
}
