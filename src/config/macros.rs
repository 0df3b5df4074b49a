//! `config_section!`: declares a struct of settings once, and from the same text its defaults, its list of fields and its part
//! of the example file. Must never let the example and the parser drift apart: there is only one source.

/// One field of a section, as the example file and the error messages need it.
#[derive(Clone, Debug)]
pub struct FieldDoc {
    /// The key.
    pub name: &'static str,
    /// The lines of its doc comment.
    pub docs: &'static [&'static str],
    /// The default (or, for a setting without one, an example) as TOML.
    pub example: String,
    /// Whether the field has no default.
    pub optional: bool,
}

/// A section of the configuration file.
pub trait Section {
    /// The name in brackets.
    const NAME: &'static str;
    /// The lines of the section's doc comment.
    const DOCS: &'static [&'static str];
    /// Its fields in the order of declaration.
    fn fields() -> Vec<FieldDoc>;
}

/// `value` as it stands right of the `=` in TOML.
pub(super) fn toml_text<T: serde::Serialize>(value: &T) -> String {
    toml::Value::try_from(value).map_or_else(|error| format!("# {error}"), |value| value.to_string())
}

macro_rules! config_section {
    (
        $(#[doc = $section_doc:literal])+
        pub struct $struct:ident in $name:literal {
            $( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $default:expr $(, example $example:literal)? ),+ $(,)?
        }
    ) => {
        $(#[doc = $section_doc])+
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $struct {
            $( $(#[doc = $doc])+ pub $field: $type, )+
        }

        impl Default for $struct {
            fn default() -> Self {
                $struct { $( $field: $default, )+ }
            }
        }

        impl $crate::config::macros::Section for $struct {
            const NAME: &'static str = $name;
            const DOCS: &'static [&'static str] = &[$($section_doc),+];

            fn fields() -> Vec<$crate::config::macros::FieldDoc> {
                let defaults = $struct::default();
                vec![$({
                    let examples: &[&str] = &[$($example)?];
                    $crate::config::macros::FieldDoc {
                        name: stringify!($field),
                        docs: &[$($doc),+],
                        example: match examples.first() {
                            Some(example) => $crate::config::macros::toml_text(example),
                            None => $crate::config::macros::toml_text(&defaults.$field),
                        },
                        optional: !examples.is_empty(),
                    }
                }),+]
            }
        }
    };
}

pub(super) use config_section;
