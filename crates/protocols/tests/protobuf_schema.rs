//! The committed protobuf code matches the committed schema.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

/// Set `BLESS=1` to write the file instead.
#[test]
fn the_messages_agree_with_their_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/format/protobuf/messages.rs");
    let generated = generate(&root.join("schema"), "log_entry.proto");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&committed, &generated).unwrap();
    }
    assert_eq!(
        fs::read_to_string(&committed).unwrap(),
        generated,
        "run this test with BLESS=1 after a change of the schema"
    );
}

fn generate(folder: &Path, schema: &str) -> String {
    let descriptors = protox::compile([schema], [folder]).unwrap();
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .out_dir(out.path())
        .compile_fds(descriptors)
        .unwrap();
    fs::read_to_string(out.path().join("event.rs")).unwrap()
}
