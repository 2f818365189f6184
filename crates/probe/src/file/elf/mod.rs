//! Functions and variables of a library or program, by name, with their place in the file.

mod layout;

use std::cell::{Cell, OnceCell};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::file::go_table;
use crate::file::labels::{Labels, Part, Parts};
use crate::file::library::Library;
use crate::file::rust_symbol::{self, RustFunction};
use crate::file::sql_symbol;
use crate::{Error, limits};
pub use layout::ElfError;
pub(crate) use layout::{Layout, at_most};
use layout::{Section, Segment, Source};

const SYMBOL_BYTES: usize = 24;
/// Symbols that are in memory at a time.
const SYMBOLS_AT_ONCE: usize = 4096;
const SYMBOL_TYPE_VARIABLE: u8 = 1;
const SYMBOL_TYPE_FUNCTION: u8 = 2;

/// `e_machine` of this machine.
#[cfg(target_arch = "x86_64")]
const MACHINE: u16 = 62;
#[cfg(target_arch = "aarch64")]
const MACHINE: u16 = 183;

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Function {
    /// Virtual address in the file.
    pub(crate) address: u64,
    /// Size in bytes, 0 when the symbol table does not say.
    pub(crate) size: u64,
}

/// The parts that were read of a library or program.
#[derive(Debug)]
pub(crate) struct Image {
    library: Library,
    /// The executable segments.
    code: Vec<Segment>,
    /// Addresses of the stubs that lead to other libraries.
    stubs: Vec<Range<u64>>,
    functions: HashMap<&'static str, Function>,
    /// Virtual addresses.
    variables: HashMap<&'static str, u64>,
    /// Functions of rustls that matter, each address once.
    rust: Vec<(RustFunction, Function)>,
    names_rustls: bool,
    /// Addresses of what others can call by a name, in order.
    exported: Vec<u64>,
    /// Bytes of code that may still be looked at.
    code_left: Cell<u64>,
    /// Where the labels of key logs are searched for.
    parts: Parts,
    /// See [`Self::labels`].
    labels: OnceCell<Labels>,
}

impl Image {
    /// Finds those of `names` that a library defines.
    pub(crate) fn read(library: &Library, names: &[&'static str]) -> Result<Self, Error> {
        Self::of(library, names).map_err(|source| Error::NotALibrary {
            path: library.path().to_owned(),
            source,
        })
    }

    /// Like [`Self::read`], with the reason alone.
    pub(crate) fn of(library: &Library, names: &[&'static str]) -> Result<Self, ElfError> {
        let layout = Layout::read(library.file(), library.size())?;
        if layout.machine != MACHINE {
            return Err(ElfError::Machine {
                observed: layout.machine,
                expected: MACHINE,
            });
        }
        let mut image = Self {
            library: library.clone(),
            code: layout.code.clone(),
            stubs: Vec::new(),
            functions: HashMap::new(),
            variables: HashMap::new(),
            rust: Vec::new(),
            names_rustls: false,
            exported: Vec::new(),
            code_left: Cell::new(limits::FILE_CODE_BYTES),
            parts: Parts {
                data: sections(&layout, Section::is_data),
                relocations: sections(&layout, Section::is_relocations),
                code: layout.code.iter().map(Segment::as_part).collect(),
                is_fixed: layout.is_fixed,
            },
            labels: OnceCell::new(),
        };
        for name in [".plt", ".plt.sec", ".plt.got", ".iplt"] {
            let stubs = layout
                .section(name)
                .map(|stubs| stubs.address..stubs.address.saturating_add(stubs.size));
            image.stubs.extend(stubs);
        }
        Reader {
            source: Source {
                file: library.file(),
                size: library.size(),
            },
            table_bytes: if library.is_trusted() {
                limits::TRUSTED_TABLE_BYTES
            } else {
                limits::TABLE_BYTES
            },
            names,
            image: &mut image,
        }
        .tables(&layout)?;
        image.take_offset();
        Ok(image)
    }

    /// A function that was named by its offset is there if that is in the code.
    fn take_offset(&mut self) {
        let Some(named) = self.library.named() else { return };
        let Some(offset) = named.function.offset else {
            return;
        };
        let stands_for = named.stands_for;
        self.functions.remove(stands_for);
        let inside = |segment: &&Segment| {
            let from = segment.file_offset;
            (from..from.saturating_add(segment.file_size)).contains(&offset)
        };
        if let Some(segment) = self.code.iter().find(inside) {
            let address = segment.address.wrapping_add(offset - segment.file_offset);
            self.functions.insert(stands_for, Function { address, size: 0 });
        }
    }

    /// Where it was found.
    pub(crate) fn path(&self) -> &Path {
        self.library.path()
    }

    /// The file that was read.
    pub(crate) fn library(&self) -> &Library {
        &self.library
    }

    /// The function of that name.
    pub(crate) fn function(&self, name: &str) -> Option<Function> {
        self.functions.get(name).copied()
    }

    /// The virtual address of the variable of that name.
    pub(crate) fn variable(&self, name: &str) -> Option<u64> {
        self.variables.get(name).copied()
    }

    /// The functions of rustls that are such a one.
    pub(crate) fn rust_functions(&self, wanted: RustFunction) -> impl Iterator<Item = Function> {
        let functions = self.rust.iter().filter(move |(rust, _)| *rust == wanted);
        functions.map(|(_, function)| *function)
    }

    /// Returns true if the symbols name anything of rustls.
    pub(crate) fn names_rustls(&self) -> bool {
        self.names_rustls
    }

    /// Where the code refers to the labels of key logs. The file is searched for them once.
    #[cfg_attr(
        not(target_arch = "x86_64"),
        expect(dead_code, reason = "stripped programs are searched on x86-64 only")
    )]
    pub(crate) fn labels(&self) -> &Labels {
        // What cannot be read has none.
        self.labels
            .get_or_init(|| Labels::find(self.library.file(), &self.parts).unwrap_or_default())
    }

    /// Returns true if the data of the file has this text, of at most 64 bytes.
    pub(crate) fn has_text(&self, text: &[u8]) -> bool {
        self.parts.have(self.library.file(), text).unwrap_or(false)
    }

    /// Returns true if other libraries can call the function at `address` by a name.
    pub(crate) fn is_exported(&self, address: u64) -> bool {
        self.exported.binary_search(&address).is_ok()
    }

    /// Returns true if `address` leads to another library.
    pub(crate) fn is_stub(&self, address: u64) -> bool {
        self.stubs.iter().any(|stubs| stubs.contains(&address))
    }

    /// Where the code at a virtual address is in the file. `None` when the file has no such byte, or does not
    /// load it to be executed.
    pub(crate) fn file_offset(&self, address: u64) -> Option<u64> {
        self.code.iter().find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            let offset = segment.file_offset.checked_add(inside)?;
            (inside < segment.file_size && offset < self.library.size()).then_some(offset)
        })
    }

    /// Up to `length` bytes of code from `address` on, fewer at the end of the file and never
    /// more than [`limits::CODE_BYTES`]. `None` when too much code of the file was looked at before.
    pub(crate) fn code(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let offset = self.file_offset(address)?;
        let length = length.min(limits::CODE_BYTES);
        self.code_left.set(self.code_left.get().checked_sub(length)?);
        let mut code = vec![0; usize::try_from(length).ok()?];
        let mut filled = 0;
        while filled < code.len() {
            let at = offset.checked_add(filled as u64)?;
            match self.library.file().read_at(&mut code[filled..], at) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
        code.truncate(filled);
        Some(code)
    }
}

fn sections(layout: &Layout, wanted: fn(&Section) -> bool) -> Vec<Part> {
    let sections = layout.sections.iter().filter(|section| wanted(section));
    sections
        .map(|section| Part {
            address: section.address,
            file_offset: section.offset,
            size: section.size,
        })
        .collect()
}

/// Fills an image from the tables of a file. Each table is read once, from its beginning to its end.
struct Reader<'file> {
    source: Source<'file>,
    /// Largest table that is read into memory.
    table_bytes: u64,
    names: &'file [&'static str],
    image: &'file mut Image,
}

impl Reader<'_> {
    fn tables(mut self, layout: &Layout) -> Result<(), ElfError> {
        for (symbols, strings, most) in [
            (".dynsym", ".dynstr", limits::EXPORTED_SYMBOLS),
            (".symtab", ".strtab", limits::SYMBOLS),
        ] {
            if let (Some(table), Some(text)) = (layout.section(symbols), layout.section(strings)) {
                self.symbols(table, text, most, symbols == ".dynsym")?;
            }
        }
        self.image.exported.sort_unstable();
        self.image.rust.sort_by_key(|(_, function)| function.address);
        self.image.rust.dedup_by_key(|(_, function)| function.address);
        self.go_functions(layout)
    }

    fn symbols(
        &mut self,
        table: &Section,
        text: &Section,
        most: u64,
        exported: bool,
    ) -> Result<(), ElfError> {
        let count = table.size / SYMBOL_BYTES as u64;
        at_most("symbols", count, most)?;
        let text = self
            .source
            .section("bytes of symbol names", text, self.table_bytes)?;
        let mut names = Names::of(&text);
        let mut done = 0;
        while done < count {
            let symbols = (count - done).min(SYMBOLS_AT_ONCE as u64);
            let chunk = Section::part(table, done * SYMBOL_BYTES as u64, symbols * SYMBOL_BYTES as u64);
            let chunk = self.source.section("symbols", &chunk, u64::MAX)?;
            for symbol in chunk.chunks_exact(SYMBOL_BYTES).filter_map(Symbol::read) {
                let name = names.at(symbol.name as usize)?;
                if symbol.is_variable {
                    self.variable(name, symbol.function.address);
                    continue;
                }
                if exported {
                    self.image.exported.push(symbol.function.address);
                }
                self.symbol(name, symbol.function)?;
            }
            done += symbols;
        }
        Ok(())
    }

    fn variable(&mut self, name: &[u8], address: u64) {
        if let Some(&wanted) = self.names.iter().find(|wanted| name == wanted.as_bytes()) {
            self.image.variables.entry(wanted).or_insert(address);
        }
    }

    fn symbol(&mut self, name: &[u8], function: Function) -> Result<(), ElfError> {
        match rust_symbol::recognize(name) {
            None => {}
            Some(RustFunction::Other) => self.image.names_rustls = true,
            Some(rust) => {
                self.image.names_rustls = true;
                self.image.rust.push((rust, function));
                at_most(
                    "functions of rustls",
                    self.image.rust.len() as u64,
                    limits::RUST_FUNCTIONS as u64,
                )?;
            }
        }
        if let Some(named) = self.image.library.named()
            && named.function.symbol.as_deref().map(str::as_bytes) == Some(name)
        {
            self.image.functions.insert(named.stands_for, function);
            return Ok(());
        }
        let name = sql_symbol::canonical(name).map_or(name, str::as_bytes);
        if let Some(&wanted) = self.names.iter().find(|wanted| name == wanted.as_bytes()) {
            self.image.functions.entry(wanted).or_insert(function);
        }
        Ok(())
    }

    /// Stripped Go programs keep this table. It has a section of its own, unless a position-independent
    /// program was linked by the system's linker, which puts it among other data.
    fn go_functions(&mut self, layout: &Layout) -> Result<(), ElfError> {
        const WHAT: &str = "bytes of Go's function table";
        let own = layout
            .section(".gopclntab")
            .or_else(|| layout.section(".data.rel.ro.gopclntab"));
        let among = || {
            layout
                .section(".go.buildinfo")
                .and_then(|_| layout.section(".data.rel.ro"))
        };
        let Some(section) = own.or_else(among) else {
            return Ok(());
        };
        let bytes = self.source.section(WHAT, section, self.table_bytes)?;
        let beginnings = match own {
            Some(_) => vec![0],
            None => go_table::beginnings(&bytes),
        };
        for beginning in beginnings {
            let table = &bytes[beginning..];
            let address = section.address.wrapping_add(beginning as u64);
            let text = self.go_text(table, address, layout)?;
            let functions = go_table::functions(table, text, self.names)?;
            if !functions.is_empty() {
                for (name, function) in functions {
                    self.image.functions.entry(name).or_insert(function);
                }
                break;
            }
        }
        Ok(())
    }

    /// The address that the table at `address` counts from: what it says, what the dynamic linker
    /// writes there, the linker's own symbol, or where the code begins.
    fn go_text(&self, table: &[u8], address: u64, layout: &Layout) -> Result<u64, ElfError> {
        if let Some(stated) = go_table::stated_text(table) {
            return Ok(stated);
        }
        let symbol = self.image.function("runtime.text").map(|text| text.address);
        if let Some(text) = symbol {
            return Ok(text);
        }
        let place = address.wrapping_add(go_table::TEXT_AT as u64);
        for name in [".rela", ".rela.dyn"] {
            if let Some(table) = layout.section(name) {
                let table = self
                    .source
                    .section("bytes of relocations", table, self.table_bytes)?;
                if let Some(text) = relocated(&table, place) {
                    return Ok(text);
                }
            }
        }
        Ok(layout.section(".text").map_or(0, |text| text.address))
    }
}

/// The value that the dynamic linker writes to `place`, before it adds where the file is loaded
/// (`Elf64_Rela` of the types `R_X86_64_RELATIVE` and `R_AARCH64_RELATIVE`).
fn relocated(table: &[u8], place: u64) -> Option<u64> {
    const ENTRY_BYTES: usize = 24;
    const RELATIVE: [u64; 2] = [8, 1027];
    let entries = table.chunks_exact(ENTRY_BYTES);
    let mut words = entries.map(|entry| {
        let word = |index: usize| {
            entry[8 * index..]
                .first_chunk()
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        (word(0), word(1), word(2))
    });
    let found = words
        .find(|&(offset, information, _)| offset == place && RELATIVE.contains(&(information & 0xFFFF_FFFF)));
    found.map(|(_, _, addend)| addend)
}

/// A defined function or variable of a symbol table (`Elf64_Sym`).
struct Symbol {
    /// Offset of its name.
    name: u32,
    is_variable: bool,
    function: Function,
}

impl Symbol {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (name, rest) = bytes.split_first_chunk()?;
        let (&[kind, _visibility], rest) = rest.split_first_chunk()?;
        let (section, rest) = rest.split_first_chunk()?;
        let (address, rest) = rest.split_first_chunk()?;
        let size = rest.first_chunk()?;
        let is_defined = u16::from_ne_bytes(*section) != 0;
        let is_variable = kind & 0xF == SYMBOL_TYPE_VARIABLE;
        let is_wanted = is_variable || kind & 0xF == SYMBOL_TYPE_FUNCTION;
        (is_wanted && is_defined).then_some(Self {
            name: u32::from_ne_bytes(*name),
            is_variable,
            function: Function {
                address: u64::from_ne_bytes(*address),
                size: u64::from_ne_bytes(*size),
            },
        })
    }
}

/// Names in a table, each ended by a zero byte. They may overlap, so that each may be long although the table
/// is short: looking at them takes no longer than [`limits::NAMES`] times the table.
pub(crate) struct Names<'table> {
    bytes: &'table [u8],
    /// Bytes that were looked at.
    looked_at: u64,
    limit: u64,
}

impl<'table> Names<'table> {
    pub(crate) fn of(bytes: &'table [u8]) -> Self {
        let limit = limits::NAMES * bytes.len() as u64;
        Self {
            bytes,
            looked_at: 0,
            limit: limit.max(limits::NAMES_BYTES),
        }
    }

    /// The name at an offset, without the zero byte. One that is too long, or beyond the table, is empty.
    pub(crate) fn at(&mut self, offset: usize) -> Result<&'table [u8], ElfError> {
        let rest = self.bytes.get(offset..).unwrap_or_default();
        let rest = &rest[..rest.len().min(limits::NAME_BYTES)];
        let end = memchr::memchr(0, rest).unwrap_or(rest.len());
        self.looked_at += end as u64 + 1;
        at_most("bytes of overlapping names", self.looked_at, self.limit)?;
        Ok(if end == limits::NAME_BYTES {
            &[]
        } else {
            &rest[..end]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_defined_functions_and_variables_count() {
        let mut bytes = [0; SYMBOL_BYTES];
        bytes[0] = 7;
        bytes[4] = 0x12;
        bytes[6] = 3;
        bytes[8] = 0x40;
        bytes[16] = 9;
        let symbol = Symbol::read(&bytes).unwrap();
        assert_eq!(symbol.name, 7);
        assert_eq!(
            symbol.function,
            Function {
                address: 0x40,
                size: 9
            }
        );
        let object = [&bytes[..4], &[0x11], &bytes[5..]].concat();
        assert!(Symbol::read(&object).unwrap().is_variable);
        let section = [&bytes[..4], &[0x03], &bytes[5..]].concat();
        assert!(Symbol::read(&section).is_none());
        let undefined = [&bytes[..6], &[0], &bytes[7..]].concat();
        assert!(Symbol::read(&undefined).is_none());
        assert!(Symbol::read(&bytes[..23]).is_none());
    }

    #[test]
    fn names_end_with_a_zero_byte() {
        let mut names = Names::of(b"\0one\0two\0cut");
        for (offset, name) in [(0, ""), (1, "one"), (2, "ne"), (5, "two"), (9, "cut"), (99, "")] {
            assert_eq!(names.at(offset).unwrap(), name.as_bytes());
        }
        let long = [b"x".repeat(limits::NAME_BYTES), b"\0short\0".to_vec()].concat();
        assert_eq!(Names::of(&long).at(0).unwrap(), b"");
        assert_eq!(Names::of(&long).at(1).unwrap().len(), limits::NAME_BYTES - 1);
    }

    #[test]
    fn names_that_overlap_are_looked_at_for_a_bounded_time() {
        let table = [b"x".repeat(1 << 20), vec![0]].concat();
        let mut names = Names::of(&table);
        let looks = (0..table.len()).take_while(|&offset| names.at(offset).is_ok());
        let bytes = looks.count() * limits::NAME_BYTES;
        assert!(bytes as u64 <= limits::NAMES * table.len() as u64, "{bytes}");
    }

    #[test]
    fn this_program_is_read() {
        let library = Library::open(Path::new("/proc/self/exe")).unwrap();
        let image = Image::read(&library, &["main", "no such function"]).unwrap();
        let main = image.function("main").unwrap();
        assert_eq!(
            image.code(main.address, main.size).unwrap().len() as u64,
            main.size
        );
        assert!(image.function("no such function").is_none());
    }
}
