//! What is wrong with the configuration, where, and what would be right.

use std::fmt;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where the setting came from: a file, an environment variable, a flag.
    pub source: ConfigSource,
    /// The setting, `section.key`; empty when the file as a whole is wrong.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to do; empty when the problem says it.
    pub hint: String,
}

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// A line of the configuration file, counted from 1; 0 when no line is to blame.
    File {
        /// The path as given.
        path: String,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag, or settings from several places together.
    Settings,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            ConfigSource::File { path, line: 0 } => write!(f, "{path}: ")?,
            ConfigSource::File { path, line } => write!(f, "{path}:{line}: ")?,
            ConfigSource::Environment(name) => write!(f, "{name}: ")?,
            ConfigSource::Settings => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl std::error::Error for ConfigError {}

/// The candidate nearest to `text`, if one is near enough to be what was meant (a third of its letters may differ).
pub(super) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (distance(text, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance in characters: insertions, deletions, replacements.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    // Keys are short; a mistyped one of a megabyte is cut, which changes no answer.
    for (above, from) in left.chars().take(256).enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_found_or_none() {
        let keys = ["listen", "public_url", "behind_proxy"];
        assert_eq!(nearest("lisen", keys), Some("listen"));
        assert_eq!(nearest("publicurl", keys), Some("public_url"));
        assert_eq!(nearest("port", keys), None);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }
}
