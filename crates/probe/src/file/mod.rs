//! Files that may hold TLS functions: opened once, read within bounds.

pub(crate) mod elf;
pub(crate) mod go_table;
pub(crate) mod inode;
pub(crate) mod labels;
pub(crate) mod ld_cache;
pub(crate) mod library;
pub(crate) mod rust_symbol;
pub(crate) mod sql_symbol;
