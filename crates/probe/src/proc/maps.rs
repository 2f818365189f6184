//! The files that a process has mapped, from `/proc/PID/maps` (kernel documentation, `filesystems/proc.rst`).
//! Paths are bytes: whoever maps a file chooses its name.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use memchr::memmem;

use crate::file::inode::Inode;
use crate::file::library::Located;

/// Suffix that the kernel adds to the path of a file that was deleted.
const DELETED: &[u8] = b" (deleted)";
/// The kernel's escape for a newline in a path, the only character that it replaces.
const NEWLINE: &[u8] = b"\\012";

/// The lines of a process's mappings, at most `most` bytes of them.
pub(crate) struct Maps {
    bytes: Vec<u8>,
    /// There are more.
    pub(crate) cut: bool,
}

impl Maps {
    pub(crate) fn read(pid: u32, most: u64) -> io::Result<Self> {
        let mut bytes = Vec::new();
        let file = File::open(super::folder(pid).join("maps"))?;
        file.take(most + 1).read_to_end(&mut bytes)?;
        Ok(Self::new(bytes, most))
    }

    pub(crate) fn new(mut bytes: Vec<u8>, most: u64) -> Self {
        let cut = bytes.len() as u64 > most;
        if cut {
            bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            let whole_lines = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
            bytes.truncate(whole_lines);
        }
        Self { bytes, cut }
    }

    /// Those that belong to files.
    pub(crate) fn files(&self) -> impl Iterator<Item = Mapping<'_>> {
        self.bytes.split(|&byte| byte == b'\n').filter_map(Mapping::read)
    }

    /// The mappings whose code is executed.
    pub(crate) fn executed(&self) -> impl Iterator<Item = Mapping<'_>> {
        self.files().filter(|mapping| mapping.executable)
    }
}

/// A line with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping<'maps> {
    /// The addresses, which name it in `/proc/PID/map_files`.
    range: &'maps [u8],
    pub(crate) executable: bool,
    /// Without a block device of their own, file systems such as overlayfs and btrfs may show another
    /// device here than `stat(2)` does.
    pub(crate) inode: Inode,
    /// As the kernel writes it, without the word for deleted files.
    path: &'maps [u8],
    pub(crate) deleted: bool,
}

impl<'maps> Mapping<'maps> {
    fn read(line: &'maps [u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let range = fields.next()?;
        let executable = fields.next()?.contains(&b'x');
        let device = std::str::from_utf8(fields.nth(1)?).ok()?;
        let inode = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
        let path = fields.next()?.trim_ascii_start();
        let (major, minor) = device.split_once(':')?;
        let number = |digits| u32::from_str_radix(digits, 16).ok();
        let (path, deleted) = match path.strip_suffix(DELETED) {
            Some(path) => (path, true),
            None => (path, false),
        };
        Some(Self {
            range,
            executable,
            inode: Inode {
                device: libc::makedev(number(major)?, number(minor)?),
                number: Some(inode).filter(|&inode| inode != 0)?,
            },
            path,
            deleted,
        })
    }

    /// Last part of the path.
    pub(crate) fn name(&self) -> &'maps [u8] {
        match memchr::memrchr(b'/', self.path) {
            Some(slash) => &self.path[slash + 1..],
            None => self.path,
        }
    }

    /// The path as the process sees it.
    pub(crate) fn path(&self) -> PathBuf {
        let mut path = Vec::with_capacity(self.path.len());
        let mut rest = self.path;
        while let Some(at) = memmem::find(rest, NEWLINE) {
            path.extend_from_slice(&rest[..at]);
            path.push(b'\n');
            rest = &rest[at + NEWLINE.len()..];
        }
        path.extend_from_slice(rest);
        PathBuf::from(OsString::from_vec(path))
    }

    /// Leads privileged users to the very file, also when it was deleted or is in another mount namespace.
    pub(crate) fn link(&self, pid: u32) -> PathBuf {
        let range = std::ffi::OsStr::from_bytes(self.range);
        super::folder(pid).join("map_files").join(range)
    }

    /// Finds the file. A plain user may not follow the links of mappings, so the path is followed and must
    /// lead to the mapped file.
    pub(crate) fn locate(&self, pid: u32) -> io::Result<Located> {
        match Located::at(&self.link(pid)) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            found => return found,
        }
        let located = Located::at(&super::inside(pid, &self.path()))?;
        if self.is(&located) {
            Ok(located)
        } else {
            Err(io::Error::new(
                io::ErrorKind::NotFound,
                "another file has taken its place",
            ))
        }
    }

    fn is(&self, located: &Located) -> bool {
        let found = located.inode();
        let has_block_device = libc::major(found.device) != 0;
        found.number == self.inode.number && (found.device == self.inode.device || !has_block_device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(line: &str) -> Option<Mapping<'_>> {
        Mapping::read(line.as_bytes())
    }

    #[test]
    fn a_line_with_a_file_is_read() {
        let line = "7f00-7f10 r-xp 0001f000 fe:01 1234    /opt/a b/libssl-9f.so.3 (deleted)";
        let found = mapping(line).unwrap();
        assert_eq!(found.inode.device, libc::makedev(0xFE, 1));
        assert_eq!(found.inode.number, 1234);
        assert!(found.executable && found.deleted);
        assert_eq!(found.name(), b"libssl-9f.so.3");
        assert_eq!(found.path(), PathBuf::from("/opt/a b/libssl-9f.so.3"));
        assert_eq!(found.link(7), PathBuf::from("/proc/7/map_files/7f00-7f10"));
        let data = "7f00-7f10 rw-p 0001f000 fe:00 1234    /usr/lib/libssl.so.3";
        assert!(!mapping(data).unwrap().executable);
        assert_eq!(mapping("7f00-7f10 rw-p 00000000 00:00 0 "), None);
        assert_eq!(mapping("7f00-7f10 rw-p 00000000 00:00 0     [heap]"), None);
    }

    #[test]
    fn names_that_are_no_text_are_read() {
        let line = b"7f00-7f10 r-xp 0001f000 fe:00 9    /x/caf\xe9/libssl\\012.so";
        let found = Mapping::read(line).unwrap();
        assert_eq!(found.name(), b"libssl\\012.so");
        assert_eq!(found.path().as_os_str().as_bytes(), b"/x/caf\xe9/libssl\n.so");
    }

    #[test]
    fn a_line_cut_anywhere_is_harmless() {
        let line = "7f00-7f10 r-xp 0001f000 fe:00 1234    /usr/lib/libssl.so.3 (deleted)";
        for length in 0..line.len() {
            let _ = mapping(&line[..length]);
        }
    }

    #[test]
    fn what_is_too_long_ends_with_a_whole_line() {
        let line = b"7f00-7f10 r-xp 0001f000 fe:00 9    /x/libssl.so\n";
        let maps = Maps::new(line.repeat(3), line.len() as u64 * 2 + 5);
        assert!(maps.cut);
        assert_eq!(maps.files().count(), 2);
        assert!(!Maps::new(line.repeat(3), line.len() as u64 * 3).cut);
    }

    #[test]
    fn this_program_is_found_among_its_mappings() {
        let maps = Maps::read(std::process::id(), 1 << 20).unwrap();
        let own = Located::at(&PathBuf::from("/proc/self/exe")).unwrap();
        let found = maps.executed().find(|mapping| mapping.is(&own)).unwrap();
        assert_eq!(found.locate(std::process::id()).unwrap().inode(), own.inode());
    }
}
