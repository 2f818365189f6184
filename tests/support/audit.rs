//! The line that a run begins a file with, for tests about what follows it.

use std::fs;
use std::path::Path;

/// Returns true if `line` says who captured what.
pub(crate) fn is_audit(line: &[u8]) -> bool {
    line.starts_with(b"[ecapture: audit {") || line.starts_with(br#"{"v":1,"kind":"audit","#)
}

/// Returns `bytes`, the lines of a file or of several, without those.
pub(crate) fn without_audit(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !is_audit(line)).collect::<Vec<_>>().concat()
}

/// Reads a file without those lines.
pub(crate) fn read(file: &Path) -> Vec<u8> {
    without_audit(&fs::read(file).expect("a readable file"))
}
