//! The example file, generated from the declarations in `sections`.

use std::fmt::Write;

use super::sections;

/// The commented example: every section and key with its comment, defaults commented out, so that a file made from it keeps
/// only what the administrator changed and follows the defaults of later versions otherwise.
pub fn example_file() -> String {
    let mut text = String::from(
        "# Configuration of holdfast. Put it into the data directory as holdfast.toml, or name it with --config.\n\
         # Every line below shows a default: remove the `#` before a key to change it.\n\
         # A variable HOLDFAST_<SECTION>_<KEY> (HOLDFAST_SERVER_LISTEN) counts over this file, a flag over both.\n",
    );
    for section in sections() {
        let _ = writeln!(text);
        for line in section.docs {
            let _ = writeln!(text, "#{line}");
        }
        let _ = writeln!(text, "[{}]", section.name);
        for field in section.fields {
            let _ = writeln!(text);
            for line in field.docs {
                let _ = writeln!(text, "#{line}");
            }
            let note = if field.optional { "  # an example; there is no default" } else { "" };
            let _ = writeln!(text, "#{} = {}{note}", field.name, field.example);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Config, sections};
    use super::*;

    /// The example with every setting switched on.
    fn uncommented() -> String {
        let is_setting = |line: &str| line.starts_with('#') && !line.starts_with("# ");
        example_file()
            .lines()
            .map(|line| if is_setting(line) { &line[1..] } else { line })
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn the_example_is_the_defaults() {
        assert_eq!(toml::from_str::<Config>(&example_file()).unwrap(), Config::default());
        let mut switched_on: Config = toml::from_str(&uncommented()).unwrap();
        assert_eq!(switched_on.server.public_url.take().as_deref(), Some("https://chat.example.lan"));
        assert!(switched_on.pair.on_active.take().unwrap().starts_with("/usr/local/lib/holdfast/virtual-ip add"));
        assert!(switched_on.pair.on_standby.take().unwrap().starts_with("/usr/local/lib/holdfast/virtual-ip remove"));
        assert_eq!(switched_on.backup.drill_key.take().as_deref(), Some("/etc/holdfast/drill-key.txt"));
        assert_eq!(switched_on, Config::default());
    }

    #[test]
    fn every_field_is_in_the_example_with_a_comment() {
        let table = uncommented().parse::<toml::Table>().unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in &defaults {
            for key in keys.as_table().unwrap().keys() {
                assert!(table[section].get(key).is_some(), "{section}.{key} is not in the example");
            }
        }
        let sections = sections();
        assert_eq!(sections.len(), defaults.len(), "a section without documentation");
        for section in sections {
            for field in &section.fields {
                assert!(field.docs.concat().len() > 20, "{}.{} needs a comment", section.name, field.name);
                assert!(table[section.name].get(field.name).is_some(), "{}.{}", section.name, field.name);
            }
        }
    }
}
