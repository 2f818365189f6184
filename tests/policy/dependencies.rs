//! Every dependency is used.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::metadata;
use super::source::{rust_files, without_comments_and_strings};

/// Dependencies that no source names: they are there for their features.
const FOR_THEIR_FEATURES: [(&str, &str); 1] = [("ecapture-actors", "smallvec")];

struct Dependency {
    name: String,
    /// `normal`, `dev` or `build`.
    kind: String,
}

fn dependencies(package: &Value) -> Vec<Dependency> {
    let listed = package["dependencies"]
        .as_array()
        .expect("a list of dependencies");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let dependencies = listed.iter().map(|dependency| Dependency {
        name: text(&dependency["rename"])
            .or(text(&dependency["name"]))
            .expect("a name"),
        kind: text(&dependency["kind"]).unwrap_or_else(|| "normal".to_owned()),
    });
    dependencies.collect()
}

/// The code of the package's targets that dependencies of this kind are for.
fn code(package: &Value, kind: &str) -> String {
    let targets = package["targets"].as_array().expect("a list of targets");
    let mut code = String::new();
    for target in targets {
        let is_kind = |wanted: &str| target["kind"][0] == wanted;
        let is_test = is_kind("test") || is_kind("bench") || is_kind("example");
        let is_wanted = match kind {
            "normal" => !is_test && !is_kind("custom-build"),
            "dev" => !is_kind("custom-build"),
            _ => is_kind("custom-build"),
        };
        if is_wanted {
            let root = Path::new(target["src_path"].as_str().expect("a path"));
            // The top-level program shares its folder with a library of another package.
            let files = if package["name"] == "ecapture" && !is_test || is_kind("custom-build") {
                vec![root.to_owned()]
            } else {
                rust_files(root.parent().expect("a folder"))
            };
            for file in files {
                code.push_str(&without_comments_and_strings(
                    &fs::read_to_string(file).expect("a source"),
                ));
            }
        }
    }
    code
}

/// Returns true if `code` has a path that begins with the crate `name`.
fn names(code: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    code.match_indices(&name).any(|(at, _)| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let begins = !before.ends_with(is_word) && (!before.ends_with("::") || before.ends_with(" ::"));
        let declared = ["use ", "extern crate "]
            .iter()
            .any(|word| before.ends_with(word));
        begins && (after.starts_with("::") || declared && !after.starts_with(is_word))
    })
}

#[test]
fn every_dependency_is_used() {
    let metadata = metadata();
    let mut unused = Vec::new();
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let of = package["name"].as_str().expect("a name");
        let code = ["normal", "dev", "build"].map(|kind| (kind, code(package, kind)));
        for Dependency { name, kind } in dependencies(package) {
            let code = code.iter().find(|(of, _)| *of == kind).expect("a known kind");
            let is_used = names(&code.1, &name);
            let for_features = FOR_THEIR_FEATURES.contains(&(of, name.as_str()));
            if is_used == for_features {
                unused.push(format!("{of}: {name} ({kind})"));
            }
        }
    }
    assert!(unused.is_empty(), "unused, or a needless exception: {unused:#?}");
}

#[test]
fn an_unused_dependency_is_found() {
    for used in [
        "use left_pad::pad;",
        "left_pad::pad()",
        "use left_pad;",
        "#[left_pad::main]",
    ] {
        assert!(names(used, "left-pad"), "{used}");
    }
    for unused in [
        "use other::left_pad::pad;",
        "left_padding::pad()",
        "let left_pad = 1;",
        "my_left_pad::pad()",
    ] {
        assert!(!names(unused, "left-pad"), "{unused}");
    }
}

#[test]
fn every_dependency_of_the_workspace_has_a_user() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    let (_, section) = manifest
        .split_once("[workspace.dependencies]")
        .expect("a section of dependencies");
    let section = section.split("\n[").next().unwrap_or_default();
    let listed: BTreeSet<&str> = section
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(" = ")?.0))
        .collect();
    assert!(listed.contains("serde_json"), "{listed:?}");
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let used: BTreeSet<String> = packages
        .iter()
        .flat_map(dependencies)
        .map(|dependency| dependency.name)
        .collect();
    let unused: Vec<_> = listed.into_iter().filter(|name| !used.contains(*name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}
