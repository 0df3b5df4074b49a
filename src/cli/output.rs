//! How commands print: text for people, one JSON object per command for programs. Results go to standard output, everything
//! else to standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

/// Why a command failed.
#[derive(Debug)]
pub enum CliError {
    /// It could not be done. Exit code 1.
    Failed(String),
    /// It was asked for wrongly: flags or configuration. Exit code 2.
    Usage(String),
    /// It was done and the answer is "no" (a check failed); everything was printed already. Exit code 1.
    Reported,
}

impl CliError {
    /// A failure, in the words of `error`.
    pub fn failed(error: impl fmt::Display) -> CliError {
        CliError::Failed(error.to_string())
    }

    /// A usage error, in the words of `error`.
    pub fn usage(error: impl fmt::Display) -> CliError {
        CliError::Usage(error.to_string())
    }

    /// The exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            CliError::Failed(_) | CliError::Reported => 1,
            CliError::Usage(_) => 2,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CliError::Failed(text) | CliError::Usage(text) => f.write_str(text),
            CliError::Reported => Ok(()),
        }
    }
}

impl std::error::Error for CliError {}

/// Prints in the form that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    /// `json`: one JSON object instead of text.
    pub fn new(json: bool) -> Output {
        Output { json }
    }

    /// Whether JSON was asked for.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints `value` as JSON, or `text` for people.
    pub fn show<T: Serialize>(&self, value: &T, text: &str) -> Result<(), CliError> {
        if self.json {
            let line = serde_json::to_string_pretty(value).map_err(CliError::failed)?;
            return self.raw(&format!("{line}\n"));
        }
        self.raw(&format!("{}\n", text.trim_end()))
    }

    /// Prints `text` as it is. A reader that went away (`| head`) is not an error.
    pub fn raw(&self, text: &str) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::failed(error)),
            _ => Ok(()),
        }
    }

    /// Prints one line; false when the reader went away.
    pub fn line(&self, text: &str) -> Result<bool, CliError> {
        let mut out = io::stdout().lock();
        match out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(CliError::failed(error)),
        }
    }

    /// Prints why the command failed, on standard error.
    pub fn error(&self, error: &CliError) {
        match error {
            CliError::Reported => {}
            error if self.json => eprintln!("{}", json!({ "error": error.to_string() })),
            error => eprintln!("holdfast: {error}"),
        }
    }
}

/// How far long work has come, on standard error: at most twice a second on a terminal, every five seconds elsewhere.
pub(super) struct Progress {
    said: std::time::Instant,
    every: std::time::Duration,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let terminal = io::IsTerminal::is_terminal(&io::stderr());
        let milliseconds = if terminal { 500 } else { 5_000 };
        Progress { said: std::time::Instant::now(), every: std::time::Duration::from_millis(milliseconds) }
    }

    /// Says it, unless it was said just now.
    pub(super) fn say(&mut self, text: &str) {
        if self.said.elapsed() >= self.every {
            eprintln!("{text}");
            self.said = std::time::Instant::now();
        }
    }
}

/// Lines up columns of text: each is as wide as its widest cell, two blanks between.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, column_width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', column_width + 2 - width(cell)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["name", "role"], ["lilei", "owner"], ["韩梅梅", "member"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        assert_eq!(table(&rows), "name   role\nlilei  owner\n韩梅梅    member\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn exit_codes_are_fixed() {
        assert_eq!(CliError::failed("x").exit_code(), 1);
        assert_eq!(CliError::usage("x").exit_code(), 2);
        assert_eq!(CliError::Reported.exit_code(), 1);
    }
}
