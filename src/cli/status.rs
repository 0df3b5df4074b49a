//! `holdfast status`: asks the running server how it is.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::admin_client::AdminClient;
use super::{CliError, Global, Output, output};

/// Where the server answers on its admin socket. The answer is one JSON object; what it holds is shown as it is.
pub const STATUS_PATH: &str = "/admin/v1/status";

/// `holdfast status`
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  holdfast status --data /srv/holdfast
  holdfast status --data /srv/holdfast --json | jq .role")]
pub struct StatusArgs {}

/// Runs it.
pub fn run(global: &Global, _args: &StatusArgs, output: &Output) -> Result<(), CliError> {
    let status = AdminClient::new(&global.data).request_blocking(Method::GET, STATUS_PATH, None)?;
    output.show(&status, &format!("{}{}", headline(&status), text(&status)))
}

/// What an operator wants to know first, in sentences; the figures follow.
fn headline(status: &Value) -> String {
    let mut lines = String::new();
    let sentences = [status.pointer("/pair/summary"), status.get("backup_summary"), status.get("summary")];
    for sentence in sentences.into_iter().flatten().filter_map(Value::as_str) {
        lines.push_str(&format!("{sentence}\n"));
    }
    for notice in status.get("notices").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        lines.push_str(&format!("! {notice}\n"));
    }
    for alarm in status.get("backup_alarms").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| alarm.get(name).and_then(Value::as_str).unwrap_or_default();
        lines.push_str(&format!("! {}\n  -> {}\n", part("text"), part("action")));
    }
    if lines.is_empty() { lines } else { lines + "\n" }
}

/// One line per figure, nested ones with dots: `disk.free_bytes`.
pub(super) fn text(status: &Value) -> String {
    fn visit(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    let name = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    visit(&name, member, rows);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    visit(&format!("{prefix}[{index}]"), item, rows);
                }
            }
            Value::String(text) => rows.push(vec![prefix.to_owned(), text.clone()]),
            other => rows.push(vec![prefix.to_owned(), other.to_string()]),
        }
    }
    let mut rows = Vec::new();
    visit("", status, &mut rows);
    output::table(&rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_figures_become_lines() {
        let status = json!({ "role": "active", "disk": { "free_bytes": 7 }, "workers": [{ "name": "a" }] });
        assert_eq!(text(&status), "disk.free_bytes  7\nrole             active\nworkers[0].name  a\n");
    }

    #[test]
    fn without_a_server_it_says_how_to_start_one() {
        let dir = tempfile::tempdir().unwrap();
        let global = Global { data: dir.path().to_owned(), json: false };
        let error = run(&global, &StatusArgs {}, &Output::new(false)).unwrap_err();
        assert!(error.to_string().contains("holdfast serve --data"), "{error}");
        assert_eq!(error.exit_code(), 1);
    }
}
