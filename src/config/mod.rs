//! Configuration: flags over `HOLDFAST_*` over the TOML file over defaults. Unknown fields are refused.
//!
//! Every setting is declared once, in `sections`; the example file, the environment variables
//! (`HOLDFAST_<SECTION>_<KEY>`) and the list of valid keys come from there. Must never start on a setting it does not
//! understand.

mod check;
mod error;
mod example;
mod load;
mod macros;
mod sections;

pub use check::is_host_name;
pub use error::{ConfigError, ConfigSource};
pub use example::example_file;
pub use load::{FlagSettings, Loaded, Sources, load};
pub use macros::{FieldDoc, Section};
pub use sections::{
    AuthConfig, BackupConfig, LimitsConfig, LoggingConfig, PairConfig, ServerConfig, StorageConfig, TlsConfig,
};

use serde::{Deserialize, Serialize};

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the server listens.
    pub server: ServerConfig,
    /// The data disk.
    pub storage: StorageConfig,
    /// Encryption of the listening port.
    pub tls: TlsConfig,
    /// Log files.
    pub logging: LoggingConfig,
    /// Bounds.
    pub limits: LimitsConfig,
    /// Signing in.
    pub auth: AuthConfig,
    /// The pair.
    pub pair: PairConfig,
    /// Backups.
    pub backup: BackupConfig,
}

/// A section as a value: its name, its comment, its fields.
#[derive(Clone, Debug)]
pub struct SectionDoc {
    /// The name in brackets.
    pub name: &'static str,
    /// The lines of its comment.
    pub docs: &'static [&'static str],
    /// Its fields.
    pub fields: Vec<FieldDoc>,
}

/// All sections in the order of the example file.
pub fn sections() -> Vec<SectionDoc> {
    fn doc<S: Section>() -> SectionDoc {
        SectionDoc { name: S::NAME, docs: S::DOCS, fields: S::fields() }
    }
    vec![
        doc::<ServerConfig>(),
        doc::<StorageConfig>(),
        doc::<TlsConfig>(),
        doc::<LoggingConfig>(),
        doc::<LimitsConfig>(),
        doc::<AuthConfig>(),
        doc::<PairConfig>(),
        doc::<BackupConfig>(),
    ]
}
