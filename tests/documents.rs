//! The documents refer to things that exist, and documents, comments and messages are in plain English.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Phrases of a private dialect, with what to write instead.
const DIALECT: &[(&str, &str)] = &[
    ("anew", "again"),
    ("are told", "are notified, are reported"),
    ("be told", "be notified, be reported"),
    ("been told", "been notified, been reported"),
    ("by hand", "manually"),
    ("gave nothing", "produced nothing"),
    ("gives nothing", "prints nothing, returns nothing"),
    ("hears of", "is notified of"),
    ("is told", "learns, receives"),
    ("look into", "inspect"),
    ("looked into", "inspected"),
    ("looks into", "inspects"),
    ("meanwhile", "in the meantime"),
    ("none but", "only"),
    ("of which", "a sentence of its own"),
    ("probes stand", "probes are attached"),
    ("probes stood", "probes were attached"),
    ("stands in", "is in, is attached to"),
    ("stood in", "were in, were attached to"),
    ("tell of", "report"),
    ("told of", "reported, notified of"),
    ("tells of", "reports"),
    ("was told", "was notified, was reported"),
    ("were told", "were notified, were reported"),
];

/// Files that have a phrase for a reason.
const RIGHTLY: &[(&str, &str)] = &[
    // Bytes of a stream.
    ("crates/actors/tests/it/restart.rs", "meanwhile"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the repository, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let found = files("md");
    assert!(found.len() >= 5, "{found:?}");
    found
}

/// Every file of the repository whose name ends in `extension`, with its text.
fn files(extension: &str) -> Vec<(PathBuf, String)> {
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
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = fs::read_to_string(&path).expect("a text in UTF-8");
                found.push((path, text));
            }
        }
    }
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

/// The phrases of the dialect that `text` has, with what to write instead.
fn dialect_in(text: &str) -> Vec<&'static (&'static str, &'static str)> {
    let flowing = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    let is_word = |at: usize, phrase: &str| {
        let is_letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        !is_letter(flowing[..at].chars().next_back())
            && !is_letter(flowing[at + phrase.len()..].chars().next())
    };
    let has = |phrase: &str| flowing.match_indices(phrase).any(|(at, _)| is_word(at, phrase));
    DIALECT.iter().filter(|(phrase, _)| has(phrase)).collect()
}

#[test]
fn documents_are_in_plain_english() {
    let mut found = Vec::new();
    for (path, text) in documents() {
        // The table of words to avoid has them.
        let lines = text.lines().filter(|line| !line.starts_with('|'));
        for (phrase, instead) in dialect_in(&lines.collect::<Vec<_>>().join("\n")) {
            found.push(format!("{}: \"{phrase}\": write {instead}", path.display()));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn code_is_in_plain_english() {
    let mut found = Vec::new();
    for (path, code) in files("rs") {
        let name = path.strip_prefix(root()).expect("a file of the repository");
        // This file has the phrases.
        if name == Path::new(file!()) {
            continue;
        }
        for (phrase, instead) in dialect_in(&prose(&code)) {
            if !RIGHTLY.contains(&(name.to_str().expect("a name in UTF-8"), phrase)) {
                found.push(format!("{}: \"{phrase}\": write {instead}", name.display()));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// The comments and string literals of Rust code, in order. Lines of one comment, and of one literal, flow.
fn prose(code: &str) -> String {
    let mut prose = String::new();
    let mut rest = code;
    while !rest.is_empty() {
        let (words, length) = token(rest);
        if let Some(words) = words {
            prose.push_str(&words);
        }
        rest = &rest[length..];
    }
    prose
}

/// The words in the token that `code` begins with, if it is a comment or a string literal, and its length.
fn token(code: &str) -> (Option<String>, usize) {
    let first = code.chars().next().expect("code");
    if code.starts_with("//") {
        let line = code.lines().next().unwrap_or_default();
        let words = line.trim_start_matches(['/', '!']);
        return (Some(format!("{words} ")), line.len());
    }
    if first.is_alphabetic() || first == '_' {
        let name = code
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(code.len());
        let hashes = code[name..].len() - code[name..].trim_start_matches('#').len();
        let is_raw = matches!(&code[..name], "r" | "br" | "cr") && code[name + hashes..].starts_with('"');
        if !is_raw {
            return (None, name);
        }
        let begin = name + hashes + 1;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = code[begin..].find(&end).expect("the end of a raw literal");
        return (
            Some(literal(&code[begin..begin + length])),
            begin + length + end.len(),
        );
    }
    if first == '"' {
        let length = unescaped(&code[1..], '"').expect("the end of a literal");
        return (Some(literal(&code[1..=length])), length + 2);
    }
    // A lifetime has no second quote so near.
    let is_character = first == '\'' && (code[1..].starts_with('\\') || code.chars().nth(2) == Some('\''));
    if is_character {
        return (
            None,
            unescaped(&code[1..], '\'').expect("the end of a character") + 2,
        );
    }
    (None, first.len_utf8())
}

/// Where `quote` is first without a backslash before it.
fn unescaped(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    text.char_indices()
        .find(|&(_, c)| {
            let is_end = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            is_end
        })
        .map(|(at, _)| at)
}

/// The words of a string literal, separate from those around it.
fn literal(text: &str) -> String {
    format!(" | {} | ", text.replace("\\\n", " "))
}

#[test]
fn phrases_in_comments_and_literals_are_found() {
    let code = r##"
        /// A library in which the
        /// probes stood.
        fn is_told() -> (&'static str, char) { ("a file \
            of which", '"') } // anew
        const RAW: &str = r#"it is "told" of it"#;
    "##;
    let found: Vec<_> = dialect_in(&prose(code))
        .iter()
        .map(|(phrase, _)| *phrase)
        .collect();
    assert_eq!(found, ["anew", "of which", "probes stood"]);
    assert_eq!(dialect_in(&prose("fn anew() { told_of('\\'', '\"') }")).len(), 0);
}
