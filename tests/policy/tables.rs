//! Kinds of capture, protocols, formats and targets are named in their tables only, and where they are defined.

use std::path::{Path, PathBuf};

use super::circles::paths;
use super::source::{Source, production};

/// Something that a table lists.
#[derive(Debug)]
struct Listed {
    name: String,
    /// The folder or file of its definition.
    home: PathBuf,
}

/// The names that `is_definition` finds in a line of code.
fn defined(sources: &[Source], is_definition: impl Fn(&str) -> Option<&str>) -> Vec<Listed> {
    let mut listed = Vec::new();
    for source in sources {
        for name in source.code().lines().filter_map(&is_definition) {
            let folder = source.path.parent().unwrap_or(Path::new(""));
            let is_alone = folder == Path::new("") || folder == Path::new("outputs");
            listed.push(Listed {
                name: name.to_owned(),
                home: if is_alone {
                    source.path.clone()
                } else {
                    folder.to_owned()
                },
            });
        }
    }
    assert!(!listed.is_empty(), "something is defined");
    listed
}

/// The name of a static of this type.
fn static_of<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let (before, _) = line.split_once(&format!(": {kind} ="))?;
    before.rsplit_once("static ").map(|(_, name)| name)
}

/// The name of a type with an implementation of one of these traits.
fn implementation_of<'a>(line: &'a str, traits: &[&str]) -> Option<&'a str> {
    let (_, name) = traits
        .iter()
        .find_map(|name| line.split_once(&format!("impl {name} for ")))?;
    name.split([' ', '<']).next()
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|found| found == word)
}

/// Where else than in the table and at home something is named.
fn named_elsewhere(sources: &[Source], listed: &[Listed], table: &str) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources.iter().filter(|source| source.path != Path::new(table)) {
        let code = source.code();
        let foreign = listed
            .iter()
            .filter(|listed| !source.path.starts_with(&listed.home));
        for listed in foreign.filter(|listed| has_word(&code, &listed.name)) {
            found.push(format!("{} names {}", source.path.display(), listed.name));
        }
    }
    found
}

fn protocols(sources: &[Source]) -> Vec<String> {
    let listed = defined(sources, |line| static_of(line, "Protocol"));
    named_elsewhere(sources, &listed, "detect/table.rs")
}

/// Also the constants of `Modules`, by which commands choose, name them.
fn modules(sources: &[Source]) -> Vec<String> {
    let tables = ["modules/table.rs", "modules/mod.rs"].map(Path::new);
    let mut found = Vec::new();
    for Listed { name, home } in defined(sources, |line| static_of(line, "Module")) {
        let folder = home
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let is_it = |path: Vec<String>| path.ends_with(&[folder.clone(), name.clone()]);
        for source in sources {
            let is_foreign = !tables.contains(&&*source.path) && !source.path.starts_with(&home);
            let code = source.code();
            let is_named = code.contains(&format!("{folder}::{name}")) || paths(&code).into_iter().any(is_it);
            if is_foreign && is_named {
                found.push(format!("{} names {name}", source.path.display()));
            }
        }
    }
    found
}

fn targets(sources: &[Source]) -> Vec<String> {
    let listed = defined(sources, |line| implementation_of(line, &["SinkWriter", "Target"]));
    named_elsewhere(sources, &listed, "outputs/targets.rs")
}

/// Formats are types of another crate, so that only paths name them.
fn formats(sources: &[Source]) -> Vec<String> {
    let listed = defined(&production("protocols"), |line| {
        implementation_of(line, &["Format", "EventFormat"])
    });
    let mut found = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.path != Path::new("outputs/formats.rs"))
    {
        for path in paths(&source.code()) {
            let (first, last) = (path.first(), path.last());
            let is_format = listed.iter().any(|listed| Some(&listed.name) == last);
            if is_format && first.is_some_and(|first| first == "ecapture_protocols") {
                found.push(format!("{} names {}", source.path.display(), path.join("::")));
            }
        }
    }
    found
}

#[test]
fn only_the_tables_name_what_they_list() {
    let found = [
        protocols(&production("protocols")),
        modules(&production("probe")),
        targets(&production("cli")),
        formats(&production("cli")),
        formats(&production("actors")),
    ];
    assert!(found.concat().is_empty(), "{found:#?}");
}

#[test]
fn another_place_is_found() {
    let changed = |krate: &str, line: &str, check: fn(&[Source]) -> Vec<String>| {
        let mut sources = production(krate);
        sources.push(Source::of("other.rs", line));
        check(&sources)
    };
    assert_eq!(changed("protocols", "// http1::REQUESTS\n", protocols), [""; 0]);
    assert_eq!(
        changed("protocols", "use crate::http1::REQUESTS;\n", protocols),
        ["other.rs names REQUESTS"]
    );
    assert_eq!(
        changed("probe", "let a = &tls::TLS;\n", modules),
        ["other.rs names TLS"]
    );
    assert_eq!(
        changed("cli", "let a = CollectorOutput::tcp(address);\n", targets),
        ["other.rs names CollectorOutput"]
    );
    assert_eq!(
        changed(
            "cli",
            "use ecapture_protocols::format::{Format, Text};\n",
            formats
        ),
        ["other.rs names ecapture_protocols::format::Text"]
    );
}
