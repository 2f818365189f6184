//! The committed kernel object is what its sources and manifest say, and has what the loader
//! uses. Needs no compiler for BPF and no privileges.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};
use sha2::{Digest, Sha256};

const REBUILD: &str = "run crates/ebpf/build-object.sh and commit crates/ebpf/object";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
}

fn manifest(key: &str) -> String {
    let text = fs::read_to_string(workspace().join("crates/ebpf/object/MANIFEST.toml")).unwrap();
    let prefix = format!("{key} = \"");
    let value = text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap();
    value.trim_end_matches('"').to_owned()
}

fn object_bytes() -> Vec<u8> {
    fs::read(workspace().join("crates/ebpf/object").join(manifest("object"))).unwrap()
}

/// All files below `directory`, as paths from the workspace.
fn files(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            let relative = path.strip_prefix(workspace()).unwrap();
            found.insert(relative.to_str().unwrap().to_owned());
        }
    }
}

/// The same lines as `inputs` of build-object.sh.
fn inputs() -> String {
    let mut paths = BTreeSet::new();
    files(&workspace().join("crates/ebpf/src"), &mut paths);
    paths.insert("crates/ebpf/Cargo.toml".to_owned());
    paths.insert("crates/ebpf/build-object.sh".to_owned());
    let mut text = String::new();
    for path in paths {
        let bytes = fs::read(workspace().join(&path)).unwrap();
        writeln!(text, "{} {path}", sha256(&bytes)).unwrap();
    }
    let lock = fs::read_to_string(workspace().join("Cargo.lock")).unwrap();
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| {
            let prefix = format!("{key} = \"");
            package
                .lines()
                .find_map(|line| line.strip_prefix(&prefix)?.strip_suffix('"'))
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (field("name"), field("version"), field("checksum"))
            && name.starts_with("aya-ebpf")
        {
            writeln!(text, "{checksum} {name} {version}").unwrap();
        }
    }
    text
}

#[test]
fn the_object_is_the_manifests() {
    assert_eq!(sha256(&object_bytes()), manifest("object_sha256"), "{REBUILD}");
}

#[test]
fn the_object_was_built_from_these_sources() {
    assert_eq!(
        sha256(inputs().as_bytes()),
        manifest("inputs_sha256"),
        "{REBUILD}"
    );
}

#[test]
fn every_program_and_map_that_the_loader_uses_exists() {
    let bytes = object_bytes();
    let elf = object::File::parse(&*bytes).unwrap();
    let names: BTreeSet<_> = elf
        .symbols()
        .filter(|symbol| symbol.kind() != SymbolKind::Section)
        .filter_map(|symbol| symbol.name().ok())
        .collect();
    for (kind, used) in ecapture_probe::object_names() {
        for name in used {
            assert!(names.contains(name), "no {kind} {name} in the object; {REBUILD}");
        }
    }
}

#[test]
fn the_object_declares_its_licence() {
    let bytes = object_bytes();
    let elf = object::File::parse(&*bytes).unwrap();
    let section = elf.section_by_name("license").unwrap();
    assert_eq!(section.data().unwrap(), b"Dual MIT/GPL\0");
}
