//! Files that a stranger has written: each is read in a bounded time and memory, and no probe is planned
//! outside of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/elf.rs"]
mod elf;
#[path = "support/random.rs"]
mod random;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use ecapture_probe::{Error, Library, examine};
use elf::{Content, Elf};
use random::Random;

/// Processor time: more than the worst file takes in a debug build, far less than one quadratic loop.
const PATIENCE: Duration = Duration::from_secs(15);
/// Memory that one file may take besides what the test has: two tables of names, and what is remembered.
const MEMORY_KIB: u64 = 300 * 1024;

/// Examines a file, and asserts the bounds of time and memory.
fn examined(elf: &Elf) -> Result<Vec<u64>, Error> {
    let file = tempfile::NamedTempFile::new().unwrap();
    elf.write(file.path());
    let library = Library::open(file.path()).unwrap();
    let started = processor_time();
    let result = examine(&library);
    let took = processor_time().saturating_sub(started);
    assert!(took < PATIENCE, "{took:?}");
    assert_within(file.path(), &result);
    result
}

fn assert_within(file: &Path, offsets: &Result<Vec<u64>, Error>) {
    let size = fs::metadata(file).unwrap().len();
    for offset in offsets.iter().flatten() {
        assert!(*offset < size, "a probe at {offset:#x} of {size:#x} bytes");
    }
}

fn given_up(elf: &Elf) -> String {
    let reason = examined(elf).unwrap_err().to_string();
    assert!(reason.contains("given up"), "{reason}");
    reason
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills in the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())
}

fn peak_memory_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `SSL_read` and `SSL_write` at the beginning of the code.
fn library() -> Elf {
    let mut elf = Elf::default();
    let names = b"\0SSL_read\0SSL_write\0".to_vec();
    let symbols = [elf::symbol(1, elf::BASE, 16), elf::symbol(10, elf::BASE + 16, 16)].concat();
    elf.section(".dynsym", 11, Content::Bytes(symbols));
    elf.section(".dynstr", 3, Content::Bytes(names));
    elf
}

#[test]
fn a_library_is_planned() {
    let mut offsets = examined(&library()).unwrap();
    offsets.sort_unstable();
    assert_eq!(offsets, [elf::CODE_AT, elf::CODE_AT + 16]);
}

/// The segment of the file says where in it the code is: that may be beyond its end, as in another file that
/// takes its place.
#[test]
fn code_beyond_the_end_of_the_file_is_not_probed() {
    let mut elf = library();
    elf.code_at = 1 << 40;
    assert_eq!(examined(&elf).unwrap(), [0; 0]);
}

#[test]
fn code_that_is_not_executable_is_not_probed() {
    let mut elf = library();
    elf.code_flags = 4;
    assert_eq!(examined(&elf).unwrap(), [0; 0]);
}

#[test]
fn what_is_no_instruction_is_not_probed() {
    let mut elf = library();
    // Not in 64-bit mode.
    elf.code[0] = 0x06;
    assert_eq!(examined(&elf).unwrap(), [elf::CODE_AT + 16]);
}

/// 160,000 symbols whose names all are the same 4 MB.
#[test]
fn long_names_shared_by_many_symbols_are_given_up() {
    let name = |beginning: &[u8]| [beginning, &b"A".repeat(4_000_000)].concat();
    for beginning in [&b""[..], b"_ZN_$LT$rustls..", b"_RNvM_6rustls"] {
        let mut elf = Elf::default();
        elf.section(
            ".symtab",
            2,
            Content::Bytes(elf::symbol(0, elf::BASE, 16).repeat(160_000)),
        );
        elf.section(".strtab", 3, Content::Bytes(name(beginning)));
        given_up(&elf);
    }
}

#[test]
fn long_names_in_a_table_of_go_are_given_up() {
    for entries in [40_000, 160_000] {
        let mut elf = Elf::default();
        elf.section(".gopclntab", 1, Content::Bytes(elf::go_table(entries, 1_000_000)));
        given_up(&elf);
    }
}

/// Sections that say how large they are, and are not there, or share one hole in the file.
#[test]
fn sections_larger_than_any_program_has_take_no_memory() {
    for hole in [1u64 << 33, 1 << 40] {
        let mut elf = Elf::default();
        elf.section(".symtab", 2, Content::Hole(hole));
        elf.section(".strtab", 3, Content::Bytes(vec![0]));
        given_up(&elf);
        let mut elf = Elf::default();
        elf.section(".symtab", 2, Content::Bytes(elf::symbol(0, elf::BASE, 16)));
        elf.section(".strtab", 3, Content::Hole(hole));
        given_up(&elf);
        let mut elf = Elf::default();
        elf.section(".gopclntab", 1, Content::Hole(hole));
        given_up(&elf);
    }
    let mut elf = Elf::default();
    elf.section(".symtab", 2, Content::Place(0, u64::MAX / 2));
    elf.section(".strtab", 3, Content::Bytes(vec![0]));
    given_up(&elf);
    assert!(peak_memory_kib() < MEMORY_KIB, "{} KiB", peak_memory_kib());
}

/// The same 60 MiB as every table that is read.
#[test]
fn tables_that_overlap_take_the_memory_of_one() {
    const SIZE: u64 = 60 << 20;
    let mut elf = Elf::default();
    elf.section(".dynstr", 3, Content::Hole(SIZE));
    let hole = elf.place(".dynstr");
    for (name, kind) in [(".dynsym", 11), (".symtab", 2), (".strtab", 3), (".gopclntab", 1)] {
        elf.section(name, kind, Content::Place(hole, SIZE));
    }
    let _given_up_or_empty = examined(&elf);
    assert!(peak_memory_kib() < MEMORY_KIB, "{} KiB", peak_memory_kib());
}

#[test]
fn more_functions_of_rustls_than_any_program_has_are_given_up() {
    let name = b"_ZN6rustls6vecbuf14ChunkVecBuffer8write_to17h87ee2134c9296c42E\0";
    let symbols = (0..100_000).map(|number| elf::symbol(0, elf::BASE + number, 1));
    let mut elf = Elf::default();
    elf.section(".symtab", 2, Content::Bytes(symbols.collect::<Vec<_>>().concat()));
    elf.section(".strtab", 3, Content::Bytes(name.to_vec()));
    given_up(&elf);
}

#[test]
fn headers_beyond_the_end_are_given_up() {
    let file = tempfile::NamedTempFile::new().unwrap();
    library().write(file.path());
    let bytes = fs::read(file.path()).unwrap();
    for length in 0..bytes.len() {
        fs::write(file.path(), &bytes[..length]).unwrap();
        let library = Library::open(file.path()).unwrap();
        assert_within(file.path(), &examine(&library));
    }
}

/// Seeded mutations of small files with every table that is read.
#[test]
fn mutated_files_are_harmless() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut seeds = vec![library()];
    let mut go = Elf::default();
    go.section(".gopclntab", 1, Content::Bytes(elf::go_table(20, 40)));
    seeds.push(go);
    let mut rust = library();
    let name = b"_ZN6rustls12common_state11CommonState20send_appdata_encrypt17hf99e248a5a66d3beE\0";
    rust.section(".symtab", 2, Content::Bytes(elf::symbol(0, elf::BASE, 16)));
    rust.section(".strtab", 3, Content::Bytes(name.to_vec()));
    seeds.push(rust);
    for (number, seed) in seeds.iter().enumerate() {
        seed.write(file.path());
        let seed = fs::read(file.path()).unwrap();
        for round in 0..mutations() {
            let mut bytes = seed.clone();
            let mut random = Random::new(round * 16 + number as u64);
            for _ in 0..=random.below(6) {
                let at = random.below(bytes.len());
                bytes[at] = match random.below(4) {
                    0 => 0,
                    1 => 0xFF,
                    2 => bytes[at] ^ 1 << random.below(8),
                    _ => u8::try_from(random.below(256)).unwrap(),
                };
            }
            let mut written = fs::File::create(file.path()).unwrap();
            written.write_all(&bytes).unwrap();
            let library = Library::open(file.path()).unwrap();
            assert_within(file.path(), &examine(&library));
        }
    }
}

/// `ECAPTURE_MUTATIONS` sets how many of each file are tried.
fn mutations() -> u64 {
    std::env::var("ECAPTURE_MUTATIONS").map_or(500, |count| count.parse().unwrap())
}
