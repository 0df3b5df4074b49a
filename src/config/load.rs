//! Puts the layers together: defaults, file, environment, flags. Pure but for reading one file: the environment is passed in.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::error::{ConfigError, ConfigSource, nearest};
use super::{Config, check, sections};
use crate::limits::CONFIG_FILE_BYTES_MAX;

/// Variables that flags read themselves: they are not settings of the file.
const OTHER_VARIABLES: [&str; 3] = ["HOLDFAST_DATA", "HOLDFAST_CONFIG", "HOLDFAST_BENCH_TOKEN"];

/// What flags set; they win over everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlagSettings {
    /// `--listen`
    pub listen: Option<String>,
    /// `--public-url`
    pub public_url: Option<String>,
    /// `--no-tls`
    pub no_tls: bool,
    /// `--behind-proxy`
    pub behind_proxy: bool,
}

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Sources<'a> {
    /// A file that was named: it must exist.
    pub named_file: Option<&'a Path>,
    /// A file that is read when it exists: `<data>/holdfast.toml`.
    pub default_file: Option<&'a Path>,
    /// The environment; only names that begin with `HOLDFAST_` are looked at.
    pub environment: Vec<(String, String)>,
    /// The flags.
    pub flags: FlagSettings,
}

/// A configuration that was checked, and what the operator should know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Sentences for the log: variables that look like settings and are none.
    pub warnings: Vec<String>,
}

/// Reads, layers and checks the configuration.
pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigError> {
    let file = read_file(sources)?;
    let mut table = match &file {
        Some(file) => parse_file(file)?,
        None => toml::Table::new(),
    };
    let mut origins = check::Origins::default();
    if let Some(file) = file {
        origins.set_file(file.path, file.text);
    }
    let warnings = apply_environment(&mut table, &sources.environment, &mut origins)?;
    let mut config: Config = table.try_into().map_err(|error: toml::de::Error| ConfigError {
        source: ConfigSource::Settings,
        key: String::new(),
        problem: error.message().to_owned(),
        hint: String::new(),
    })?;
    apply_flags(&mut config, &sources.flags, &mut origins);
    check::check(&config, &origins)?;
    Ok(Loaded { config, warnings })
}

struct ConfigFile {
    path: String,
    text: String,
}

impl ConfigFile {
    fn error(&self, line: usize, key: String, problem: String) -> ConfigError {
        let source = ConfigSource::File { path: self.path.clone(), line };
        ConfigError { source, key, problem, hint: String::new() }
    }
}

fn read_file(sources: &Sources<'_>) -> Result<Option<ConfigFile>, ConfigError> {
    let Some(path) = sources.named_file.or(sources.default_file) else { return Ok(None) };
    let shown = path.display().to_string();
    let failed = |problem: String, hint: &str| ConfigError {
        source: ConfigSource::File { path: shown.clone(), line: 0 },
        key: String::new(),
        problem,
        hint: hint.to_owned(),
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && sources.named_file.is_none() => return Ok(None),
        Err(error) => {
            return Err(failed(format!("cannot be read: {error}"), "make one with `holdfast config example > FILE`"));
        }
    };
    let mut text = String::new();
    match file.take(CONFIG_FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > CONFIG_FILE_BYTES_MAX => {
            Err(failed(format!("larger than {CONFIG_FILE_BYTES_MAX} bytes"), "this is not a configuration file"))
        }
        Ok(_) => Ok(Some(ConfigFile { path: shown, text })),
        Err(error) => Err(failed(format!("cannot be read: {error}"), "it must be UTF-8 text")),
    }
}

/// Parses twice: as a table to judge the keys with our own words, and as the typed configuration to judge the values.
fn parse_file(file: &ConfigFile) -> Result<toml::Table, ConfigError> {
    let at = |error: &toml::de::Error| error.span().map_or(0, |span| line_of(&file.text, span.start));
    let table: toml::Table = toml::from_str(&file.text)
        .map_err(|error| file.error(at(&error), String::new(), error.message().to_owned()))?;
    refuse_unknown_keys(file, &table)?;
    toml::from_str::<Config>(&file.text).map_err(|error| {
        let line = at(&error);
        file.error(line, check::key_at_line(&file.text, line), error.message().to_owned())
    })?;
    Ok(table)
}

fn refuse_unknown_keys(file: &ConfigFile, table: &toml::Table) -> Result<(), ConfigError> {
    let known = sections();
    for (name, value) in table {
        let Some(section) = known.iter().find(|section| section.name == name) else {
            let line = check::line_of_key(&file.text, name, None);
            let mut error = file.error(line, name.clone(), format!("there is no section [{name}]"));
            // A key at the top of the file most often belongs into a section.
            let holder = known.iter().find(|section| section.fields.iter().any(|field| field.name == name));
            error.hint = match (holder, nearest(name, known.iter().map(|section| section.name))) {
                (Some(section), _) => format!("{name} belongs under [{}]", section.name),
                (None, Some(near)) => format!("did you mean [{near}]?"),
                (None, None) => format!("there are {}", list(known.iter().map(|section| section.name))),
            };
            return Err(error);
        };
        for key in value.as_table().into_iter().flat_map(toml::Table::keys) {
            let names = || section.fields.iter().map(|field| field.name);
            if !names().any(|field| field == key) {
                let line = check::line_of_key(&file.text, name, Some(key));
                let mut error = file.error(line, format!("{name}.{key}"), "there is no such setting".to_owned());
                error.hint = nearest(key, names())
                    .map_or_else(|| format!("[{name}] has {}", list(names())), |near| format!("did you mean {near}?"));
                return Err(error);
            }
        }
    }
    Ok(())
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// Sets what the environment sets, and returns a warning for each variable that is meant for us but is no setting.
///
/// Only a warning: container platforms add variables such as `HOLDFAST_SERVICE_HOST` by themselves.
fn apply_environment(
    table: &mut toml::Table,
    environment: &[(String, String)],
    origins: &mut check::Origins,
) -> Result<Vec<String>, ConfigError> {
    let known: Vec<(String, &str, &str)> = sections()
        .iter()
        .flat_map(|section| section.fields.iter().map(|field| (section.name, field.name)))
        .map(|(section, field)| (format!("HOLDFAST_{section}_{field}").to_uppercase(), section, field))
        .collect();
    let mut warnings = Vec::new();
    for (name, raw) in environment {
        if !name.starts_with("HOLDFAST_") || OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        match known.iter().find(|(variable, ..)| variable == name) {
            Some((_, section, field)) => {
                set_from_environment(table, (section, field), (name, raw))?;
                origins.set_variable(section, field, name);
            }
            None => {
                let near = nearest(name, known.iter().map(|(variable, ..)| variable.as_str()));
                let hint = near.map_or(String::new(), |near| format!("; did you mean {near}?"));
                warnings.push(format!("the environment variable {name} is not a setting of holdfast{hint}"));
            }
        }
    }
    Ok(warnings)
}

/// Tries the text as TOML (`true`, `12`, `["a"]`), then as a plain string, then as a list with commas: the first that the
/// setting accepts is it.
fn set_from_environment(
    table: &mut toml::Table,
    (section, field): (&str, &str),
    (name, raw): (&str, &str),
) -> Result<(), ConfigError> {
    let as_toml = toml::from_str::<toml::Table>(&format!("v = {raw}")).ok().and_then(|mut table| table.remove("v"));
    let as_list = raw.split(',').map(|part| toml::Value::from(part.trim())).collect::<Vec<_>>();
    let candidates = as_toml.into_iter().chain([toml::Value::from(raw), toml::Value::Array(as_list)]);
    let mut problem = String::new();
    for candidate in candidates {
        let mut section_table = match table.get(section) {
            Some(toml::Value::Table(section_table)) => section_table.clone(),
            _ => toml::Table::new(),
        };
        section_table.insert(field.to_owned(), candidate);
        let mut alone = toml::Table::new();
        alone.insert(section.to_owned(), toml::Value::Table(section_table.clone()));
        match alone.try_into::<Config>() {
            Ok(_) => {
                table.insert(section.to_owned(), toml::Value::Table(section_table));
                return Ok(());
            }
            Err(error) if problem.is_empty() => problem = error.message().to_owned(),
            Err(_) => {}
        }
    }
    Err(ConfigError {
        source: ConfigSource::Environment(name.to_owned()),
        key: format!("{section}.{field}"),
        problem,
        hint: String::new(),
    })
}

fn apply_flags(config: &mut Config, flags: &FlagSettings, origins: &mut check::Origins) {
    if let Some(listen) = &flags.listen {
        config.server.listen.clone_from(listen);
        origins.set_flag("server", "listen");
    }
    if let Some(public_url) = &flags.public_url {
        config.server.public_url = Some(public_url.clone());
        origins.set_flag("server", "public_url");
    }
    if flags.no_tls {
        config.tls.enabled = false;
        origins.set_flag("tls", "enabled");
    }
    if flags.behind_proxy {
        config.server.behind_proxy = true;
        origins.set_flag("server", "behind_proxy");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_file(text: &str) -> Result<Loaded, ConfigError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holdfast.toml");
        std::fs::write(&path, text).unwrap();
        load(&Sources { named_file: Some(&path), ..Sources::default() }).map_err(|mut error| {
            if let ConfigSource::File { path, .. } = &mut error.source {
                *path = "holdfast.toml".to_owned();
            }
            error
        })
    }

    fn refusal(text: &str) -> String {
        from_file(text).unwrap_err().to_string()
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn no_source_is_the_defaults() {
        let missing = Path::new("/nonexistent/holdfast.toml");
        let loaded = load(&Sources { default_file: Some(missing), ..Sources::default() }).unwrap();
        assert_eq!(loaded.config, Config::default());
        let named = load(&Sources { named_file: Some(missing), ..Sources::default() }).unwrap_err();
        assert!(named.to_string().starts_with("/nonexistent/holdfast.toml: cannot be read"), "{named}");
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holdfast.toml");
        std::fs::write(
            &path,
            "[server]\nlisten = \"10.0.0.1:1\"\n[storage]\ndisk_reserve_mib = 100\n[limits]\nconnections_max = 77\n",
        )
        .unwrap();
        let loaded = load(&Sources {
            named_file: Some(&path),
            environment: variables(&[
                ("HOLDFAST_SERVER_LISTEN", "10.0.0.2:2"),
                ("HOLDFAST_STORAGE_DISK_RESERVE_MIB", "200"),
                ("HOLDFAST_DATA", "/x"),
                ("PATH", "/bin"),
            ]),
            flags: FlagSettings { listen: Some("10.0.0.3:3".to_owned()), ..FlagSettings::default() },
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(loaded.config.server.listen, "10.0.0.3:3");
        assert_eq!(loaded.config.storage.disk_reserve_mib, 200);
        assert_eq!(loaded.config.limits.connections_max, 77);
        assert_eq!(loaded.config.auth, super::super::AuthConfig::default());
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }

    #[test]
    fn variables_of_every_type() {
        let environment = variables(&[
            ("HOLDFAST_TLS_NAMES", "chat.lan, 10.1.1.1"),
            ("HOLDFAST_SERVER_TRUSTED_PROXIES", "[\"10.0.0.9\"]"),
            ("HOLDFAST_LOGGING_STDERR", "false"),
            ("HOLDFAST_LOGGING_FORMAT", "json"),
            ("HOLDFAST_SERVER_PUBLIC_URL", "https://chat.lan"),
            ("HOLDFAST_SERVICE_HOST", "10.96.0.1"),
            ("HOLDFAST_SERVER_LISTN", "x"),
        ]);
        let loaded = load(&Sources { environment, ..Sources::default() }).unwrap();
        assert_eq!(loaded.config.tls.names, ["chat.lan", "10.1.1.1"]);
        assert_eq!(loaded.config.server.trusted_proxies, ["10.0.0.9"]);
        assert!(!loaded.config.logging.stderr);
        assert_eq!(loaded.config.logging.format, crate::ops::logging::LogFormat::Json);
        assert_eq!(loaded.config.server.public_url.as_deref(), Some("https://chat.lan"));
        assert_eq!(loaded.warnings.len(), 2);
        assert!(loaded.warnings[1].contains("HOLDFAST_SERVER_LISTEN"), "{:?}", loaded.warnings);

        let environment = variables(&[("HOLDFAST_LIMITS_CONNECTIONS_MAX", "many")]);
        let error = load(&Sources { environment, ..Sources::default() }).unwrap_err().to_string();
        assert!(error.starts_with("HOLDFAST_LIMITS_CONNECTIONS_MAX: limits.connections_max: "), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_line_key_and_what_was_meant() {
        assert_eq!(
            refusal("# x\n[server]\nlisten = \"0.0.0.0:1\"\nlisen = 1\n"),
            "holdfast.toml:4: server.lisen: there is no such setting; did you mean listen?"
        );
        assert_eq!(
            refusal("\n[sever]\n"),
            "holdfast.toml:2: sever: there is no section [sever]; did you mean [server]?"
        );
        assert_eq!(
            refusal("listen = \"x\"\n"),
            "holdfast.toml:1: listen: there is no section [listen]; listen belongs under [server]"
        );
        let error = refusal("[auth]\n\nlogin_account_burst = \"thirty\"\n");
        assert!(error.starts_with("holdfast.toml:3: auth.login_account_burst: invalid type"), "{error}");
        let error = refusal("[auth]\nlogin_account_burst = -3\n");
        assert!(error.starts_with("holdfast.toml:2: auth.login_account_burst: invalid value"), "{error}");
        let error = refusal("[logging]\nformat = \"xml\"\n");
        assert!(error.contains(":2: logging.format: ") && error.contains("`text`"), "{error}");
        let error = refusal("[server\n");
        assert!(error.starts_with("holdfast.toml:1: "), "{error}");
        let error = refusal("[server]\nlisten = \"0.0.0.0:1\"\nlisten = \"0.0.0.0:2\"\n");
        assert!(error.starts_with("holdfast.toml:3: ") && error.contains("duplicate"), "{error}");
        let error = refusal("[server]\nwhatever_this_is = 1\n");
        assert!(error.contains("[server] has listen, public_url"), "{error}");
        assert!(refusal("server = 3\n").starts_with("holdfast.toml:1: "));
    }
}
