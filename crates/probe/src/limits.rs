//! Every bound on what is read of files and processes that may belong to strangers, and on what is attached
//! to them. Whoever can map a file chooses all of its bytes: with these, no file takes more than about half
//! a second to read, and no loop over it more than linear time.

/// Program headers of an ELF file. Linkers write about ten.
pub(crate) const PROGRAM_HEADERS: usize = 256;
/// Section headers of an ELF file. Linkers write less than a hundred.
pub(crate) const SECTIONS: usize = 4096;
/// Bytes of all section names together.
pub(crate) const SECTION_NAMES_BYTES: u64 = 256 * 1024;
/// Bytes of a table of names, or of Go's function table, that are read into memory.
pub(crate) const TABLE_BYTES: u64 = 64 * 1024 * 1024;
/// The same in a file that only root can have written: some programs are that large.
pub(crate) const TRUSTED_TABLE_BYTES: u64 = 256 * 1024 * 1024;
/// Symbols in one table.
pub(crate) const SYMBOLS: u64 = 4 * 1024 * 1024;
/// Symbols in the table of what a library exports.
pub(crate) const EXPORTED_SYMBOLS: u64 = 1024 * 1024;
/// Functions in Go's function table.
pub(crate) const GO_FUNCTIONS: usize = 4 * 1024 * 1024;

/// Places looked at where a function table of Go may begin.
pub(crate) const GO_TABLES: usize = 8;
/// Bytes of one symbol's name; a longer one is none that is looked for.
pub(crate) const NAME_BYTES: usize = 4096;
/// How often a table of names may be read through: names may overlap, and linkers let a few do so.
pub(crate) const NAMES: u64 = 4;
/// Bytes of names that are looked at in a table that is smaller.
pub(crate) const NAMES_BYTES: u64 = 1024 * 1024;
/// Functions of rustls that are remembered of one file.
pub(crate) const RUST_FUNCTIONS: usize = 4096;

/// Statements of databases whose end has not been read, at once.
pub(crate) const STATEMENTS: usize = 16 * 1024;
/// Connections of databases that are remembered; with more, all are forgotten.
pub(crate) const SQL_SESSIONS: usize = 16 * 1024;
/// Portals of one connection whose parameters are remembered; with more, all are forgotten.
pub(crate) const SQL_PORTALS: usize = 64;
/// Bytes for the types of the parameters of MariaDB's prepared statements; with more, all are forgotten.
pub(crate) const SQL_TYPE_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one statement's text, and of the values of its parameters. The rest is cut.
pub(crate) const STATEMENT_BYTES: usize = 16 * 1024 * 1024;
/// The same of all statements together whose end has not been read.
pub(crate) const STATEMENT_HELD_BYTES: usize = 64 * 1024 * 1024;
/// Places of a text where something is missing that are kept separate.
pub(crate) const MISSING_PARTS: usize = 16;

/// Bytes of a function whose code is looked at.
pub(crate) const CODE_BYTES: u64 = 64 * 1024;
/// Bytes of code that are looked at in one file, counting again what is looked at again.
pub(crate) const FILE_CODE_BYTES: u64 = 16 * 1024 * 1024;
/// Functions that receive plaintext in a program with rustls; each is searched for one call.
pub(crate) const TRAFFIC_FUNCTIONS: usize = 64;
/// Copies of one function of rustls that are probed.
pub(crate) const DROP_FUNCTIONS: usize = 64;
/// Return instructions that are probed in one function.
pub(crate) const RETURNS: usize = 256;

/// Bytes of each section in which the labels of key logs are searched for.
pub(crate) const LABEL_BYTES: u64 = 128 * 1024 * 1024;
/// Bytes of code in which references to them are searched for, in files that have them: browsers have the most.
pub(crate) const LABEL_CODE_BYTES: u64 = 512 * 1024 * 1024;
/// Places of labels, or references to them, that are looked at.
pub(crate) const LABEL_PLACES: usize = 64;

/// Bytes of `/proc/PID/maps`: some 100,000 mappings, more than the kernel's usual limit.
pub(crate) const MAPS_BYTES: u64 = 16 * 1024 * 1024;
/// The same where a new library is waited for: some 10,000 mappings.
pub(crate) const QUICK_MAPS_BYTES: u64 = 1024 * 1024;
/// Size of a new library that is read where others wait for it, in bytes.
pub(crate) const QUICK_FILE_BYTES: u64 = 32 * 1024 * 1024;

/// Number of files of users other than root that are inspected before a capture begins, and for how
/// long.
pub(crate) const STRANGERS_AT_START: usize = 256;
/// See [`STRANGERS_AT_START`].
pub(crate) const STRANGERS_TIME: std::time::Duration = std::time::Duration::from_secs(1);

/// Number of files that wait to be inspected on one thread, of all processes and of those of one
/// user. The kernel reports a file that finds no place again.
pub(crate) const QUEUE: usize = 4096;
/// See [`QUEUE`].
pub(crate) const QUEUE_OF_ONE_USER: usize = 1024;
/// Threads of one process that are held while a file is attached to; a program that has just begun has one.
pub(crate) const HELD_THREADS: usize = 64;
/// Number of processes that are remembered as excluded or not.
pub(crate) const EXCLUSIONS_KNOWN: usize = 16 * 1024;
/// Parents of parents that are looked at.
pub(crate) const ANCESTORS: usize = 64;
/// Programs whose inspection is remembered.
pub(crate) const INSPECTED: usize = 16 * 1024;
/// Number of processes with TLS that cannot be captured and are remembered as connecting or not.
pub(crate) const SUSPECTS: usize = 1024;
/// How long the end of a capture waits for an inspection of the programs that were executed last.
pub(crate) const INSPECTION: std::time::Duration = std::time::Duration::from_secs(2);
/// Number of processes whose reports are remembered; with more, all are forgotten.
pub(crate) const PROCESSES_REPORTED: usize = 16 * 1024;
/// Files with TLS that are reported of one process.
pub(crate) const FILES_REPORTED: usize = 32;
/// Facts that wait for the reader of the ring; more are counted.
pub(crate) const FACTS: usize = 4096;
/// Files given up that are named in the log; more are counted.
pub(crate) const NAMED_SKIPS: u64 = 50;

/// Descriptors that a capture asks for: each attached program takes one, a library about a dozen.
pub(crate) const DESCRIPTORS: u64 = 64 * 1024;
/// Descriptors that probes leave to everything else.
pub(crate) const SPARE_DESCRIPTORS: u64 = 128;

/// Programs other than those with TLS that `doctor` reads.
pub(crate) const PROGRAMS_EXAMINED: usize = 64;
/// Bytes of one command of a shell; a longer one is cut, and marked.
pub(crate) const SHELL_COMMAND_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of all commands of shells that are not complete, or run.
pub(crate) const SHELL_BYTES: usize = 64 * 1024 * 1024;
/// Bytes of lines that a program has read before it is known to be a shell.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// Interactive shells that are remembered.
pub(crate) const SHELLS: usize = 4096;
/// Bytes of an environment that are searched for the client of a login.
pub(crate) const ENVIRONMENT_BYTES: u64 = 256 * 1024;

/// Packets, and bytes of them, that wait until their owners or keys are known. With more, those that came first are
/// handed over as they are.
pub(crate) const HELD_PACKETS: usize = 64 * 1024;
/// See [`HELD_PACKETS`].
pub(crate) const HELD_BYTES: usize = 32 * 1024 * 1024;
/// How long a packet waits until its owner is known if only those of some processes are wanted, in nanoseconds.
pub(crate) const OWNER_WAIT_NS: u64 = 1_000_000_000;
/// The same if all packets are wanted.
pub(crate) const OWNER_SHORT_WAIT_NS: u64 = 100_000_000;
/// Connections whose owners were waited for in vain; with more, all are waited for again.
pub(crate) const OWNERLESS: usize = 16 * 1024;
/// Sockets whose owners are known at once; those that were not used for longest are forgotten first.
pub(crate) const OWNED_SOCKETS: usize = 64 * 1024;
/// Interfaces whose packets are captured in one run.
pub(crate) const CAPTURED_INTERFACES: usize = 4096;
/// Filters of traffic control that are listed at one side of an interface.
pub(crate) const LISTED_FILTERS: usize = 4096;
