//! The one thing that we read out of XML ourselves: the text of the first element of a name. Must never unescape or follow
//! anything.

/// The text between the first `<name>` and the `</name>` after it.
pub(super) fn between<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn the_first_element_counts_and_an_open_end_is_none() {
        let text = "<Error><Code>SlowDown</Code><Code>other</Code><Message>half";
        assert_eq!(between(text, "Code"), Some("SlowDown"));
        assert_eq!(between(text, "Message"), None);
        assert_eq!(between(text, "Absent"), None);
    }
}
