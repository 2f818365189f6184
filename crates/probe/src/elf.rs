//! Functions of a library or program, by name, with their place in the file.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use object::{Architecture, Object, ObjectSegment, ObjectSymbol, ReadCache, SymbolKind};

use crate::Error;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Architecture = Architecture::X86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Architecture = Architecture::Aarch64;

/// One function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Function {
    /// Virtual address in the file.
    pub(crate) address: u64,
}

/// An opened library or program.
#[derive(Debug)]
pub(crate) struct Image {
    path: PathBuf,
    segments: Vec<Segment>,
    functions: HashMap<&'static str, Function>,
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
        let not_a_library = |reason: String| Error::NotALibrary {
            path: path.to_owned(),
            reason,
        };
        let unreadable = |source| Error::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        if !file.metadata().map_err(unreadable)?.is_file() {
            return Err(not_a_library("not a regular file".to_owned()));
        }
        let cache = ReadCache::new(&file);
        let elf = object::File::parse(&cache).map_err(|error| not_a_library(error.to_string()))?;
        if elf.architecture() != ARCHITECTURE {
            let (observed, expected) = (elf.architecture(), ARCHITECTURE);
            return Err(not_a_library(format!(
                "built for {observed:?}, this is {expected:?}"
            )));
        }
        let segments = elf.segments().map(|segment| {
            let (file_offset, file_size) = segment.file_range();
            Segment {
                address: segment.address(),
                file_offset,
                file_size,
            }
        });
        let segments = segments.collect();
        let mut functions = HashMap::new();
        let symbols = elf.dynamic_symbols().chain(elf.symbols());
        for symbol in symbols.filter(ObjectSymbol::is_definition) {
            let Ok(name) = symbol.name() else { continue };
            if symbol.kind() == SymbolKind::Text
                && let Some(&name) = names.iter().find(|&&wanted| wanted == name)
            {
                let function = Function {
                    address: symbol.address(),
                };
                functions.entry(name).or_insert(function);
            }
        }
        drop(elf);
        drop(cache);
        Ok(Self {
            path: path.to_owned(),
            segments,
            functions,
        })
    }

    /// Where it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The function of that name.
    pub(crate) fn function(&self, name: &str) -> Option<Function> {
        self.functions.get(name).copied()
    }

    /// Whether none of the names was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.functions.is_empty()
    }

    /// Where the byte at a virtual address is in the file.
    pub(crate) fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            (inside < segment.file_size).then(|| segment.file_offset + inside)
        })
    }
}
