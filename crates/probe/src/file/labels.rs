//! Where code refers to the labels of key logs. Libraries that were linked into a stripped program have no names,
//! but they keep these texts.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use memchr::memmem;

use crate::limits;

/// The labels. A library that writes key logs of TLS 1.3 has all of the first four.
pub(crate) const LABELS: [&[u8]; 7] = [
    b"SERVER_HANDSHAKE_TRAFFIC_SECRET",
    b"CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    b"CLIENT_TRAFFIC_SECRET_0",
    b"SERVER_TRAFFIC_SECRET_0",
    b"CLIENT_EARLY_TRAFFIC_SECRET",
    MASTER,
    b"EXPORTER_SECRET",
];
/// The label of the master secret.
pub(crate) const MASTER: &[u8] = b"CLIENT_RANDOM";
/// How many of them such a library has without fail.
pub(crate) const NEEDED: usize = 4;

/// Bytes that are in memory at a time.
const WINDOW: usize = 1024 * 1024;
/// Overlap of two windows, in bytes: as long as a label or a reference may be.
const OVERLAP: usize = 64;

/// What the code of a file has to do with the labels.
#[derive(Debug, Default)]
pub(crate) struct Labels {
    /// In order of addresses.
    pub(crate) references: Vec<Reference>,
    /// Addresses of the instructions that load the address of a table of pointers to labels, in order.
    pub(crate) tables: Vec<u64>,
}

/// An instruction that loads the address of a label as the second parameter of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Number of the label in [`LABELS`].
    pub(crate) label: usize,
    /// Address of the instruction.
    pub(crate) address: u64,
    /// The label ends with a zero byte, as texts of C do and those of Rust do not.
    pub(crate) is_c_string: bool,
}

/// A label in the data of a file.
#[derive(Debug, Clone, Copy)]
struct Text {
    label: usize,
    address: u64,
    is_c_string: bool,
}

/// The parts of a file that are searched.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// Where texts are, and pointers to them.
    pub(crate) data: Vec<Part>,
    /// What the dynamic linker changes (`Elf64_Rela`).
    pub(crate) relocations: Vec<Part>,
    pub(crate) code: Vec<Part>,
    /// It is always loaded at the addresses that it states.
    pub(crate) is_fixed: bool,
}

impl Parts {
    /// Returns true if the data has `text`, which is no longer than the overlap of two windows.
    pub(crate) fn have(&self, file: &File, text: &[u8]) -> io::Result<bool> {
        let mut is_there = false;
        for part in &self.data {
            part.windows(file, limits::LABEL_BYTES, |_, bytes| {
                is_there |= memmem::find(bytes, text).is_some();
                !is_there
            })?;
        }
        Ok(is_there)
    }
}

impl Labels {
    /// Finds at most [`limits::LABEL_PLACES`] of each; nothing if a needed label is missing.
    pub(crate) fn find(file: &File, parts: &Parts) -> io::Result<Self> {
        let texts = texts(file, &parts.data)?;
        let mut found = Self::default();
        if texts.is_empty() {
            return Ok(found);
        }
        let tables = tables(&pointers(file, parts, &texts)?);
        for part in &parts.code {
            part.windows(file, limits::LABEL_CODE_BYTES, |address, bytes| {
                loads(bytes, address, parts.is_fixed, |at, loaded| {
                    let labels = texts.iter().filter(|text| text.address == loaded);
                    found.references.extend(labels.map(|text| Reference {
                        label: text.label,
                        address: at,
                        is_c_string: text.is_c_string,
                    }));
                });
                if !tables.is_empty() {
                    loads_of_any_register(bytes, address, |at, loaded| {
                        found.tables.extend(tables.contains(&loaded).then_some(at));
                    });
                }
                found.references.len().max(found.tables.len()) <= limits::LABEL_PLACES
            })?;
        }
        found
            .references
            .sort_unstable_by_key(|reference| (reference.address, reference.label));
        found.references.dedup();
        found.references.truncate(limits::LABEL_PLACES);
        found.tables.sort_unstable();
        found.tables.dedup();
        found.tables.truncate(limits::LABEL_PLACES);
        Ok(found)
    }
}

/// The labels in the data of a file; none if a needed one is missing.
fn texts(file: &File, data: &[Part]) -> io::Result<Vec<Text>> {
    let mut texts = Vec::new();
    for (label, name) in LABELS.iter().enumerate() {
        let before = texts.len();
        for part in data {
            part.windows(file, limits::LABEL_BYTES, |address, bytes| {
                texts.extend(memmem::find_iter(bytes, name).map(|at| Text {
                    label,
                    address: address.wrapping_add(at as u64),
                    is_c_string: bytes.get(at + name.len()) == Some(&0),
                }));
                texts.len() <= before + limits::LABEL_PLACES
            })?;
        }
        if label < NEEDED && texts.len() == before {
            return Ok(Vec::new());
        }
    }
    // Where a window ends with a label, the next one says what follows it.
    texts.sort_unstable_by_key(|text| (text.address, !text.is_c_string));
    texts.dedup_by_key(|text| text.address);
    Ok(texts)
}

/// Where pointers to labels of Rust are in memory, and to which: they are in the data, or the dynamic linker writes them.
fn pointers(file: &File, parts: &Parts, texts: &[Text]) -> io::Result<BTreeMap<u64, usize>> {
    /// Where the value is in an `Elf64_Rela`.
    const ADDEND: usize = 16;
    let mut pointers = BTreeMap::new();
    for text in texts.iter().filter(|text| !text.is_c_string) {
        let value = text.address.to_le_bytes();
        for part in &parts.data {
            part.windows(file, limits::LABEL_BYTES, |address, bytes| {
                let places = memmem::find_iter(bytes, &value);
                pointers.extend(places.map(|at| (address.wrapping_add(at as u64), text.label)));
                pointers.len() <= limits::LABEL_PLACES
            })?;
        }
        for part in &parts.relocations {
            part.windows(file, limits::LABEL_BYTES, |_, bytes| {
                let entries = memmem::find_iter(bytes, &value).filter_map(|at| at.checked_sub(ADDEND));
                let places = entries.filter_map(|at| bytes[at..].first_chunk());
                pointers.extend(places.map(|place| (u64::from_le_bytes(*place), text.label)));
                pointers.len() <= limits::LABEL_PLACES
            })?;
        }
    }
    Ok(pointers)
}

/// Where the pointers to at least the needed labels follow each other.
fn tables(pointers: &BTreeMap<u64, usize>) -> Vec<u64> {
    const POINTER_BYTES: u64 = 8;
    let begins = |address: u64| {
        let before = address.checked_sub(POINTER_BYTES);
        before.is_none_or(|before| !pointers.contains_key(&before))
    };
    let has_all = |begin: u64| {
        let places = (0..).map_while(|number: u64| begin.checked_add(number * POINTER_BYTES));
        let labels: Vec<_> = places.map_while(|place| pointers.get(&place)).collect();
        (0..NEEDED).all(|label| labels.contains(&&label))
    };
    let addresses = pointers.keys().copied();
    addresses
        .filter(|&address| begins(address) && has_all(address))
        .collect()
}

/// A part of a file, and where it is loaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) address: u64,
    pub(crate) file_offset: u64,
    pub(crate) size: u64,
}

impl Part {
    /// Reads the part window by window, at most `limit` bytes of it, until `look` returns false. Windows overlap.
    fn windows(&self, file: &File, limit: u64, mut look: impl FnMut(u64, &[u8]) -> bool) -> io::Result<()> {
        let size = self.size.min(limit);
        let mut window = vec![0; WINDOW + OVERLAP];
        let mut done = 0;
        while done < size {
            let wanted = usize::try_from(size - done).map_or(window.len(), |left| left.min(window.len()));
            let offset = self
                .file_offset
                .checked_add(done)
                .ok_or(io::ErrorKind::InvalidData)?;
            file.read_exact_at(&mut window[..wanted], offset)?;
            if !look(self.address.wrapping_add(done), &window[..wanted]) {
                break;
            }
            done += WINDOW as u64;
        }
        Ok(())
    }
}

/// Calls `each` with the addresses of the instructions in `bytes` that may load an address into the register of the
/// second parameter, and what they load: `lea label(%rip),%rsi` and, in a program that is always loaded at the same
/// place, `mov $label,%esi`.
#[cfg(target_arch = "x86_64")]
fn loads(bytes: &[u8], address: u64, is_fixed: bool, mut each: impl FnMut(u64, u64)) {
    const RELATIVE: [u8; 3] = [0x48, 0x8d, 0x35];
    const ABSOLUTE: u8 = 0xbe;
    let word = |at: usize| {
        bytes
            .get(at..)?
            .first_chunk()
            .map(|word| u32::from_le_bytes(*word))
    };
    for at in memmem::find_iter(bytes, &RELATIVE) {
        if let Some(distance) = word(at + RELATIVE.len()) {
            let start = address.wrapping_add(at as u64);
            let distance = i64::from(distance.cast_signed());
            each(start, start.wrapping_add(7).wrapping_add_signed(distance));
        }
    }
    if is_fixed {
        for at in memchr::memchr_iter(ABSOLUTE, bytes) {
            if let Some(loaded) = word(at + 1) {
                each(address.wrapping_add(at as u64), loaded.into());
            }
        }
    }
}

/// Calls `each` with the addresses of the instructions in `bytes` that may load an address into any register, and what
/// they load: `lea table(%rip),%rax`.
#[cfg(target_arch = "x86_64")]
fn loads_of_any_register(bytes: &[u8], address: u64, mut each: impl FnMut(u64, u64)) {
    const LEA: u8 = 0x8d;
    for at in memchr::memchr_iter(LEA, bytes) {
        let prefix = at.checked_sub(1).map_or(0, |before| bytes[before]);
        let Some(&[mode, ref word @ ..]) = bytes[at + 1..].first_chunk::<5>() else {
            continue;
        };
        // 64 bits wide, relative to the next instruction.
        if prefix & 0xfb == 0x48 && mode & 0xc7 == 0x05 {
            let start = address.wrapping_add(at as u64).wrapping_sub(1);
            let distance = i64::from(i32::from_le_bytes(*word));
            each(start, start.wrapping_add(7).wrapping_add_signed(distance));
        }
    }
}

/// Not understood on this architecture.
#[cfg(target_arch = "aarch64")]
fn loads_of_any_register(_bytes: &[u8], _address: u64, _each: impl FnMut(u64, u64)) {}

/// Not understood on this architecture.
#[cfg(target_arch = "aarch64")]
fn loads(_bytes: &[u8], _address: u64, _is_fixed: bool, _each: impl FnMut(u64, u64)) {}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    fn found(bytes: &[u8], is_fixed: bool) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        loads(bytes, 0x1000, is_fixed, |at, loaded| found.push((at, loaded)));
        found
    }

    #[test]
    fn both_ways_to_load_an_address_are_found() {
        // nop; lea 0x10(%rip),%rsi; lea -0x20(%rip),%rsi; mov $0x2cf186,%esi
        let bytes = [
            0x90, 0x48, 0x8d, 0x35, 0x10, 0, 0, 0, 0x48, 0x8d, 0x35, 0xe0, 0xff, 0xff, 0xff, 0xbe, 0x86,
            0xf1, 0x2c, 0,
        ];
        let relative = [(0x1001, 0x1018), (0x1008, 0x0fef)];
        assert_eq!(found(&bytes, false), relative);
        assert_eq!(
            found(&bytes, true),
            [&relative[..], &[(0x100f, 0x2c_f186)]].concat()
        );
        for length in 0..bytes.len() {
            assert!(found(&bytes[..length], true).len() < 3);
        }
    }

    #[test]
    fn tables_have_all_needed_labels_one_after_the_other() {
        let pointers = |labels: &[(u64, usize)]| tables(&labels.iter().copied().collect());
        assert_eq!(
            pointers(&[(0x100, 4), (0x108, 1), (0x110, 0), (0x118, 2), (0x120, 3)]),
            [0x100]
        );
        assert!(pointers(&[(0x108, 1), (0x110, 0), (0x118, 2), (0x128, 3)]).is_empty());
        assert!(pointers(&[(0, 1), (8, 0), (16, 2)]).is_empty());
    }

    #[test]
    fn loads_into_any_register_are_found() {
        // lea 0x10(%rip),%rax; lea -0x20(%rip),%r13; lea 0x10(%rax),%rax
        let bytes = [
            0x48, 0x8d, 0x05, 0x10, 0, 0, 0, 0x4c, 0x8d, 0x2d, 0xe0, 0xff, 0xff, 0xff, 0x48, 0x8d, 0x40, 0x10,
        ];
        let mut found = Vec::new();
        loads_of_any_register(&bytes, 0x1000, |at, loaded| found.push((at, loaded)));
        assert_eq!(found, [(0x1000, 0x1017), (0x1007, 0xfee)]);
    }

    #[test]
    fn what_lies_across_two_windows_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let text = LABELS[0];
        for at in [WINDOW - 5, WINDOW, WINDOW + OVERLAP - 1] {
            let mut bytes = vec![0; 2 * WINDOW + 7];
            bytes[at..at + text.len()].copy_from_slice(text);
            std::fs::write(&path, &bytes).unwrap();
            let part = Part {
                address: 0x5000,
                file_offset: 0,
                size: bytes.len() as u64,
            };
            let mut seen = Vec::new();
            let file = File::open(&path).unwrap();
            part.windows(&file, u64::MAX, |address, bytes| {
                seen.extend(memmem::find_iter(bytes, text).map(|place| address + place as u64));
                true
            })
            .unwrap();
            seen.dedup();
            assert_eq!(seen, [0x5000 + at as u64]);
        }
    }
}
