//! The form of names and texts: pure checks that the API makes before it builds a command, so that the log holds only
//! what is well-formed. Each gives the stable code that the client translates.

use crate::limits;

/// What is wrong with a text: a stable code and, in English, what would be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormError {
    /// The stable code.
    pub code: &'static str,
    /// What is expected.
    pub expected: &'static str,
}

/// A sign-in name in its stored form: trimmed, lower case.
///
/// # Errors
/// `invalid_username` unless it has 2 to 64 letters (of any script), digits, `.`, `_`, `-` and begins with a letter or digit.
pub fn username(text: &str) -> Result<String, FormError> {
    let name = text.trim().to_lowercase();
    let count = name.chars().count();
    let mark = |c: char| matches!(c, '.' | '_' | '-');
    let well_formed = (2..=limits::USERNAME_CHARS_MAX).contains(&count)
        && name.chars().all(|c| c.is_alphanumeric() || mark(c))
        && name.chars().next().is_some_and(char::is_alphanumeric);
    if well_formed {
        return Ok(name);
    }
    Err(FormError {
        code: "invalid_username",
        expected: "2 to 64 letters, digits, dots, underscores or hyphens, beginning with a letter or digit",
    })
}

/// A line of text for people: trimmed, without control characters.
fn line(text: &str, chars: std::ops::RangeInclusive<usize>) -> Option<String> {
    let text = text.trim();
    let shown = text.is_empty() || text.chars().any(|c| !is_invisible(c));
    let fits = chars.contains(&text.chars().count()) && !text.chars().any(is_unsafe) && shown;
    fits.then(|| text.to_owned())
}

/// Characters that show nothing. Some belong into names (joiners in emoji and in several scripts), but a name must not
/// consist of them.
fn is_invisible(c: char) -> bool {
    let marks = matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{206f}');
    let fillers = matches!(c, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}');
    c.is_whitespace() || marks || fillers || matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0000}'..='\u{e0fff}')
}

/// Control characters, and the marks that reverse the direction of the text around them (names made to deceive).
fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The name others see.
///
/// # Errors
/// `invalid_display_name` unless it has 1 to 80 characters on one line.
pub fn display_name(text: &str) -> Result<String, FormError> {
    line(text, 1..=limits::DISPLAY_NAME_CHARS_MAX)
        .ok_or(FormError { code: "invalid_display_name", expected: "1 to 80 characters on one line" })
}

/// What people call a member of the pair.
///
/// # Errors
/// `invalid_node_name` unless it has 1 to 80 characters on one line.
pub fn node_name(text: &str) -> Result<String, FormError> {
    line(text, 1..=limits::PAIR_NAME_CHARS_MAX)
        .ok_or(FormError { code: "invalid_node_name", expected: "1 to 80 characters on one line" })
}

/// A channel's name.
///
/// # Errors
/// `invalid_channel_name` unless it has 1 to 80 characters on one line.
pub fn channel_name(text: &str) -> Result<String, FormError> {
    line(text, 1..=limits::CHANNEL_NAME_CHARS_MAX)
        .ok_or(FormError { code: "invalid_channel_name", expected: "1 to 80 characters on one line" })
}

/// A channel's topic.
///
/// # Errors
/// `invalid_topic` unless it has at most 250 characters on one line.
pub fn topic(text: &str) -> Result<String, FormError> {
    line(text, 0..=limits::TOPIC_CHARS_MAX)
        .ok_or(FormError { code: "invalid_topic", expected: "at most 250 characters on one line" })
}

/// An organisation's name.
///
/// # Errors
/// `invalid_organisation` unless it has 1 to 120 characters on one line.
pub fn organisation(text: &str) -> Result<String, FormError> {
    line(text, 1..=limits::ORGANISATION_CHARS_MAX)
        .ok_or(FormError { code: "invalid_organisation", expected: "1 to 120 characters on one line" })
}

/// A language the product speaks; empty: no choice.
///
/// # Errors
/// `invalid_locale` for any other.
pub fn locale(text: &str) -> Result<String, FormError> {
    if matches!(text, "" | "en" | "zh-CN") {
        return Ok(text.to_owned());
    }
    Err(FormError { code: "invalid_locale", expected: "en, zh-CN or empty" })
}

/// The name of a time zone in the IANA form. Whether it exists is the client's affair: the server has no zone database.
///
/// # Errors
/// `invalid_time_zone` unless it looks like `UTC` or `Area/City`.
pub fn time_zone(text: &str) -> Result<String, FormError> {
    let form = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    if (1..=limits::TIME_ZONE_CHARS_MAX).contains(&text.len()) && text.chars().all(form) {
        return Ok(text.to_owned());
    }
    Err(FormError { code: "invalid_time_zone", expected: "an IANA name such as UTC or Asia/Shanghai" })
}

/// What a device calls itself: cut to size, made safe, never refused.
#[must_use]
pub fn device(text: &str) -> String {
    text.trim().chars().filter(|c| !is_unsafe(*c)).take(limits::DEVICE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_script_are_welcome_and_lower_cased() {
        assert_eq!(username(" Anna.B ").unwrap(), "anna.b");
        assert_eq!(username("王小明").unwrap(), "王小明");
        for bad in ["", "a", ".anna", "an na", "anna\u{0}", "a/b", &"x".repeat(65)] {
            assert_eq!(username(bad).unwrap_err().code, "invalid_username", "{bad:?}");
        }
    }

    #[test]
    fn texts_that_deceive_are_refused() {
        assert!(display_name("admin\u{202e}nimda").is_err());
        assert!(display_name("two\nlines").is_err());
        assert!(display_name("   ").is_err());
        for nothing in ["\u{200b}", "\u{2800}\u{3164}", "\u{200d} \u{fe0f}", "\u{feff}"] {
            assert!(display_name(nothing).is_err() && channel_name(nothing).is_err(), "{nothing:?} shows nothing");
        }
        assert!(display_name("👩\u{200d}💻").is_ok() && display_name("می\u{200c}خواهم").is_ok());
        assert_eq!(display_name(" 王 ").unwrap(), "王");
        assert!(topic("").is_ok());
        assert!(channel_name("").is_err());
    }

    #[test]
    fn locales_and_zones() {
        assert!(locale("zh-CN").is_ok() && locale("").is_ok() && locale("fr").is_err());
        assert!(time_zone("Asia/Shanghai").is_ok() && time_zone("../etc").is_err() && time_zone("").is_err());
        assert_eq!(device("  Firefox\u{7} on Linux "), "Firefox on Linux");
        assert_eq!(device(&"x".repeat(500)).len(), limits::DEVICE_CHARS_MAX);
    }
}
