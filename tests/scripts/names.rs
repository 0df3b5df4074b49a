//! The names of a script and the ids behind them, both ways: commands are written with names, traces are read with them.

use std::collections::BTreeMap;

use holdfast::core::keys::name_hash;

/// What `?` in front of a name stands for: an id that nothing has.
pub(crate) const NOBODY: u64 = 999_999_999_999_999;

/// Names by kind and what to print instead of what.
#[derive(Clone, Default)]
pub(crate) struct Names {
    ids: BTreeMap<String, u64>,
    by_id: BTreeMap<u64, String>,
    texts: Vec<(String, String)>,
}

impl Names {
    /// Gives an id a name, such as `@anna` or `#general`. The first name stays.
    pub(crate) fn set(&mut self, name: &str, id: u64) {
        self.ids.entry(name.to_owned()).or_insert(id);
        self.by_id.entry(id).or_insert_with(|| name.to_owned());
    }

    /// The id of a name.
    pub(crate) fn id(&self, sigil: char, name: &str) -> Result<u64, String> {
        if name.starts_with('?') {
            return Ok(NOBODY);
        }
        self.ids.get(&format!("{sigil}{name}")).copied().ok_or_else(|| format!("there is no {sigil}{name}"))
    }

    /// Prints the lookup hash of a user's or a channel's name as that name.
    pub(crate) fn hash_of(&mut self, name: &str) {
        let shown = format!("{:?}", name.to_lowercase());
        self.texts.push((format!("{:?}", name_hash(name)), shown));
    }

    /// The 16 bytes of a token or a client id: its name, filled with zeros. They are printed as the name.
    pub(crate) fn bytes_of(&mut self, name: &str) -> bytes::Bytes {
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(name.bytes()).for_each(|(slot, byte)| *slot = byte);
        let uuid = uuid::Uuid::from_bytes(bytes).to_string();
        let shared = bytes::Bytes::copy_from_slice(&bytes);
        for text in [format!("{bytes:?}"), format!("\"{uuid}\""), format!("{shared:?}")] {
            if !self.texts.iter().any(|(known, _)| *known == text) {
                self.texts.push((text, format!("'{name}'")));
            }
        }
        shared
    }

    /// A trace with names for ids, and times as milliseconds since `start_ms`.
    pub(crate) fn apply(&self, text: &str, start_ms: u64) -> String {
        let mut text = text.to_owned();
        for (from, to) in &self.texts {
            text = text.replace(from, to);
        }
        let mut out = String::with_capacity(text.len());
        let mut digits = String::new();
        for c in text.chars().chain(std::iter::once('\n')) {
            if c.is_ascii_digit() {
                digits.push(c);
                continue;
            }
            if !digits.is_empty() {
                out.push_str(&self.number(&digits, start_ms));
                digits.clear();
            }
            out.push(c);
        }
        out.pop();
        // Ids are strings in JSON, names need no quotes: `"@anna"` reads as `@anna`.
        for name in self.ids.keys() {
            out = out.replace(&format!("\"{name}\""), name);
        }
        out
    }

    fn number(&self, digits: &str, start_ms: u64) -> String {
        let value: u64 = digits.parse().unwrap_or_default();
        if let Some(name) = self.by_id.get(&value) {
            return name.clone();
        }
        let day = 86_400_000;
        // Nothing else in a script is this large.
        if value >= start_ms && value < start_ms + 20_000 * day {
            let (days, ms) = ((value - start_ms) / day, (value - start_ms) % day);
            return if days > 0 { format!("t+{days}d+{ms}ms") } else { format!("t+{ms}ms") };
        }
        digits.to_owned()
    }
}
