//! The properties that must hold for every file that somebody executes, whoever has written it.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use ecapture_probe::{Library, examine};

/// Most probes that one file gets: see `limits.rs` of the crate.
const PROBES: usize = 16 * 1024;

thread_local! {
    /// In memory: a file for each input would cost more than reading it.
    static FILE: RefCell<File> = RefCell::new(tempfile::tempfile_in("/dev/shm").expect("memory"));
}

/// Headers, symbols, Go's function table, the plan and the marks of a file: no failure, and no probe that is
/// not in the file.
pub fn elf(input: &[u8]) {
    FILE.with_borrow(|file| {
        file.set_len(0).expect("a file in memory");
        file.write_all_at(input, 0).expect("a file in memory");
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let library = Library::open(&path).expect("a regular file");
        // Why a file is not used does not matter here.
        let offsets = examine(&library).unwrap_or_default();
        assert!(offsets.len() <= PROBES, "{} probes", offsets.len());
        for offset in offsets {
            assert!(offset < input.len() as u64, "a probe at {offset:#x}");
        }
    });
}
