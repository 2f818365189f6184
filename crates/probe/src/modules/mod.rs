//! The kinds of capture: what each attaches, its tables in the kernel, how its records are decoded,
//! and which files it wants.
//!
//! [`table`] lists them. Everything else in this crate asks [`Modules`] and knows none of them by
//! name, but for `find::survey`, which explains what of TLS cannot be captured.
//!
//! | part of a module | read by |
//! |---|---|
//! | functions, by family | `find` (which files), `plan` (where in a file), `kernel::attach` |
//! | tracepoints beside those of every capture | `kernel::loading` |
//! | tables in the kernel | `kernel::loading`, `kernel::tables` |
//! | kinds of records, and their decoder | `ring::decode` |
//! | beginnings of library names | `find`: such libraries are inspected first |

mod table;
pub(crate) mod tls;

use ecapture_ebpf::record::DecodeError;
use ecapture_protocols::CapturedEvent;

use crate::file::elf::Image;
use crate::kind::Kind;
use crate::plan::{Brings, Family, Hook};

/// A kind of capture.
#[derive(Debug)]
pub struct Module {
    pub(crate) name: &'static str,
    /// Functions of libraries and programs, in the order in which they are attached to.
    pub(crate) families: &'static [Family],
    /// Tracepoints that it needs beside those of every capture.
    pub(crate) tracepoints: &'static [Tracepoint],
    /// The tables in which its programs follow what is in progress.
    pub(crate) tables: &'static [Table],
    /// How the names of the libraries with its functions begin. A process may use such a library as
    /// soon as it is mapped, so it is inspected at once.
    pub(crate) libraries: &'static [&'static str],
    /// The kinds of its records in the ring buffer.
    pub(crate) records: &'static [u32],
    /// Decodes a record of one of these kinds.
    pub(crate) decode: fn(&[u8]) -> Result<CapturedEvent, DecodeError>,
}

/// A tracepoint with a program of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracepoint {
    pub(crate) name: &'static str,
    /// What is not known without it, for a message.
    pub(crate) lost: &'static str,
}

/// A table in the kernel that forgets its oldest entries when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    /// Name of the map.
    pub(crate) name: &'static str,
    /// Its number in `ecapture_ebpf::table`.
    pub(crate) number: u32,
    pub(crate) entries: u32,
}

/// The kinds of capture of one run.
#[derive(Debug, Clone, Copy)]
pub struct Modules(&'static [&'static Module]);

impl Default for Modules {
    fn default() -> Self {
        Self::TLS
    }
}

impl PartialEq for Modules {
    fn eq(&self, other: &Self) -> bool {
        self.0
            .iter()
            .map(|module| module.name)
            .eq(other.0.iter().map(|module| module.name))
    }
}

impl Eq for Modules {}

impl Modules {
    /// All that there are.
    pub const ALL: Self = Self(table::MODULES);
    /// The plaintext of TLS libraries.
    pub const TLS: Self = Self(&[&tls::TLS]);

    /// The functions of all of them.
    pub(crate) fn families(self) -> impl Iterator<Item = &'static Family> {
        self.0.iter().flat_map(|module| module.families)
    }

    pub(crate) fn hooks(self) -> impl Iterator<Item = &'static Hook> {
        self.families().flat_map(Family::hooks)
    }

    /// The names to look up in a file that is to be attached to.
    pub(crate) fn symbols(self) -> Vec<&'static str> {
        let families = self.families().filter(|family| family.is_found_by_name());
        families
            .flat_map(|family| {
                let symbols = family.hooks().map(|hook| hook.symbol);
                symbols.chain(family.also_read.iter().copied())
            })
            .collect()
    }

    /// The names to look up in order to find out which families a file has.
    pub(crate) fn identifying_symbols(self) -> Vec<&'static str> {
        let families = self.families().filter(|family| family.is_found_by_name());
        let hooks = families.flat_map(Family::hooks);
        hooks
            .filter(|hook| hook.identifies)
            .map(|hook| hook.symbol)
            .collect()
    }

    /// The implementations in a file.
    pub(crate) fn kinds_in(self, image: &Image) -> Vec<Kind> {
        let families = self.families().filter(|family| family.is_in(image));
        let mut kinds: Vec<_> = families.map(|family| family.kind).collect();
        kinds.dedup();
        kinds
    }

    /// One name of each family, for a message.
    pub(crate) fn examples(self) -> String {
        let families = self.families().filter(|family| family.is_found_by_name());
        let first = families.filter_map(|family| family.hooks().next());
        first.map(|hook| hook.symbol).collect::<Vec<_>>().join(", ")
    }

    /// What a function brings; `None` for one that is not among them.
    pub(crate) fn brings(self, symbol: &str) -> Option<Brings> {
        let mut hooks = self.hooks();
        hooks.find(|hook| hook.symbol == symbol).map(|hook| hook.brings)
    }

    /// Every program for functions, in order of their names.
    pub(crate) fn programs(self) -> Vec<&'static str> {
        let programs = self.hooks().flat_map(|hook| [Some(hook.entry), hook.returns]);
        let mut programs: Vec<_> = programs.flatten().collect();
        programs.sort_unstable();
        programs.dedup();
        programs
    }

    /// Returns true if content can be captured with the programs that `is_there` knows.
    pub(crate) fn can_bring_content(self, is_there: impl Fn(&str) -> bool) -> bool {
        let mut hooks = self.hooks().filter(|hook| hook.brings == Brings::Content);
        hooks.any(|hook| is_there(hook.entry) && hook.returns.is_none_or(&is_there))
    }

    /// The functions that a program is attached to.
    pub(crate) fn symbols_of(self, program: &str) -> Vec<&'static str> {
        let uses = |hook: &&Hook| hook.entry == program || hook.returns == Some(program);
        self.hooks().filter(uses).map(|hook| hook.symbol).collect()
    }

    pub(crate) fn tracepoints(self) -> impl Iterator<Item = &'static Tracepoint> {
        self.0.iter().flat_map(|module| module.tracepoints)
    }

    pub(crate) fn tables(self) -> impl Iterator<Item = &'static Table> {
        self.0.iter().flat_map(|module| module.tables)
    }

    /// Returns true if a library of that name most probably has the functions.
    pub(crate) fn name_library(self, name: &[u8]) -> bool {
        let mut beginnings = self.library_names();
        beginnings.any(|beginning| name.starts_with(beginning.as_bytes()))
            && memchr::memmem::find(name, b".so").is_some()
    }

    /// How the names of such libraries begin.
    pub(crate) fn library_names(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().flat_map(|module| module.libraries.iter().copied())
    }

    /// The module whose records have this kind.
    pub(crate) fn of_record(self, kind: u32) -> Option<&'static Module> {
        let mut modules = self.0.iter().copied();
        modules.find(|module| module.records.contains(&kind))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_modules_claim_the_same() {
        let mut names = HashSet::new();
        let mut records = HashSet::new();
        for module in Modules::ALL.0 {
            assert!(names.insert(module.name), "{}", module.name);
            for kind in module.records {
                assert!(records.insert(kind), "records of kind {kind}");
            }
        }
        let mut symbols = HashSet::new();
        for hook in Modules::ALL.hooks() {
            assert!(symbols.insert(hook.symbol), "{}", hook.symbol);
        }
        let mut tables = HashSet::new();
        for table in Modules::ALL.tables() {
            assert!(tables.insert(table.number), "{}", table.name);
        }
    }

    #[test]
    fn each_family_identifies_its_file_and_each_module_brings_content() {
        for family in Modules::ALL.families().filter(|family| family.is_found_by_name()) {
            assert!(family.hooks().any(|hook| hook.identifies), "{}", family.kind);
        }
        let with_functions = Modules::ALL.0.iter().filter(|module| !module.families.is_empty());
        for module in with_functions {
            let mut hooks = module.families.iter().flat_map(Family::hooks);
            assert!(
                hooks.any(|hook| hook.brings == Brings::Content),
                "{}",
                module.name
            );
        }
    }

    #[test]
    fn nothing_can_be_captured_with_one_half_of_a_call() {
        let modules = Modules::TLS;
        assert!(modules.can_bring_content(|_| true));
        assert!(modules.can_bring_content(|program| ["ssl_read", "call_return"].contains(&program)));
        assert!(!modules.can_bring_content(|program| program == "ssl_read"));
        let without = ["ssl_sendfile", "ssl_do_handshake", "call_return"];
        assert!(!modules.can_bring_content(|program| without.contains(&program)));
    }
}
