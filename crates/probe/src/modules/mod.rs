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
//! | names of programs | `find`: such programs are looked for where programs are installed |

mod join;
mod secrets;
mod shell;
mod sql;
mod table;
pub(crate) mod tls;

use std::fmt;

use ecapture_ebpf::record::DecodeError;
use ecapture_protocols::CapturedEvent;
use ecapture_protocols::redact::Redaction;

use crate::file::elf::Image;
use crate::file::library::NamedFunction;
use crate::kind::Kind;
use crate::plan::{Brings, Family, Hook, Refusal};
pub(crate) use join::{Join, Joined};

/// A kind of capture.
#[derive(Debug)]
pub struct Module {
    pub(crate) name: &'static str,
    /// Functions of libraries and programs, in the order in which they are attached to.
    pub(crate) families: &'static [Family],
    /// Functions that are looked up for [`Self::place`], and not attached to.
    pub(crate) also_read: &'static [&'static str],
    /// Returns the upper half of the cookie of all probes in a file: where its functions find what they need.
    pub(crate) place: Option<fn(&Image) -> u32>,
    /// The name in [`Self::families`] of a function that the user names by another one.
    pub(crate) named: Option<fn(&NamedFunction) -> &'static str>,
    /// What is captured with it unless TLS is.
    pub(crate) without_tls: Option<&'static Self>,
    /// Tracepoints that it needs beside those of every capture.
    pub(crate) tracepoints: &'static [Tracepoint],
    /// The tables in which its programs follow what is in progress.
    pub(crate) tables: &'static [Table],
    /// Maps that have one entry unless this module is captured, with their number of entries.
    pub(crate) maps: &'static [(&'static str, u32)],
    /// How the names of the libraries with its functions begin. A process may use such a library as
    /// soon as it is mapped, so it is inspected at once.
    pub(crate) libraries: &'static [&'static str],
    /// File names of the programs with its functions, which are attached to before they run.
    pub(crate) programs: &'static [&'static str],
    /// Its programs learn of sockets from what each thread does with them.
    pub(crate) needs_sockets: bool,
    /// What it needs of the programs that every capture has, a constant of `ecapture_ebpf::config`.
    pub(crate) feature: u32,
    /// Its programs need the helper `bpf_loop` (Linux 5.17): before, the verifier walks each of their loops for minutes.
    pub(crate) needs_loop: bool,
    /// The kinds of its records in the ring buffer.
    pub(crate) records: &'static [u32],
    /// Decodes a record of one of these kinds.
    pub(crate) decode: Decode,
}

/// How records become events.
#[derive(Clone, Copy)]
pub(crate) enum Decode {
    /// Each record is an event.
    Each(fn(&[u8]) -> Result<CapturedEvent, DecodeError>),
    /// Several records are one, or none.
    Join(fn(&ModuleOptions) -> Box<dyn Join>),
}

/// What single modules can be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModuleOptions {
    /// Only commands of shells that ended with this exit status.
    pub shell_status: Option<i32>,
    /// What is masked in statements and commands.
    pub redaction: Redaction,
}

impl fmt::Debug for Decode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Each(_) => "Each",
            Self::Join(_) => "Join",
        })
    }
}

/// A tracepoint with a program of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tracepoint {
    pub(crate) name: &'static str,
    /// The information that is missing without it, for a message.
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

/// The kinds of capture of one run: a bit for each line of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Modules(u32);

impl Default for Modules {
    fn default() -> Self {
        Self::TLS
    }
}

impl fmt::Debug for Modules {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.names()).finish()
    }
}

impl Modules {
    /// All that there are.
    pub const ALL: Self = Self((1 << table::MODULES.len()) - 1);
    /// The plaintext of TLS libraries, the first line of the table.
    pub const TLS: Self = Self(1);
    /// The secrets of TLS handshakes, the fourth line of the table.
    pub const SECRETS: Self = Self(1 << 3);

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let number = table::MODULES.iter().position(|module| module.name == name)?;
        Some(Self(1 << number))
    }

    /// Their names, in the order of the table.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.chosen().map(|module| module.name)
    }

    /// These and others.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Returns true if all of `others` are among them.
    pub const fn have(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// The kinds of their functions.
    pub fn kinds(self) -> Vec<Kind> {
        let mut kinds: Vec<_> = self.families().map(|family| family.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    pub(crate) fn chosen(self) -> impl Iterator<Item = &'static Module> {
        let numbered = table::MODULES.iter().enumerate();
        let listed =
            numbered.filter_map(move |(number, module)| (self.0 >> number & 1 != 0).then_some(*module));
        let has_tls = self.have(Self::TLS);
        listed.flat_map(move |module| {
            let with_it = module.without_tls.filter(|_| !has_tls);
            [Some(module), with_it].into_iter().flatten()
        })
    }

    /// The functions of all of them.
    pub(crate) fn families(self) -> impl Iterator<Item = &'static Family> {
        self.chosen().flat_map(|module| module.families)
    }

    pub(crate) fn hooks(self) -> impl Iterator<Item = &'static Hook> {
        self.families().flat_map(Family::hooks)
    }

    /// The names to look up in a file that is to be attached to.
    pub(crate) fn symbols(self) -> Vec<&'static str> {
        let others = self.chosen().flat_map(|module| module.also_read.iter().copied());
        self.families()
            .flat_map(|family| {
                let symbols = family
                    .hooks()
                    .filter(|_| family.is_found_by_name())
                    .flat_map(|hook| [&[hook.symbol], hook.variables].concat());
                symbols.chain(family.also_read.iter().copied())
            })
            .chain(others)
            .collect()
    }

    /// The names to look up in order to find out which families a file has.
    pub(crate) fn identifying_symbols(self) -> Vec<&'static str> {
        self.families()
            .flat_map(|family| {
                let is_by_name = family.is_found_by_name();
                let hooks = family.hooks().filter(move |hook| is_by_name && hook.identifies);
                let of_proofs = family.also_read.iter().copied().filter(move |_| !is_by_name);
                hooks.map(|hook| hook.symbol).chain(of_proofs)
            })
            .collect()
    }

    /// The names that identify a file, for a message: it must have one of them.
    pub(crate) fn looked_for(self) -> Vec<&'static str> {
        let hooks = self
            .hooks()
            .filter(|hook| hook.identifies && hook.brings.is_wanted());
        hooks.map(|hook| hook.symbol).collect()
    }

    /// Returns true if the user may name a function.
    pub(crate) fn take_named_function(self) -> bool {
        self.chosen().any(|module| module.named.is_some())
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
        let by_name = self.families().filter(|family| family.is_found_by_name());
        let mut first: Vec<_> = by_name.filter_map(|family| family.hooks().next()).collect();
        if first.is_empty() {
            first.extend(self.families().flat_map(Family::hooks));
        }
        let symbols: Vec<_> = first.iter().map(|hook| hook.symbol).collect();
        symbols.join(", ")
    }

    /// The kind of records that a function delivers; `None` for one that is not among them.
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
        let mut hooks = self.hooks().filter(|hook| hook.brings.is_wanted());
        hooks.any(|hook| is_there(hook.entry) && hook.returns.is_none_or(&is_there))
    }

    /// The functions that a program is attached to.
    pub(crate) fn symbols_of(self, program: &str) -> Vec<&'static str> {
        let uses = |hook: &&Hook| hook.entry == program || hook.returns == Some(program);
        self.hooks().filter(uses).map(|hook| hook.symbol).collect()
    }

    pub(crate) fn tracepoints(self) -> impl Iterator<Item = &'static Tracepoint> {
        self.chosen().flat_map(|module| module.tracepoints)
    }

    /// The upper half of the cookie of all probes in a file.
    pub(crate) fn place(self, image: &Image) -> u32 {
        let mut places = self.chosen().filter_map(|module| module.place);
        places.next().map_or(0, |place| place(image))
    }

    /// The name in the tables of a function that the user names; `None` if none of them takes one.
    pub(crate) fn named_function(self, function: &NamedFunction) -> Option<&'static str> {
        let mut takes = self.chosen().filter_map(|module| module.named);
        takes.next().map(|name| name(function))
    }

    /// Returns true if a file has a function that derives or logs secrets.
    pub(crate) fn derive_in(self, image: &Image) -> bool {
        let families = self.families().filter(|family| family.is_in(image));
        families
            .flat_map(Family::hooks)
            .any(|hook| hook.brings == Brings::Secrets)
    }

    /// Why the functions of `kind` in a file that seems to have them cannot be relied on.
    pub(crate) fn refusal_in(self, image: &Image, kind: Kind) -> Option<Refusal> {
        let mut families = self.families().filter(|family| family.kind == kind);
        families.find_map(|family| family.refusal(image))
    }

    /// See [`Module::maps`].
    pub(crate) fn maps(self) -> impl Iterator<Item = (&'static str, u32)> {
        self.chosen().flat_map(|module| module.maps.iter().copied())
    }

    pub(crate) fn tables(self) -> impl Iterator<Item = &'static Table> {
        self.chosen().flat_map(|module| module.tables)
    }

    /// Returns true if one of them needs to know which sockets threads use.
    pub(crate) fn need_sockets(self) -> bool {
        self.chosen().any(|module| module.needs_sockets)
    }

    /// The name of one that needs `bpf_loop`.
    pub(crate) fn needing_loop(self) -> Option<&'static str> {
        let mut needing = self.chosen().filter(|module| module.needs_loop);
        needing.next().map(|module| module.name)
    }

    /// What they need of the programs that every capture has.
    pub(crate) fn features(self) -> u32 {
        self.chosen()
            .fold(0, |features, module| features | module.feature)
    }

    /// The file names of the programs that have their functions.
    pub(crate) fn programs_by_name(self) -> impl Iterator<Item = &'static str> {
        self.chosen().flat_map(|module| module.programs.iter().copied())
    }

    /// Returns true if a library of that name most probably has the functions.
    pub(crate) fn name_library(self, name: &[u8]) -> bool {
        let mut beginnings = self.library_names();
        beginnings.any(|beginning| name.starts_with(beginning.as_bytes()))
            && memchr::memmem::find(name, b".so").is_some()
    }

    /// How the names of such libraries begin.
    pub(crate) fn library_names(self) -> impl Iterator<Item = &'static str> {
        self.chosen().flat_map(|module| module.libraries.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn no_two_modules_claim_the_same() {
        let mut names = HashSet::new();
        let mut records = HashSet::new();
        for module in Modules::ALL.chosen() {
            assert!(names.insert(module.name), "{}", module.name);
            for kind in module.records {
                assert!(records.insert(kind), "records of kind {kind}");
            }
        }
        let mut symbols = HashSet::new();
        for hook in Modules::ALL.hooks() {
            assert!(symbols.insert(hook.symbol), "{}", hook.symbol);
            assert!(hook.variables.len() <= 2, "{}", hook.symbol);
        }
        // Modules may share a table.
        let mut tables = HashMap::new();
        for table in Modules::ALL.tables() {
            assert_eq!(*tables.entry(table.number).or_insert(table), table);
        }
    }

    #[test]
    fn each_family_identifies_its_file_and_each_module_brings_content() {
        for family in Modules::ALL.families().filter(|family| family.is_found_by_name()) {
            assert!(family.hooks().any(|hook| hook.identifies), "{}", family.kind);
        }
        let with_functions = Modules::ALL.chosen().filter(|module| !module.families.is_empty());
        for module in with_functions {
            let mut hooks = module.families.iter().flat_map(Family::hooks);
            assert!(hooks.any(|hook| hook.brings.is_wanted()), "{}", module.name);
        }
    }

    #[test]
    fn modules_are_chosen_by_name() {
        assert_eq!(Modules::named("tls"), Some(Modules::TLS));
        assert_eq!(Modules::named("nothing"), None);
        let both = Modules::TLS.with(Modules::named("bash").unwrap());
        assert_eq!(format!("{both:?}"), r#"["tls", "bash"]"#);
        assert!(both.have(Modules::TLS) && !Modules::TLS.have(both) && Modules::ALL.have(both));
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
