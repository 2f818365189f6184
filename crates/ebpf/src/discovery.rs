//! Files that processes begin to execute: by `execve`, or mapped as a library. Each is reported to
//! user space until user space marks it as known.

use core::mem::offset_of;

/// [`FileRecord::event`]: the file is a program that a process became.
pub const EVENT_EXECUTED: u32 = 1;
/// [`FileRecord::event`]: the file is about to be mapped with the right to execute it.
pub const EVENT_MAPPED: u32 = 2;

/// Bytes of [`FileRecord::name`]; longer names are cut.
pub const NAME_BYTES: usize = 128;

/// Identifies a file, and distinguishes it from one that had its inode number before.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileKey {
    /// `inode.i_ino`
    pub inode: u64,
    /// `inode.i_size`, in bytes
    pub size: u64,
    /// `super_block.s_dev`
    pub device: u32,
    /// `inode.i_generation`, which file systems change when they reuse a number.
    pub generation: u32,
}

/// A file that user space does not know yet.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRecord {
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub timestamp_ns: u64,
    /// Which file.
    pub file: FileKey,
    /// Thread group id of the process.
    pub pid: u32,
    /// [`EVENT_EXECUTED`] or [`EVENT_MAPPED`].
    pub event: u32,
    /// Thread name.
    pub comm: [u8; 16],
    /// Last part of the file's path; of a program the path that `execve` was given. Ended by a zero byte.
    pub name: [u8; NAME_BYTES],
}

/// Bytes of a [`FileRecord`].
pub const FILE_RECORD_BYTES: usize = size_of::<FileRecord>();

const _: () = assert!(size_of::<FileKey>() == 24);
const _: () = assert!(FILE_RECORD_BYTES == 184);
const _: () = assert!(offset_of!(FileRecord, name) == 56);

impl FileRecord {
    /// Reads a record as it lies in the ring. `None` when it is too short.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes);
        Some(Self {
            timestamp_ns: u64::from_ne_bytes(fields.take()?),
            file: FileKey {
                inode: u64::from_ne_bytes(fields.take()?),
                size: u64::from_ne_bytes(fields.take()?),
                device: u32::from_ne_bytes(fields.take()?),
                generation: u32::from_ne_bytes(fields.take()?),
            },
            pid: u32::from_ne_bytes(fields.take()?),
            event: u32::from_ne_bytes(fields.take()?),
            comm: fields.take()?,
            name: fields.take()?,
        })
    }
}

struct Fields<'ring>(&'ring [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn fields_stand_where_the_kernel_writes_them() {
        let mut bytes = Vec::new();
        for word in [9u64, 7, 4096] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [0xFE00u32, 3, 42, EVENT_MAPPED] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        let mut name = [0; NAME_BYTES];
        name[..11].copy_from_slice(b"libssl.so.3");
        bytes.extend(name);
        let record = FileRecord::decode(&bytes).unwrap();
        let file = FileKey {
            inode: 7,
            size: 4096,
            device: 0xFE00,
            generation: 3,
        };
        assert_eq!((record.timestamp_ns, record.file), (9, file));
        assert_eq!((record.pid, record.event), (42, EVENT_MAPPED));
        assert_eq!((&record.comm[..5], record.name), (&b"curl\0"[..], name));
        for length in 0..bytes.len() {
            assert_eq!(FileRecord::decode(&bytes[..length]), None);
        }
    }
}
