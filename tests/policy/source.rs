//! Rust sources as the policies read them.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of a crate.
pub(super) struct Source {
    /// Below the crate's `src`, as in `sink/mod.rs`.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// The library crates of the workspace; their sources are in `crates/NAME/src`.
pub(super) const CRATES: [&str; 5] = ["ebpf", "protocols", "probe", "actors", "cli"];

/// The production sources of a crate, those of tests left out.
pub(super) fn production(krate: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let src = root.join("crates").join(krate).join("src");
    let sources = rust_files(&src).into_iter().map(|file| Source {
        text: fs::read_to_string(&file).expect("a source in UTF-8"),
        path: file.strip_prefix(&src).expect("a file in src").to_owned(),
    });
    let sources: Vec<Source> = sources.filter(|source| !is_test(&source.path)).collect();
    assert!(sources.len() > 5, "{krate} has sources");
    sources
}

/// The `.rs` files in a folder and below it.
pub(super) fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" {
                files.extend(rust_files(&path));
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn is_test(path: &Path) -> bool {
    path.components()
        .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
}

impl Source {
    #[cfg(test)]
    pub(super) fn of(path: &str, text: &str) -> Self {
        Self {
            path: path.into(),
            text: text.to_owned(),
        }
    }

    /// The names of its modules, from the crate's root: `["sink", "buffer"]`.
    pub(super) fn module(&self) -> Vec<String> {
        let mut parts: Vec<String> = self
            .path
            .with_extension("")
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if parts.last().is_some_and(|last| last == "mod")
            || matches!(parts.as_slice(), [one] if one == "lib" || one == "main")
        {
            parts.pop();
        }
        parts
    }

    /// The text without comments, without what is in strings, and without the tests at its end.
    pub(super) fn code(&self) -> String {
        let text = match self.text.find("#[cfg(test)]\nmod tests {") {
            Some(tests) => &self.text[..tests],
            None => &self.text,
        };
        without_comments_and_strings(text)
    }

    /// Lines that are neither blank nor comments.
    pub(super) fn code_lines(&self) -> usize {
        self.code().lines().filter(|line| !line.trim().is_empty()).count()
    }
}

/// Keeps the lines as they are. A line inside of a string begins with a quotation mark.
pub(super) fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let taken = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest, &code) {
            let lines = rest[..length].matches('\n').count();
            code.push('"');
            code.push_str(&"\n\"".repeat(lines));
            length
        } else if let Some(length) = character(rest) {
            length
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[taken..];
    }
    code
}

/// The length of the block comment at the start of `text`; such comments nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of the string at the start of `text`, behind the code `before`.
fn string(text: &str, before: &str) -> Option<usize> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let prefix = ["", "r", "b", "c", "br", "cr"].into_iter().find(|prefix| {
        let opens = text
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(['"', '#']));
        opens && (text.starts_with('"') || !prefix.is_empty() && !before.ends_with(is_name))
    })?;
    let rest = &text[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = rest.len() - rest.trim_start_matches('#').len();
        let inside = rest[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = inside.find(&end)?;
        return Some(prefix.len() + hashes + 1 + length + end.len());
    }
    let inside = rest.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(prefix.len() + 1 + at + 1),
            _ => {}
        }
    }
    None
}

/// The length of the character literal at the start of `text`; a lifetime is none.
fn character(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let mut chars = inside.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        let (escaped, c) = chars.next()?;
        let end = inside[escaped + c.len_utf8()..].find('\'')?;
        return Some(1 + escaped + c.len_utf8() + end + 1);
    }
    let (end, second) = chars.next()?;
    (second == '\'').then_some(1 + end + 1)
}

#[test]
fn comments_and_strings_are_no_code() {
    let code = |text| without_comments_and_strings(text);
    assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a \nc  g");
    assert_eq!(code(r#"let a = "b \" // c"; d"#), "let a = \"; d");
    assert_eq!(code("let a = r#\"b \" // c\"#; d"), "let a = \"; d");
    assert_eq!(
        code("let a = '\"'; let b = '\\''; fn c<'d>() {} // e"),
        "let a = ; let b = ; fn c<'d>() {} "
    );
    assert_eq!(code("\"one\ntwo\""), "\"\n\"");
}

#[test]
fn tests_are_no_code() {
    let source = Source::of(
        "a/mod.rs",
        "//! Head.\n\nfn a() {}\n\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\n",
    );
    assert_eq!((source.code_lines(), source.module()), (1, vec!["a".to_owned()]));
}
