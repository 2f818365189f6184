//! Functions of a library or program, by name, with their place in the file.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use object::{Architecture, Object, ObjectSection, ObjectSegment, ReadCache};

use crate::rust_symbol::{self, RustFunction};
use crate::{Error, go_table};

/// Longest function whose code is looked at, in bytes.
const CODE_LIMIT: u64 = 64 * 1024;
const SYMBOL_BYTES: usize = 24;
const SYMBOL_TYPE_FUNCTION: u8 = 2;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Architecture = Architecture::X86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Architecture = Architecture::Aarch64;

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Function {
    /// Virtual address in the file.
    pub(crate) address: u64,
    /// Size in bytes, 0 when the symbol table does not say.
    pub(crate) size: u64,
}

/// An opened library or program.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    file: File,
    segments: Vec<Segment>,
    /// Addresses of the stubs that lead to other libraries.
    stubs: Vec<Range<u64>>,
    functions: HashMap<&'static str, Function>,
    /// Functions of rustls, each address once.
    rust: Vec<(RustFunction, Function)>,
    exported: HashSet<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    address: u64,
    file_offset: u64,
    file_size: u64,
}

impl Image {
    /// Opens `path` and finds those of `names` that it defines.
    pub(crate) fn read(path: &Path, names: &[&'static str]) -> Result<Self, Error> {
        let unreadable = |source| Error::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        let is_file = file.metadata().map_err(unreadable)?.is_file();
        let mut image = Self {
            path: path.to_owned(),
            file,
            segments: Vec::new(),
            stubs: Vec::new(),
            functions: HashMap::new(),
            rust: Vec::new(),
            exported: HashSet::new(),
        };
        let parsed = if is_file {
            image.parse(names)
        } else {
            Err("not a regular file".to_owned())
        };
        match parsed {
            Ok(()) => Ok(image),
            Err(reason) => Err(Error::NotALibrary {
                path: path.to_owned(),
                reason,
            }),
        }
    }

    fn parse(&mut self, names: &[&'static str]) -> Result<(), String> {
        let cache = ReadCache::new(&self.file);
        let elf = object::File::parse(&cache).map_err(|error| error.to_string())?;
        let observed = elf.architecture();
        if observed != ARCHITECTURE {
            return Err(format!("built for {observed:?}, this is {ARCHITECTURE:?}"));
        }
        let segments = elf.segments().map(|segment| {
            let (file_offset, file_size) = segment.file_range();
            Segment {
                address: segment.address(),
                file_offset,
                file_size,
            }
        });
        self.segments = segments.collect();
        let section = |name: &str| elf.section_by_name(name);
        for name in [".plt", ".plt.sec", ".plt.got", ".iplt"] {
            let stubs = section(name).map(|stubs| stubs.address()..stubs.address() + stubs.size());
            self.stubs.extend(stubs);
        }
        // Whole sections at once: names are many and short.
        for (symbols, strings) in [(".dynsym", ".dynstr"), (".symtab", ".strtab")] {
            let bytes = |name: &str| section(name).and_then(|section| section.data().ok());
            if let (Some(table), Some(text)) = (bytes(symbols), bytes(strings)) {
                for symbol in table.chunks_exact(SYMBOL_BYTES).filter_map(Symbol::read) {
                    let Symbol { name, function } = symbol;
                    if symbols == ".dynsym" {
                        self.exported.insert(function.address);
                    }
                    let name = string_at(text, name);
                    self.rust
                        .extend(rust_symbol::recognize(name).map(|rust| (rust, function)));
                    if let Some(&wanted) = names.iter().find(|&&wanted| name == wanted.as_bytes()) {
                        self.functions.entry(wanted).or_insert(function);
                    }
                }
            }
        }
        self.rust.sort_by_key(|(_, function)| function.address);
        self.rust.dedup_by_key(|(_, function)| function.address);
        // Stripped Go programs keep this table; the linker's own symbol says where text begins.
        if let Some(table) = section(".gopclntab").and_then(|table| table.data().ok()) {
            let text = self.function("runtime.text").map(|text| text.address);
            let text = text
                .or_else(|| section(".text").map(|text| text.address()))
                .unwrap_or(0);
            for (name, function) in go_table::functions(table, text, names) {
                self.functions.entry(name).or_insert(function);
            }
        }
        Ok(())
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The function of that name.
    pub(crate) fn function(&self, name: &str) -> Option<Function> {
        self.functions.get(name).copied()
    }

    /// The functions of rustls that are such a one.
    pub(crate) fn rust_functions(&self, wanted: RustFunction) -> impl Iterator<Item = Function> {
        let functions = self.rust.iter().filter(move |(rust, _)| *rust == wanted);
        functions.map(|(_, function)| *function)
    }

    /// Whether the symbols name anything of rustls.
    pub(crate) fn names_rustls(&self) -> bool {
        !self.rust.is_empty()
    }

    /// Whether other libraries can call the function at `address` by a name.
    pub(crate) fn is_exported(&self, address: u64) -> bool {
        self.exported.contains(&address)
    }

    /// Whether `address` leads to another library.
    pub(crate) fn is_stub(&self, address: u64) -> bool {
        self.stubs.iter().any(|stubs| stubs.contains(&address))
    }

    /// Where the byte at a virtual address is in the file.
    pub(crate) fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            (inside < segment.file_size).then(|| segment.file_offset + inside)
        })
    }

    /// Up to `length` bytes of code from `address` on, fewer at the end of the file and never
    /// more than [`CODE_LIMIT`].
    pub(crate) fn code(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let offset = self.file_offset(address)?;
        let mut code = vec![0; usize::try_from(length.min(CODE_LIMIT)).ok()?];
        let mut filled = 0;
        while filled < code.len() {
            match self.file.read_at(&mut code[filled..], offset + filled as u64) {
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

/// A defined function of a symbol table (`Elf64_Sym`).
struct Symbol {
    /// Offset of its name.
    name: u32,
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
        (kind & 0xF == SYMBOL_TYPE_FUNCTION && is_defined).then_some(Self {
            name: u32::from_ne_bytes(*name),
            function: Function {
                address: u64::from_ne_bytes(*address),
                size: u64::from_ne_bytes(*size),
            },
        })
    }
}

fn string_at(strings: &[u8], offset: u32) -> &[u8] {
    let rest = strings.get(offset as usize..).unwrap_or_default();
    rest.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_defined_functions_count() {
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
        assert!(Symbol::read(&object).is_none());
        let undefined = [&bytes[..6], &[0], &bytes[7..]].concat();
        assert!(Symbol::read(&undefined).is_none());
        assert!(Symbol::read(&bytes[..23]).is_none());
    }

    #[test]
    fn this_program_is_read() {
        let image = Image::read(Path::new("/proc/self/exe"), &["main", "no such function"]).unwrap();
        let main = image.function("main").unwrap();
        assert_eq!(
            image.code(main.address, main.size).unwrap().len() as u64,
            main.size
        );
        assert!(image.function("no such function").is_none());
    }
}
