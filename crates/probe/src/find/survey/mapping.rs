//! The files in a process's memory that say which TLS it has.

use std::collections::HashSet;

use memchr::memmem;

use crate::modules::Modules;
use crate::proc::maps::{Mapping, Maps};

/// The beginnings of the names of TLS libraries that are not captured.
const OTHER_LIBRARIES: [&[u8]; 2] = [b"libmbedtls", b"libwolfssl"];

/// Where the libraries of distributions are: those with TLS in them are named as such.
const SYSTEM: [&str; 4] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64"];

/// Why a mapped file is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Tls,
    /// It knows OpenSSL's version.
    Crypto,
    Java,
    /// Any other library that came with a program: TLS may be linked into it.
    Other,
}

/// The files of interest that a process executes, each once.
pub(super) fn mappings(maps: &Maps) -> Vec<(Role, Mapping<'_>)> {
    let mut seen = HashSet::new();
    let executed = maps
        .executed()
        .filter_map(|mapping| Some((role(&mapping)?, mapping)));
    executed
        .filter(|(_, mapping)| seen.insert(mapping.inode))
        .collect()
}

fn role(mapping: &Mapping<'_>) -> Option<Role> {
    let name = mapping.name();
    let is_other = OTHER_LIBRARIES.iter().any(|library| name.starts_with(library));
    if Modules::TLS.name_library(name) || is_other && memmem::find(name, b".so").is_some() {
        Some(Role::Tls)
    } else if name.starts_with(b"libcrypto") {
        Some(Role::Crypto)
    } else if name == b"libjvm.so" {
        Some(Role::Java)
    } else if memmem::find(name, b".so").is_some()
        && !SYSTEM.iter().any(|folder| mapping.path().starts_with(folder))
    {
        Some(Role::Other)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const MAPS: &[u8] = b"\
5500-5510 r-xp 00001000 fe:00 7      /usr/sbin/nginx
7f00-7f10 r--p 00000000 fe:00 1234   /usr/lib/libssl.so.3
7f10-7f20 r-xp 00010000 fe:00 1234   /usr/lib/libssl.so.3
7f20-7f30 r-xp 00020000 fe:00 1234   /usr/lib/libssl.so.3
7f40-7f50 r-xp 00010000 fe:00 1235   /opt/a b/libcrypto.so.3 (deleted)
7f60-7f70 r-xp 00010000 fe:00 1236   /usr/lib/jvm/lib/server/libjvm.so
7f70-7f80 r-xp 00010000 fe:00 1237   /home/caf\xe9.dat
7f80-7f90 r-xp 00000000 00:00 0
7f90-7fa0 r-xp 00000000 fe:00 1238   /usr/lib/libmbedtls.so.14
";

    #[test]
    fn each_file_of_interest_is_found_once() {
        let maps = Maps::new(MAPS.to_vec(), 1 << 20);
        let found = mappings(&maps);
        let roles: Vec<Role> = found.iter().map(|(role, _)| *role).collect();
        assert_eq!(roles, [Role::Tls, Role::Crypto, Role::Java, Role::Tls]);
        let crypto = found[1].1;
        assert!(crypto.deleted);
        assert_eq!(crypto.path(), PathBuf::from("/opt/a b/libcrypto.so.3"));
    }
}
