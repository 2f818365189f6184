//! How long a file may be. How long a function may be is in `clippy.toml`.

use super::source::{CRATES, Source, production};

/// Lines of code, without comments, blank lines and tests.
const MOST_LINES: usize = 400;

fn too_long(krate: &str, sources: &[Source]) -> Vec<String> {
    let measured = sources.iter().map(|source| (source, source.code_lines()));
    let long = measured.filter(|(_, lines)| *lines > MOST_LINES);
    long.map(|(source, lines)| format!("crates/{krate}/src/{}: {lines} lines", source.path.display()))
        .collect()
}

#[test]
fn files_are_short() {
    let long: Vec<String> = CRATES
        .into_iter()
        .flat_map(|krate| too_long(krate, &production(krate)))
        .collect();
    assert!(long.is_empty(), "split by subject: {long:#?}");
}

#[test]
fn a_long_file_is_found() {
    let file = |lines: usize| [Source::of("a.rs", &"// why\n\nlet a = 1;\n".repeat(lines))];
    assert_eq!(too_long("cli", &file(MOST_LINES)), [""; 0]);
    assert_eq!(
        too_long("cli", &file(MOST_LINES + 1)),
        ["crates/cli/src/a.rs: 401 lines"]
    );
}
