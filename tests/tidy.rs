//! What no compiler checks: lengths, banned calls, headers, reasons, layers, hosts and paths that must not be in here.
//!
//! The lists of exceptions only ever get shorter: an entry that is no longer needed fails the test, too.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "tests fail by panicking and say why on stderr")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The longest file, in lines.
const FILE_LINES_MAX: usize = 800;
/// The longest function, in lines, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Files and functions that are longer, with how long they may be.
const LONGER: &[(&str, usize)] = &[
    // Lists of samples and figures, one after the other.
    ("src/projection/tests/golden.rs:samples", 135),
    ("src/projection/tests/measure.rs:measure", 81),
    ("web-ui/src/chat/chat.css", 1055),
];

/// A call that is not made, why, and where it is made all the same.
struct Banned {
    call: &'static str,
    instead: &'static str,
    allowed: &'static [&'static str],
}

const BANNED: &[Banned] = &[
    Banned {
        call: "thread::sleep(",
        instead: "wait on a condition: a channel, a Condvar, tokio::time",
        // The last line before the process ends; a lock of another process that can only be polled.
        allowed: &["src/api/service.rs", "src/projection/sled_store.rs"],
    },
    Banned { call: "sled::", instead: "go through projection::Store", allowed: &["src/projection/"] },
    Banned { call: "println!(", instead: "cli::Output, or tracing", allowed: &["src/cli/", "src/api/service.rs"] },
    Banned { call: "print!(", instead: "cli::Output, or tracing", allowed: &[] },
    Banned { call: ".unwrap()", instead: "`?`, or expect with the invariant that makes it impossible", allowed: &[] },
    Banned {
        call: "SystemTime::now(",
        instead: "node::now_ms(), so that time comes from one place",
        allowed: &["src/node/mod.rs", "src/projection/"],
    },
    Banned { call: "process::exit(", instead: "return an error to main", allowed: &["src/api/service.rs"] },
    Banned { call: "process::abort(", instead: "return an error to main", allowed: &[] },
    Banned { call: "mem::forget(", instead: "own it", allowed: &[] },
    Banned { call: "Box::leak(", instead: "own it", allowed: &[] },
    Banned { call: "unbounded_channel(", instead: "a bounded channel", allowed: &[] },
    Banned {
        call: "PeerTls::Plain(",
        instead: "PairPki::tls(): links without TLS are for simulations",
        // Where the variant is handled, not made.
        allowed: &["src/replication/link/"],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file that belongs to the project, relative to its root. What is built or fetched does not.
fn files() -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![root().to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let foreign = ["target", "node_modules", "dist", ".git", "data", "test-results"].contains(&name.as_str());
            if path.is_dir() && !foreign {
                waiting.push(path);
            } else if path.is_file() && name != ".git" {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "the project's files were not found");
    found
}

fn sources(below: &str) -> Vec<String> {
    files().into_iter().filter(|path| path.starts_with(below) && path.ends_with(".rs")).collect()
}

/// A file's text; none for one that is not text.
fn read(path: &str) -> Option<String> {
    String::from_utf8(std::fs::read(root().join(path)).unwrap()).ok()
}

/// Fails with every finding, one per line.
fn judge(what: &str, findings: &[String]) {
    let mut list = String::new();
    for finding in findings {
        writeln!(list, "  {finding}").unwrap();
    }
    assert!(findings.is_empty(), "{what}:\n{list}");
}

/// The source with the contents of comments, strings and characters blanked, so that only code is left. Lines stay.
fn code_of(source: &str) -> String {
    let bytes: Vec<char> = source.chars().collect();
    let mut out = String::with_capacity(source.len());
    let mut at = 0;
    let blank = |out: &mut String, from: usize, to: usize| {
        out.extend(bytes[from..to].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
    };
    while at < bytes.len() {
        let end = skip(&bytes, at);
        if end > at {
            blank(&mut out, at, end);
            at = end;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    out
}

/// Where the comment, string or character that begins at `at` ends; `at` when none does.
fn skip(text: &[char], at: usize) -> usize {
    let starts = |prefix: &str| text[at..].iter().copied().take(prefix.len()).eq(prefix.chars());
    let find = |from: usize, wanted: &str| {
        let wanted: Vec<char> = wanted.chars().collect();
        (from..text.len()).find(|i| text[*i..].starts_with(&wanted)).map_or(text.len(), |i| i + wanted.len())
    };
    let part_of_name = at > 0 && (text[at - 1].is_alphanumeric() || text[at - 1] == '_');
    if starts("//") {
        return (at..text.len()).find(|i| text[*i] == '\n').unwrap_or(text.len());
    }
    if starts("/*") {
        return find(at + 2, "*/");
    }
    let raw = usize::from(starts("br"));
    if !part_of_name && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
        let hashes = text[at + raw + 1..].iter().take_while(|c| **c == '#').count();
        if text.get(at + raw + 1 + hashes) == Some(&'"') {
            return find(at + raw + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
        }
    }
    if text[at] == '"' {
        let mut end = at + 1;
        while end < text.len() && text[end] != '"' {
            end += if text[end] == '\\' { 2 } else { 1 };
        }
        return (end + 1).min(text.len());
    }
    if text[at] == '\'' {
        // A lifetime has no closing quote.
        if text.get(at + 1) == Some(&'\\') {
            return find(at + 3, "'");
        }
        if text.get(at + 2) == Some(&'\'') {
            return at + 3;
        }
    }
    at
}

/// The code without the module of unit tests at its end.
fn without_tests(code: &str) -> &str {
    code.split("#[cfg(test)]\nmod ").next().unwrap()
}

/// Functions with the lines they take: `(name, first line, lines)`.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            continue; // a function type
        }
        let mut depth = 0;
        for (offset, c) in code[at..].char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ';' if depth == 0 && !inside_brackets(&code[at..at + offset]) => break,
                _ => continue,
            }
            if depth == 0 {
                let lines = code[at..at + offset].matches('\n').count() + 1;
                found.push((name, code[..at].matches('\n').count() + 1, lines));
                break;
            }
        }
    }
    found
}

/// Whether a bracket is open at the end: the `;` of an array type ends no declaration.
fn inside_brackets(text: &str) -> bool {
    text.matches('[').count() > text.matches(']').count()
}

#[test]
fn files_and_functions_are_short() {
    let mut findings = Vec::new();
    let mut needed = BTreeSet::new();
    let mut measure = |what: String, limit: usize, lines: usize, place: &str| {
        if lines <= limit {
            return;
        }
        needed.insert(what.clone());
        match LONGER.iter().find(|(longer, _)| *longer == what) {
            Some((_, allowed)) if lines <= *allowed => {}
            _ => findings.push(format!("{what} has {lines} lines, at most {limit} ({place})")),
        }
    };
    for path in files() {
        let script = [".rs", ".ts", ".tsx", ".css", ".sh", ".mjs"].iter().any(|end| path.ends_with(end));
        let generated = path.ends_with("schema.d.ts");
        let Some(text) = read(&path).filter(|_| script && !generated) else { continue };
        measure(path.clone(), FILE_LINES_MAX, text.lines().count(), &path);
        if path.ends_with(".rs") {
            for (name, line, lines) in functions(&code_of(&text)) {
                measure(format!("{path}:{name}"), FUNCTION_LINES_MAX, lines, &format!("{path}:{line}"));
            }
        }
    }
    let unneeded = LONGER.iter().filter(|(what, _)| !needed.contains(*what));
    findings.extend(unneeded.map(|(what, _)| format!("{what} is short enough now: take it off the list")));
    judge("too long", &findings);
}

#[test]
fn banned_calls_are_not_made() {
    let mut findings = Vec::new();
    let mut used = BTreeSet::new();
    for path in sources("src/") {
        if path.contains("/tests/") || path.ends_with("tests.rs") {
            continue;
        }
        let code = code_of(&read(&path).unwrap());
        for (number, line) in without_tests(&code).lines().enumerate() {
            for banned in BANNED.iter().filter(|banned| line.contains(banned.call)) {
                match banned.allowed.iter().find(|allowed| path.starts_with(**allowed)) {
                    Some(allowed) => drop(used.insert((banned.call, *allowed))),
                    None => findings.push(format!("{path}:{}: {} - {}", number + 1, banned.call, banned.instead)),
                }
            }
        }
    }
    for banned in BANNED {
        let unused = banned.allowed.iter().filter(|allowed| !used.contains(&(banned.call, **allowed)));
        findings
            .extend(unused.map(|allowed| format!("{allowed} no longer calls {}: take it off the list", banned.call)));
    }
    judge("banned calls", &findings);
}

#[test]
fn every_module_says_what_it_is() {
    let all = [sources("src/"), sources("tests/")].concat();
    let headless = all.into_iter().filter(|path| !read(path).unwrap().starts_with("//! "));
    judge("without a `//!` header", &headless.collect::<Vec<_>>());
}

#[test]
fn every_dependency_has_a_reason() {
    let manifest = read("Cargo.toml").unwrap();
    let mut section = "";
    let mut findings = Vec::new();
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies]") && line.contains('=') && !line.starts_with('#') {
            count += 1;
            let reason = line.rsplit_once('#').map(|(_, reason)| reason.trim()).unwrap_or_default();
            if reason.len() < 10 {
                findings.push(line.to_owned());
            }
        }
    }
    assert!(count > 30, "the dependencies were not found");
    judge("dependencies without a reason", &findings);
}

/// The rules depend on nothing that another node might not have.
#[test]
fn core_knows_only_itself() {
    let mut findings = Vec::new();
    for path in sources("src/core/") {
        let code = code_of(&read(&path).unwrap());
        for (number, line) in without_tests(&code).lines().enumerate() {
            for (at, _) in line.match_indices("crate::") {
                let module: String = line[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if module != "core" && module != "limits" {
                    findings.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
            for foreign in ["std::fs", "std::net", "std::time", "std::thread", "std::env", "tokio", "rand", "Instant"] {
                if line.contains(&format!("{foreign}::")) || line.contains(&format!("use {foreign};")) {
                    findings.push(format!("{path}:{}: {}", number + 1, line.trim()));
                }
            }
        }
    }
    judge("core uses what another node might not have", &findings);
}

/// Texts that no file may hold. They are put together here, so that this file does not hold them either.
fn check_texts(texts: &[String], allowed: &[(&str, &str)]) -> Vec<String> {
    let mut findings = Vec::new();
    for path in files() {
        let Some(content) = read(&path) else { continue };
        for (number, line) in content.lines().enumerate() {
            for text in texts.iter().filter(|text| line.contains(text.as_str())) {
                let fine = allowed.iter().any(|(file, part)| path.starts_with(file) && line.contains(part));
                if !fine {
                    findings.push(format!("{path}:{}: {text}", number + 1));
                }
            }
        }
    }
    findings
}

#[test]
fn nothing_is_left_undone() {
    let texts = [["TO", "DO"], ["FIX", "ME"], ["XX", "X:"], ["dbg", "!("], ["to", "do!("], ["unimplemented", "!("]];
    judge("left undone", &check_texts(&texts.map(|parts| parts.concat()), &[]));
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    let texts = [["/wo", "rk/"], ["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"], ["C:\\", "Users"]];
    judge("paths of one machine", &check_texts(&texts.map(|parts| parts.concat()), &[]));
}

#[test]
fn no_file_names_a_package_registry() {
    let hosts = [
        ["index.cra", "tes.io"],
        ["static.cra", "tes.io"],
        ["registry.np", "mjs.org"],
        ["registry.ya", "rnpkg.com"],
        ["npmmi", "rror"],
        ["rsp", "roxy"],
        ["mirrors.us", "tc"],
        ["tuna.tsi", "nghua"],
        ["artif", "actory"],
        ["verda", "ccio"],
    ];
    judge("package registries", &check_texts(&hosts.map(|parts| parts.concat()), &[]));
}

/// Addresses in the built web client that are names, not places: nothing is fetched from them.
const NAMES_NOT_PLACES: &[&str] = &[
    "http://www.w3.org/",
    "https://www.w3.org/",
    "http://localhost",
    "https://localhost",
    // Texts of error messages of the libraries inside.
    "https://preactjs.com/",
    "https://react.dev/",
    "https://github.com/",
    "https://www.i18next.com",
    "https://reactjs.org/",
    "https://react.i18next.com/",
    "https://mantine.dev/",
];

#[test]
fn the_built_web_client_asks_nobody_else() {
    let dist = root().join("web-ui/dist");
    if !dist.is_dir() {
        eprintln!("skipped: the web client is not built");
        return;
    }
    let mut waiting: Vec<PathBuf> = vec![dist];
    let mut findings = Vec::new();
    while let Some(dir) = waiting.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
                continue;
            }
            let Ok(text) = String::from_utf8(std::fs::read(&path).unwrap()) else { continue };
            for scheme in ["http://", "https://"] {
                for (at, _) in text.match_indices(scheme) {
                    let rest = &text[at..];
                    let host = rest[scheme.len()..].chars().next().is_some_and(char::is_alphanumeric);
                    if host && !NAMES_NOT_PLACES.iter().any(|name| rest.starts_with(name)) {
                        let shown: String = rest.chars().take(60).collect();
                        findings.push(format!("{}: {shown}", path.display()));
                    }
                }
            }
        }
    }
    judge("addresses in the built web client", &findings);
}

#[test]
fn the_changelog_tells_of_this_version() {
    let Some(text) = optional("CHANGELOG.md") else { return };
    let version = env!("CARGO_PKG_VERSION");
    let told = text.lines().any(|line| line.starts_with("## ") && line.contains(version));
    assert!(told, "CHANGELOG.md has no `## {version}`");
}

/// A file that a checkout may not have yet.
fn optional(path: &str) -> Option<String> {
    if root().join(path).exists() {
        return read(path);
    }
    eprintln!("skipped: there is no {path}");
    None
}

#[test]
fn both_readmes_say_the_same() {
    let chinese = ["README.zh-CN.md", "README.zh.md", "README_zh-CN.md"].into_iter().find(|p| root().join(p).exists());
    let (Some(english), Some(chinese)) = (optional("README.md"), chinese.and_then(optional)) else { return };
    let headings = |text: &str| -> Vec<usize> {
        let (mut code, mut levels) = (false, Vec::new());
        for line in text.lines() {
            code ^= line.starts_with("```");
            let level = line.chars().take_while(|c| *c == '#').count();
            if !code && level > 0 {
                levels.push(level);
            }
        }
        levels
    };
    assert_eq!(headings(&english), headings(&chinese), "the headings of both READMEs");
    let commands = |text: &str| -> Vec<String> {
        let (mut code, mut commands) = (false, Vec::new());
        for line in text.lines() {
            if line.starts_with("```") {
                code = !code;
            } else if code {
                // What is said about a command may be translated, and so may the names of what is to be filled in.
                let command = line.split(" #").next().unwrap().trim_end();
                let parts = command.split('<').map(|part| part.split_once('>').map_or(part, |(_, rest)| rest));
                commands.push(parts.collect::<Vec<_>>().join("<>"));
            }
        }
        commands.retain(|command| !command.is_empty() && !command.starts_with('#'));
        commands
    };
    assert_eq!(commands(&english), commands(&chinese), "the commands of both READMEs");
}

#[test]
fn the_scanner_sees_code_and_only_code() {
    let source =
        "fn a() { let x = \"fn b() {\"; // fn c() {\n let y = '{'; let z = r#\"}\"#; }\nfn d<'a>(x: [u8; 3]) {\n}\n";
    let found = functions(&code_of(source));
    assert_eq!(found, [("a".to_owned(), 1, 2), ("d".to_owned(), 3, 2)]);
    assert_eq!(code_of("a /* b */ 'c' d"), format!("a{}d", " ".repeat(13)));
    assert_eq!(without_tests("x\n#[cfg(test)]\nmod tests {}"), "x\n");
}
