//! The headers of an ELF file (System V ABI, chapters 4 and 5; 64 bits, little-endian). Nothing they say is
//! believed that the file's size, or the bounds in [`limits`], contradict.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::file::labels::Part;
use crate::limits;

const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const SECTION_HEADER_BYTES: usize = 64;
/// `ET_EXEC`
const FIXED: u16 = 2;
const LOADED: u32 = 1;
const EXECUTABLE_SEGMENT: u32 = 1;
/// `SHN_XINDEX`: the number is in the first section header.
const ELSEWHERE: u16 = 0xFFFF;
/// Longest section name that is distinguished, in bytes.
const SECTION_NAME_BYTES: usize = 64;

const PROGBITS: u32 = 1;
const RELA: u32 = 4;
const NOBITS: u32 = 8;
const ALLOCATED: u64 = 0x2;
const EXECUTABLE: u64 = 0x4;
const THREAD_LOCAL: u64 = 0x400;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// The system cannot read it.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Its first bytes are those of another format.
    #[error("it is not a 64-bit little-endian ELF file")]
    NotElf,
    /// It is for another processor.
    #[error("built for machine {observed}, this host is {expected} (values of e_machine)")]
    Machine {
        /// `e_machine` of the file.
        observed: u16,
        /// `e_machine` of this host.
        expected: u16,
    },
    /// Its headers promise more than it has.
    #[error("its {what} end at byte {end}, the file at {size}")]
    BeyondTheEnd {
        /// The part of the file, in the plural.
        what: &'static str,
        /// Where the part ends, in bytes.
        end: u128,
        /// Size of the file, in bytes.
        size: u64,
    },
    /// Reading it would take more than a bound of this crate.
    #[error("it was given up: expected at most {limit} {what}, observed {observed}")]
    TooMuch {
        /// The things that there are too many of, in the plural.
        what: &'static str,
        /// As the file has it.
        observed: u64,
        /// The bound.
        limit: u64,
    },
}

impl ElfError {
    /// Returns true if a user may miss the file: it looks like a program, but not like one that is
    /// inspected.
    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self, Self::TooMuch { .. } | Self::BeyondTheEnd { .. })
    }
}

/// Complains when there is more than a bound allows.
pub(crate) fn at_most(what: &'static str, observed: u64, limit: u64) -> Result<(), ElfError> {
    if observed > limit {
        return Err(ElfError::TooMuch {
            what,
            observed,
            limit,
        });
    }
    Ok(())
}

/// The content of the headers.
#[derive(Debug)]
pub(crate) struct Layout {
    /// `e_machine`
    pub(crate) machine: u16,
    /// It is always loaded at the addresses that it states (`ET_EXEC`).
    pub(crate) is_fixed: bool,
    /// Those that are loaded to be executed.
    pub(crate) code: Vec<Segment>,
    pub(crate) sections: Vec<Section>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) address: u64,
    pub(crate) file_offset: u64,
    pub(crate) file_size: u64,
}

impl Segment {
    pub(crate) fn as_part(&self) -> Part {
        Part {
            address: self.address,
            file_offset: self.file_offset,
            size: self.file_size,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Section {
    name: Vec<u8>,
    kind: u32,
    flags: u64,
    pub(crate) address: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

impl Section {
    /// The `size` bytes of a section that begin at its byte `from`.
    pub(crate) fn part(whole: &Self, from: u64, size: u64) -> Self {
        Self {
            name: Vec::new(),
            // Beyond all files where it is beyond all numbers.
            offset: whole.offset.saturating_add(from),
            size,
            ..*whole
        }
    }

    /// Returns true if it has data, not code: where texts are.
    pub(crate) fn is_data(&self) -> bool {
        self.kind == PROGBITS && self.flags & (ALLOCATED | EXECUTABLE | THREAD_LOCAL) == ALLOCATED
    }

    /// Returns true if it says what the dynamic linker changes when the file is loaded.
    pub(crate) fn is_relocations(&self) -> bool {
        self.kind == RELA && self.flags & ALLOCATED != 0
    }
}

impl Layout {
    /// Reads the headers of a file of `size` bytes.
    pub(crate) fn read(file: &File, size: u64) -> Result<Self, ElfError> {
        let source = Source { file, size };
        if size < HEADER_BYTES as u64 {
            return Err(ElfError::NotElf);
        }
        let header = source.bytes("headers", 0, HEADER_BYTES as u64, HEADER_BYTES as u64)?;
        if !header.starts_with(MAGIC) || header[4] != CLASS_64 || header[5] != LITTLE_ENDIAN {
            return Err(ElfError::NotElf);
        }
        Ok(Self {
            machine: u16_at(&header, 18),
            is_fixed: u16_at(&header, 16) == FIXED,
            code: source.code(&header)?,
            sections: source.sections(&header)?,
        })
    }

    /// The first section of that name.
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections
            .iter()
            .find(|section| section.name == name.as_bytes())
    }
}

/// A file that is read at places which it names itself.
#[derive(Clone, Copy)]
pub(crate) struct Source<'file> {
    pub(crate) file: &'file File,
    pub(crate) size: u64,
}

impl Source<'_> {
    /// All bytes of a section, at most `limit`; none of one that has none in the file.
    pub(crate) fn section(
        &self,
        what: &'static str,
        section: &Section,
        limit: u64,
    ) -> Result<Vec<u8>, ElfError> {
        if section.kind == NOBITS {
            return Ok(Vec::new());
        }
        self.bytes(what, section.offset, section.size, limit)
    }

    /// Reads the bytes in that place. Allocates no more than the file has, and no more than `limit`.
    pub(crate) fn bytes(
        &self,
        what: &'static str,
        offset: u64,
        size: u64,
        limit: u64,
    ) -> Result<Vec<u8>, ElfError> {
        at_most(what, size, limit)?;
        let end = u128::from(offset) + u128::from(size);
        if end > u128::from(self.size) {
            return Err(ElfError::BeyondTheEnd {
                what,
                end,
                size: self.size,
            });
        }
        let mut bytes = vec![0; usize::try_from(size).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn code(&self, header: &[u8]) -> Result<Vec<Segment>, ElfError> {
        let count = u16_at(header, 56);
        at_most("program headers", count.into(), limits::PROGRAM_HEADERS as u64)?;
        if count > 0 && usize::from(u16_at(header, 54)) != PROGRAM_HEADER_BYTES {
            return Err(ElfError::NotElf);
        }
        let size = u64::from(count) * PROGRAM_HEADER_BYTES as u64;
        let table = self.bytes("program headers", u64_at(header, 32), size, size)?;
        let segments = table.chunks_exact(PROGRAM_HEADER_BYTES);
        let code = segments
            .filter(|segment| u32_at(segment, 0) == LOADED && u32_at(segment, 4) & EXECUTABLE_SEGMENT != 0);
        Ok(code
            .map(|segment| Segment {
                file_offset: u64_at(segment, 8),
                address: u64_at(segment, 16),
                file_size: u64_at(segment, 32),
            })
            .collect())
    }

    fn sections(&self, header: &[u8]) -> Result<Vec<Section>, ElfError> {
        let offset = u64_at(header, 40);
        if offset == 0 {
            return Ok(Vec::new());
        }
        if usize::from(u16_at(header, 58)) != SECTION_HEADER_BYTES {
            return Err(ElfError::NotElf);
        }
        let one = SECTION_HEADER_BYTES as u64;
        let first = self.bytes("section headers", offset, one, one)?;
        let count = match u16_at(header, 60) {
            0 => u64_at(&first, 32),
            count => count.into(),
        };
        at_most("section headers", count, limits::SECTIONS as u64)?;
        let names = match u16_at(header, 62) {
            ELSEWHERE => u32_at(&first, 40) as usize,
            index => index.into(),
        };
        let table = self.bytes("section headers", offset, count * one, count * one)?;
        let mut sections: Vec<_> = table.chunks_exact(SECTION_HEADER_BYTES).map(section).collect();
        let Some(names) = sections.get(names) else {
            return Ok(sections);
        };
        let names = self.section("bytes of section names", names, limits::SECTION_NAMES_BYTES)?;
        for (section, header) in sections.iter_mut().zip(table.chunks_exact(SECTION_HEADER_BYTES)) {
            let name = names.get(u32_at(header, 0) as usize..).unwrap_or_default();
            let name = &name[..name.len().min(SECTION_NAME_BYTES)];
            let end = memchr::memchr(0, name).unwrap_or(name.len());
            section.name = name[..end].to_vec();
        }
        Ok(sections)
    }
}

/// All but the name.
fn section(header: &[u8]) -> Section {
    Section {
        name: Vec::new(),
        kind: u32_at(header, 4),
        flags: u64_at(header, 8),
        address: u64_at(header, 16),
        offset: u64_at(header, 24),
        size: u64_at(header, 32),
    }
}

/// The number at a place within a header, whose size was checked.
fn u16_at(header: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(*header[at..].first_chunk().expect("a place within the header"))
}

fn u32_at(header: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*header[at..].first_chunk().expect("a place within the header"))
}

fn u64_at(header: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*header[at..].first_chunk().expect("a place within the header"))
}
