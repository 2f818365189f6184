//! What the documents refer to is there, and their words are those of the field.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Phrases of a private dialect, with what to write instead.
const DIALECT: &[(&str, &str)] = &[
    ("anew", "again"),
    ("gives nothing", "prints nothing, returns nothing"),
    ("is told", "learns, receives"),
    ("of which", "a sentence of its own"),
    ("the probes stand", "the probes are attached"),
    ("probes stood", "probes were attached"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type().expect("a type").is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).expect("a document in UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() >= 5, "{found:?}");
    found
}

/// The targets of `[text](target)` in `text`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// The name that a heading has in links: lower case, hyphens for spaces, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(text: &str, wanted: &str) -> bool {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(anchor).any(|found| found == wanted)
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for (path, text) in documents() {
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().expect("a folder").join(file)
            };
            let leads_there = target.exists()
                && (fragment.is_empty()
                    || fs::read_to_string(&target).is_ok_and(|text| has_anchor(&text, fragment)));
            if !leads_there {
                dead.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

/// `a/{b,c}.rs` as `a/b.rs` and `a/c.rs`.
fn alternatives(path: &str) -> Vec<String> {
    let Some((before, rest)) = path.split_once('{') else {
        return vec![path.to_owned()];
    };
    let (inside, after) = rest.split_once('}').unwrap_or((rest, ""));
    inside
        .split(',')
        .map(|one| format!("{before}{one}{after}"))
        .collect()
}

#[test]
fn paths_in_documents_exist() {
    let crates = fs::read_dir(root().join("crates")).expect("the crates");
    // Paths of a crate's own tests begin at the crate.
    let mut homes: Vec<PathBuf> = crates.map(|entry| entry.expect("an entry").path()).collect();
    homes.push(root().to_owned());
    let mut missing = BTreeSet::new();
    for (path, text) in documents() {
        let words = text.split(|c: char| c.is_whitespace() || "`()[]\"'".contains(c));
        for word in words.map(|word| word.trim_end_matches([',', '.', ':', ';'])) {
            let is_ours = word.starts_with("crates/") || word.starts_with("tests/");
            let is_pattern = word.contains(['*', '…', '<', '$']) || word.contains(char::is_uppercase);
            if !is_ours || is_pattern {
                continue;
            }
            for one in alternatives(word) {
                if !homes.iter().any(|home| home.join(&one).exists()) {
                    missing.insert(format!("{}: {one}", path.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn documents_are_in_plain_english() {
    let mut found = Vec::new();
    for (path, text) in documents() {
        // The table of words to avoid has them.
        let lines = text.lines().filter(|line| !line.starts_with('|'));
        let flowing = lines
            .flat_map(str::split_whitespace)
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase();
        for (phrase, instead) in DIALECT {
            let is_word = |at: usize| {
                let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                !is_letter(flowing[..at].chars().next_back())
                    && !is_letter(flowing[at + phrase.len()..].chars().next())
            };
            if flowing.match_indices(phrase).any(|(at, _)| is_word(at)) {
                found.push(format!("{}: \"{phrase}\": write {instead}", path.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
