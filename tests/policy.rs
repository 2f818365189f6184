//! The layers and their direction, read from `cargo metadata`; in the folder beside it, what holds for the
//! sources: their lengths, the direction of their modules, their dependencies, and the tables.

mod budgets;
mod circles;
mod dependencies;
mod source;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

struct Package {
    dependencies: BTreeSet<String>,
}

/// The workspace's metadata from cargo.
fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--locked",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

/// Normal dependencies (not those of tests or builds) of every workspace member.
fn packages() -> BTreeMap<String, Package> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"]
                .as_array()
                .expect("a list of dependencies");
            let normal = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null());
            let names = normal.map(|dependency| dependency["name"].as_str().expect("a name").to_owned());
            (
                package["name"].as_str().expect("a name").to_owned(),
                Package {
                    dependencies: names.collect(),
                },
            )
        })
        .collect()
}

#[test]
fn layers_depend_only_downwards() {
    let packages = packages();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("ecapture", &["ecapture-cli"][..]),
        (
            "ecapture-cli",
            &["ecapture-actors", "ecapture-probe", "ecapture-protocols"][..],
        ),
        ("ecapture-actors", &["ecapture-protocols"][..]),
        ("ecapture-probe", &["ecapture-ebpf", "ecapture-protocols"][..]),
        ("ecapture-protocols", &[][..]),
        ("ecapture-ebpf", &[][..]),
    ]);
    assert_eq!(
        packages.keys().map(String::as_str).collect::<Vec<_>>(),
        allowed.keys().copied().collect::<Vec<_>>()
    );
    for (name, package) in &packages {
        let own = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.starts_with("ecapture"));
        for dependency in own {
            assert!(
                allowed[name.as_str()].contains(&dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn each_framework_has_one_home() {
    let homes = [
        ("actix", "ecapture-actors"),
        ("aya", "ecapture-probe"),
        ("aya-obj", "ecapture-probe"),
        ("aya-ebpf", "ecapture-ebpf"),
        ("clap", "ecapture-cli"),
        ("anyhow", "ecapture-cli"),
    ];
    for (name, package) in packages() {
        for (framework, home) in homes {
            assert!(
                name == home || !package.dependencies.contains(framework),
                "{name} must not know {framework}: only {home} does"
            );
        }
    }
}

#[test]
fn protocols_are_pure() {
    let packages = packages();
    for runtime in [
        "tokio",
        "actix",
        "actix-rt",
        "futures-util",
        "libc",
        "nix",
        "tracing",
    ] {
        let known = &packages["ecapture-protocols"].dependencies;
        assert!(!known.contains(runtime), "protocols must not depend on {runtime}");
    }
}

#[test]
fn the_top_level_is_as_agreed() {
    let listed = std::fs::read_dir(env!("CARGO_MANIFEST_DIR")).expect("the workspace folder");
    let mut folders = BTreeSet::new();
    for entry in listed {
        let entry = entry.expect("a folder entry");
        let name = entry.file_name().into_string().expect("a UTF-8 name");
        if entry.file_type().expect("a file type").is_dir() && !name.starts_with('.') && name != "target" {
            folders.insert(name);
        }
    }
    assert_eq!(folders, BTreeSet::from(["crates".to_owned(), "tests".to_owned()]));
    for krate in ["probe", "actors", "protocols", "cli", "ebpf"] {
        assert!(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("crates")
                .join(krate)
                .is_dir()
        );
    }
}
