//! The files in a process's memory that say which TLS it has.

use std::path::PathBuf;

use crate::target;

/// Why a mapped file is of interest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Tls,
    /// It knows OpenSSL's version.
    Crypto,
    Java,
}

/// A file that a process executes code from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapping<'maps> {
    range: &'maps str,
    pub(super) path: &'maps str,
    pub(super) deleted: bool,
    pub(super) role: Role,
}

impl Mapping<'_> {
    /// Path that reaches the file from here; a deleted one is reached through its mapping.
    pub(super) fn reached(&self, pid: u32) -> PathBuf {
        PathBuf::from(if self.deleted {
            format!("/proc/{pid}/map_files/{}", self.range)
        } else {
            format!("/proc/{pid}/root{}", self.path)
        })
    }
}

/// The files of interest in `/proc/PID/maps`, each once.
pub(super) fn mappings(maps: &str) -> Vec<Mapping<'_>> {
    let mut mappings: Vec<Mapping<'_>> = Vec::new();
    for mapping in maps.lines().filter_map(mapping) {
        if mappings.iter().all(|other| other.path != mapping.path) {
            mappings.push(mapping);
        }
    }
    mappings
}

fn mapping(line: &str) -> Option<Mapping<'_>> {
    let mut fields = line.splitn(6, ' ');
    let range = fields.next()?;
    if !fields.next()?.contains('x') {
        return None;
    }
    let path = fields.nth(3)?.trim_start();
    let (path, deleted) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    let name = path.rsplit('/').next()?;
    let role = if target::is_library_name(name) {
        Role::Tls
    } else if name.starts_with("libcrypto") {
        Role::Crypto
    } else if name == "libjvm.so" {
        Role::Java
    } else {
        return None;
    };
    Some(Mapping {
        range,
        path,
        deleted,
        role,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
5500-5510 r-xp 00001000 fe:00 7      /usr/sbin/nginx
7f00-7f10 r--p 00000000 fe:00 1234   /usr/lib/libssl.so.3
7f10-7f20 r-xp 00010000 fe:00 1234   /usr/lib/libssl.so.3
7f20-7f30 r-xp 00020000 fe:00 1234   /usr/lib/libssl.so.3
7f40-7f50 r-xp 00010000 fe:00 1235   /opt/a b/libcrypto.so.3 (deleted)
7f60-7f70 r-xp 00010000 fe:00 1236   /usr/lib/jvm/lib/server/libjvm.so
7f80-7f90 r-xp 00000000 00:00 0
";

    #[test]
    fn each_file_of_interest_is_found_once() {
        let found = mappings(MAPS);
        let roles: Vec<Role> = found.iter().map(|mapping| mapping.role).collect();
        assert_eq!(roles, [Role::Tls, Role::Crypto, Role::Java]);
        assert_eq!(
            found[0].reached(5),
            PathBuf::from("/proc/5/root/usr/lib/libssl.so.3")
        );
        assert!(found[1].deleted);
        assert_eq!(found[1].path, "/opt/a b/libcrypto.so.3");
        assert_eq!(found[1].reached(5), PathBuf::from("/proc/5/map_files/7f40-7f50"));
    }
}
