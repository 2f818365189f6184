//! The committed kernel objects are what their sources and manifest say, and have what the loader
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

/// A field of the manifest's section about one object.
fn manifest(architecture: &str, key: &str) -> String {
    let text = fs::read_to_string(workspace().join("crates/ebpf/object/MANIFEST.toml")).unwrap();
    let heading = format!("[{architecture}]");
    let section = text.lines().skip_while(|line| *line != heading);
    let prefix = format!("{key} = \"");
    let value = section
        .skip(1)
        .take_while(|line| !line.is_empty())
        .find_map(|line| line.strip_prefix(&prefix));
    value.unwrap().trim_end_matches('"').to_owned()
}

const ARCHITECTURES: [&str; 2] = ["aarch64", "x86_64"];

fn object_bytes(architecture: &str) -> Vec<u8> {
    let name = format!("ecapture-{architecture}.bpf.o");
    fs::read(workspace().join("crates/ebpf/object").join(name)).unwrap()
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
fn the_objects_are_the_manifests() {
    for architecture in ARCHITECTURES {
        let hash = sha256(&object_bytes(architecture));
        assert_eq!(
            hash,
            manifest(architecture, "object_sha256"),
            "{architecture}; {REBUILD}"
        );
    }
}

#[test]
fn the_objects_were_built_from_these_sources() {
    let hash = sha256(inputs().as_bytes());
    for architecture in ARCHITECTURES {
        assert_eq!(
            hash,
            manifest(architecture, "inputs_sha256"),
            "{architecture}; {REBUILD}"
        );
    }
}

#[test]
fn every_program_and_map_that_the_loader_uses_exists() {
    for architecture in ARCHITECTURES {
        let bytes = object_bytes(architecture);
        let elf = object::File::parse(&*bytes).unwrap();
        let names: BTreeSet<_> = elf
            .symbols()
            .filter(|symbol| symbol.kind() != SymbolKind::Section)
            .filter_map(|symbol| symbol.name().ok())
            .collect();
        for (kind, used) in ecapture_probe::object_names() {
            for name in used {
                assert!(
                    names.contains(name),
                    "no {kind} {name} in the object for {architecture}; {REBUILD}"
                );
            }
        }
    }
}

#[test]
fn the_objects_declare_their_licence() {
    for architecture in ARCHITECTURES {
        let bytes = object_bytes(architecture);
        let elf = object::File::parse(&*bytes).unwrap();
        let section = elf.section_by_name("license").unwrap();
        assert_eq!(section.data().unwrap(), b"Dual MIT/GPL\0");
    }
}

/// Registers lie elsewhere: one in the place of the other would be loaded, and capture nothing.
#[test]
fn the_objects_differ() {
    let [first, second] = ARCHITECTURES.map(object_bytes);
    assert_ne!(first, second);
}
