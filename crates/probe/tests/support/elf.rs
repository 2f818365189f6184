//! Writes ELF files that say what a test wants them to say.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Address of the code.
pub(crate) const BASE: u64 = 0x40_0000;
/// Where the code is in the file.
pub(crate) const CODE_AT: u64 = 0x78;

/// Bytes of a section.
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// This many zero bytes, which take no room on a disk.
    Hole(u64),
    /// The existing bytes at this offset of the file, as many as the second number says.
    Place(u64, u64),
}

pub(crate) struct Elf {
    pub(crate) code: Vec<u8>,
    /// Where the segment says that the code is.
    pub(crate) code_at: u64,
    /// `p_flags`
    pub(crate) code_flags: u32,
    sections: Vec<(&'static str, u32, Content)>,
}

impl Default for Elf {
    /// With code that can be probed, and no section.
    fn default() -> Self {
        Self {
            // push %rbp; pop %rbp; ret
            code: [0x55, 0x5D, 0xC3, 0x90].repeat(16),
            code_at: CODE_AT,
            code_flags: 5,
            sections: Vec::new(),
        }
    }
}

impl Elf {
    pub(crate) fn section(&mut self, name: &'static str, kind: u32, content: Content) {
        self.sections.push((name, kind, content));
    }

    /// The offset of a section.
    pub(crate) fn place(&self, name: &str) -> u64 {
        let mut places = self.places();
        places.find(|(other, ..)| *other == name).unwrap().2
    }

    /// Name, type, offset and size of each section.
    fn places(&self) -> impl Iterator<Item = (&'static str, u32, u64, u64)> {
        let mut end = CODE_AT + self.code.len() as u64;
        self.sections.iter().map(move |(name, kind, content)| {
            let (offset, size) = match content {
                Content::Bytes(bytes) => (end, bytes.len() as u64),
                Content::Hole(size) => (end, *size),
                Content::Place(offset, size) => return (*name, *kind, *offset, *size),
            };
            end += size;
            (*name, *kind, offset, size)
        })
    }

    pub(crate) fn write(&self, path: &Path) {
        let file = File::create(path).unwrap();
        let mut end = CODE_AT + self.code.len() as u64;
        for ((.., content), (.., offset, size)) in self.sections.iter().zip(self.places()) {
            match content {
                Content::Bytes(bytes) => file.write_all_at(bytes, offset).unwrap(),
                Content::Hole(_) => {}
                Content::Place(..) => continue,
            }
            end = offset + size;
        }
        let mut names = vec![0];
        let mut headers = vec![0; 64];
        for (name, kind, offset, size) in self.places().chain([(".shstrtab", 3, end, 0)]) {
            let at = names.len();
            names.extend(name.bytes().chain([0]));
            let size = if name == ".shstrtab" {
                names.len() as u64
            } else {
                size
            };
            headers.extend(section_header(u32::try_from(at).unwrap(), kind, offset, size));
        }
        file.write_all_at(&names, end).unwrap();
        file.write_all_at(&headers, end + names.len() as u64).unwrap();
        let count = u16::try_from(self.sections.len() + 2).unwrap();
        file.write_all_at(&self.headers(end + names.len() as u64, count), 0)
            .unwrap();
        file.write_all_at(&self.code, CODE_AT).unwrap();
    }

    fn headers(&self, sections_at: u64, sections: u16) -> Vec<u8> {
        let machine = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        header.extend([3u16, machine].map(u16::to_le_bytes).concat());
        header.extend(1u32.to_le_bytes());
        header.extend([BASE, 64, sections_at].map(u64::to_le_bytes).concat());
        header.extend(0u32.to_le_bytes());
        let words = [64, 56, 1, 64, sections, sections - 1];
        header.extend(words.map(u16::to_le_bytes).concat());
        header.extend([1, self.code_flags].map(u32::to_le_bytes).concat());
        let size = self.code.len() as u64;
        let words = [self.code_at, BASE, BASE, size, size, 0x1000];
        header.extend(words.map(u64::to_le_bytes).concat());
        header
    }
}

fn section_header(name: u32, kind: u32, offset: u64, size: u64) -> Vec<u8> {
    let mut header = [name, kind].map(u32::to_le_bytes).concat();
    // Flags (allocated) and address.
    header.extend([2, 0, offset, size].map(u64::to_le_bytes).concat());
    header.extend([0, 0].map(u32::to_le_bytes).concat());
    header.extend([1u64, 0].map(u64::to_le_bytes).concat());
    header
}

/// A defined, global function.
pub(crate) fn symbol(name: u32, address: u64, size: u64) -> Vec<u8> {
    let mut symbol = name.to_le_bytes().to_vec();
    symbol.extend([0x12, 0, 1, 0]);
    symbol.extend([address, size].map(u64::to_le_bytes).concat());
    symbol
}

/// A table of `functions` functions of Go that share one name of `name_bytes` bytes.
pub(crate) fn go_table(functions: u64, name_bytes: u64) -> Vec<u8> {
    let mut table = 0xFFFF_FFF1u32.to_le_bytes().to_vec();
    table.extend([0, 0, 1, 8]);
    let words = [functions, 0, BASE, 72, 0, 0, 0, 72 + name_bytes];
    table.extend(words.map(u64::to_le_bytes).concat());
    table.extend(b"A".repeat(usize::try_from(name_bytes).unwrap()));
    let information = u32::try_from(8 * (functions + 1)).unwrap();
    for _ in 0..=functions {
        table.extend([0x10, information].map(u32::to_le_bytes).concat());
    }
    table.extend([0x10u32, 0].map(u32::to_le_bytes).concat());
    table
}
