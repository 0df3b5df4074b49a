//! Logging: daily files in the data directory and text on standard error, with a level that can change at run time.
//! Must never slow a write (lines go through a bounded, lossy queue) nor contain a secret.

use std::fmt;
use std::fs::{DirBuilder, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use super::durable_file::DIR_MODE;
use crate::limits::{LOG_FILES_MAX_DEFAULT, LOG_FILTER_BYTES_MAX, LOG_LINES_BUFFERED_MAX};

/// How lines in the files look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per line, for a collector.
    Json,
}

/// What to log and where.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Directory of the files; `None`: no files (commands that only print).
    pub dir: Option<PathBuf>,
    /// Form of the lines in the files.
    pub format: LogFormat,
    /// Filter directive: `info`, or `info,holdfast::oplog=debug`.
    pub filter: String,
    /// Daily files kept.
    pub files_max: usize,
    /// Whether text also goes to standard error.
    pub stderr: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            dir: None,
            format: LogFormat::Text,
            filter: "info".to_owned(),
            files_max: LOG_FILES_MAX_DEFAULT,
            stderr: true,
        }
    }
}

impl LogOptions {
    /// What the configuration says, with the files in `<data>/logs`.
    pub fn from_config(config: &crate::config::LoggingConfig, data: &Path) -> LogOptions {
        LogOptions {
            dir: Some(data.join("logs")),
            format: config.format,
            filter: config.level.clone(),
            files_max: config.files_max,
            stderr: config.stderr,
        }
    }
}

/// Why logging could not be set up or changed.
#[derive(Debug)]
pub enum LoggingError {
    /// The filter directive is not valid.
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The log directory cannot be used.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Logging is set up already in this process.
    AlreadySet,
}

impl fmt::Display for LoggingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoggingError::Filter { filter, reason } => write!(
                f,
                "{filter:?} is not a log filter: {reason}. Write a level (error, warn, info, debug, trace) or \
                 directives such as info,holdfast::oplog=debug"
            ),
            LoggingError::Directory { path, source } => {
                write!(f, "cannot write logs to {}: {source}; check that this user owns it", path.display())
            }
            LoggingError::AlreadySet => write!(f, "logging is already set up in this process"),
        }
    }
}

impl std::error::Error for LoggingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            LoggingError::Directory { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Changes the filter while the program runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogControl {
    handle: reload::Handle<EnvFilter, Registry>,
    dropped: Option<ErrorCounter>,
}

impl LogControl {
    /// Replaces the filter. A bad one is refused and the old one stays.
    pub fn set_filter(&self, filter: &str) -> Result<(), LoggingError> {
        let parsed = parse_filter(filter)?;
        self.handle
            .reload(parsed)
            .map_err(|error| LoggingError::Filter { filter: filter.to_owned(), reason: error.to_string() })
    }

    /// The filter in force.
    pub fn filter(&self) -> String {
        self.handle.with_current(ToString::to_string).unwrap_or_default()
    }

    /// Lines that were dropped because the disk was slower than the log.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines)
    }
}

/// Keeps the writer thread alive: hold it until the process ends, then the last lines are flushed.
#[derive(Debug)]
pub struct LogGuard {
    _files: Option<WorkerGuard>,
}

/// Checks a filter directive.
pub fn parse_filter(filter: &str) -> Result<EnvFilter, LoggingError> {
    let error = |reason: String| LoggingError::Filter { filter: filter.chars().take(80).collect(), reason };
    if filter.len() > LOG_FILTER_BYTES_MAX {
        return Err(error(format!("longer than {LOG_FILTER_BYTES_MAX} bytes")));
    }
    if filter.trim().is_empty() {
        return Err(error("it is empty".to_owned()));
    }
    EnvFilter::try_new(filter).map_err(|reason| error(reason.to_string()))
}

/// Sets up logging for the whole process. Once: a second call is refused.
pub fn install(options: &LogOptions) -> Result<(LogControl, LogGuard), LoggingError> {
    let (subscriber, control, guard) = build(options)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LoggingError::AlreadySet)?;
    Ok((control, guard))
}

type Built = (Box<dyn tracing::Subscriber + Send + Sync>, LogControl, LogGuard);

fn build(options: &LogOptions) -> Result<Built, LoggingError> {
    let (filter, handle) = reload::Layer::new(parse_filter(&options.filter)?);
    let (files, guard, dropped) = match &options.dir {
        Some(dir) => {
            let (writer, guard) = file_writer(dir, options.files_max)?;
            let dropped = writer.error_counter();
            (Some(file_layer(writer, options.format)), Some(guard), Some(dropped))
        }
        None => (None, None, None),
    };
    let stderr = options.stderr.then(|| {
        let ansi = io::IsTerminal::is_terminal(&io::stderr());
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(ansi).with_target(false)
    });
    let subscriber = Registry::default().with(filter).with(files).with(stderr);
    Ok((Box::new(subscriber), LogControl { handle, dropped }, LogGuard { _files: guard }))
}

fn file_writer(dir: &Path, files_max: usize) -> Result<(NonBlocking, WorkerGuard), LoggingError> {
    let error = |source: io::Error| LoggingError::Directory { path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir).map_err(error)?;
    // The appender makes its files with the umask's mode; the directory is what keeps others out.
    set_permissions(dir, std::fs::Permissions::from_mode(DIR_MODE)).map_err(error)?;
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("holdfast")
        .filename_suffix("log")
        .max_log_files(files_max.max(1))
        .build(dir)
        .map_err(|source| error(io::Error::other(source.to_string())))?;
    Ok(NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES_BUFFERED_MAX)
        .lossy(true)
        .thread_name("log-writer")
        .finish(appender))
}

fn file_layer<S>(writer: NonBlocking, format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::durable_file::mode_of;
    use super::*;

    fn written(dir: &Path) -> String {
        std::fs::read_dir(dir).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    fn quiet(dir: &Path, format: LogFormat) -> LogOptions {
        LogOptions { dir: Some(dir.to_owned()), format, stderr: false, ..LogOptions::default() }
    }

    #[test]
    fn json_lines_parse_and_the_level_changes_at_run_time() {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        let (subscriber, control, guard) = build(&quiet(&logs, LogFormat::Json)).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!("before");
            control.set_filter("debug").unwrap();
            tracing::debug!(user = "李雷", "after");
            assert!(control.set_filter("nonsense=loud=very").is_err());
            assert_eq!(control.filter(), "debug");
            tracing::debug!("still debug");
        });
        assert_eq!(control.dropped_lines(), 0);
        drop(guard);
        let text = written(&logs);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let messages: Vec<&str> = lines.iter().map(|line| line["message"].as_str().unwrap()).collect();
        assert_eq!(messages, ["after", "still debug"]);
        assert_eq!(lines[0]["user"], "李雷");
        assert_eq!(mode_of(&logs).unwrap(), DIR_MODE);
    }

    #[test]
    fn text_lines_carry_level_target_and_fields() {
        let dir = tempfile::tempdir().unwrap();
        let (subscriber, _control, guard) = build(&quiet(dir.path(), LogFormat::Text)).unwrap();
        tracing::subscriber::with_default(subscriber, || tracing::warn!(free_bytes = 7, "disk is nearly full"));
        drop(guard);
        let text = written(dir.path());
        assert!(
            text.contains("WARN") && text.contains("disk is nearly full") && text.contains("free_bytes=7"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "no terminal colours in a file");
    }

    #[test]
    fn bad_filters_are_refused_with_an_example() {
        for filter in ["", "   ", "info,holdfast=shouting", &"a".repeat(LOG_FILTER_BYTES_MAX + 1)] {
            let error = parse_filter(filter).unwrap_err();
            assert!(error.to_string().contains("info,holdfast::oplog=debug"), "{error}");
            assert!(error.to_string().len() < 400);
        }
        parse_filter("info,holdfast::oplog=debug").unwrap();
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = build(&quiet(&file, LogFormat::Text)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
    }
}
