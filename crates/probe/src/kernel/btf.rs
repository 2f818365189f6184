//! Offsets of kernel structure fields, and what tracepoints there are, from the running kernel's BTF
//! (kernel documentation, `bpf/btf.rst`).

use std::collections::HashMap;

use ecapture_ebpf::config::{KernelOffsets, NO_OFFSET};

const MAGIC: u16 = 0xEB9F;
const KIND_POINTER: u32 = 2;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_FUNCTION_PROTOTYPE: u32 = 13;
/// The type of what a tracepoint calls is named so.
const TRACEPOINT: &[u8] = b"btf_trace_";
/// Typedef, volatile, const, restrict and type tag: names or qualifiers of another type.
const KINDS_TRANSPARENT: [u32; 5] = [8, 9, 10, 11, 18];
/// Deepest nesting of members that is followed.
const DEPTH: usize = 16;

/// Why the offsets are not known.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BtfError {
    /// The type information is not in the expected form.
    #[error("the kernel's type information (/sys/kernel/btf/vmlinux) is malformed: {0}")]
    Malformed(&'static str),
    /// A field is not there.
    #[error("this kernel has no field {field}; supported kernels are 5.8 to 6.18")]
    MissingField {
        /// Structure and field.
        field: String,
    },
}

/// All offsets that the programs need.
pub(crate) fn kernel_offsets(types: &Types<'_>) -> Result<KernelOffsets, BtfError> {
    let field = |structure: &str, path: &str| {
        types
            .offset(structure, path)
            .ok_or_else(|| BtfError::MissingField {
                field: format!("{structure}.{path}"),
            })
    };
    Ok(KernelOffsets {
        task_files: field("task_struct", "files")?,
        task_pid: field("task_struct", "pid")?,
        task_tgid: field("task_struct", "tgid")?,
        task_exit_code: field("task_struct", "exit_code")?,
        task_signal: field("task_struct", "signal")?,
        signal_live: field("signal_struct", "live")?,
        files_fdt: field("files_struct", "fdt")?,
        fdtable_max_fds: field("fdtable", "max_fds")?,
        fdtable_fd: field("fdtable", "fd")?,
        file_private_data: field("file", "private_data")?,
        file_inode: field("file", "f_inode")?,
        file_dentry: field("file", "f_path.dentry")?,
        dentry_name: field("dentry", "d_name.name")?,
        inode_mode: field("inode", "i_mode")?,
        inode_number: field("inode", "i_ino")?,
        inode_size: field("inode", "i_size")?,
        inode_generation: field("inode", "i_generation")?,
        inode_super_block: field("inode", "i_sb")?,
        super_block_device: field("super_block", "s_dev")?,
        binprm_file: field("linux_binprm", "file")?,
        binprm_filename: field("linux_binprm", "filename")?,
        socket_sk: field("socket", "sk")?,
        sock_family: field("sock", "__sk_common.skc_family")?,
        sock_cookie: field("sock", "__sk_common.skc_cookie")?,
        sock_protocol: field("sock", "sk_protocol")?,
        sock_local_port: field("sock", "__sk_common.skc_num")?,
        sock_remote_port: field("sock", "__sk_common.skc_dport")?,
        sock_local_v4: field("sock", "__sk_common.skc_rcv_saddr")?,
        sock_remote_v4: field("sock", "__sk_common.skc_daddr")?,
        sock_local_v6: field("sock", "__sk_common.skc_v6_rcv_saddr").unwrap_or(NO_OFFSET),
        sock_remote_v6: field("sock", "__sk_common.skc_v6_daddr").unwrap_or(NO_OFFSET),
    })
}

/// The types of a kernel.
pub(crate) struct Types<'btf> {
    bytes: &'btf [u8],
    strings: &'btf [u8],
    /// Where each type begins in `bytes`; type ids count from 1.
    positions: Vec<usize>,
    structures: HashMap<&'btf [u8], u32>,
    /// By the part of their names after [`TRACEPOINT`].
    tracepoints: HashMap<&'btf [u8], u32>,
}

#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: u32,
    /// Member offsets share their word with a bit field size.
    packed_offsets: bool,
    /// The type that a typedef or qualifier names, or a pointer points to.
    target: u32,
}

struct Member {
    name: u32,
    target: u32,
    byte_offset: u32,
}

impl<'btf> Types<'btf> {
    pub(crate) fn parse(bytes: &'btf [u8]) -> Result<Self, BtfError> {
        let malformed = BtfError::Malformed;
        let word = |position| word(bytes, position).ok_or(malformed("short header"));
        if word(0)?.to_ne_bytes()[..2] != MAGIC.to_ne_bytes() {
            return Err(malformed("wrong magic number"));
        }
        let header = word(4)? as usize;
        let (type_start, type_length) = (header + word(8)? as usize, word(12)? as usize);
        let (string_start, string_length) = (header + word(16)? as usize, word(20)? as usize);
        let strings = bytes
            .get(string_start..string_start.saturating_add(string_length))
            .ok_or(malformed("strings beyond the end"))?;
        let mut types = Self {
            bytes,
            strings,
            positions: Vec::new(),
            structures: HashMap::new(),
            tracepoints: HashMap::new(),
        };
        types.index(type_start, type_start.saturating_add(type_length))?;
        Ok(types)
    }

    fn index(&mut self, mut position: usize, end: usize) -> Result<(), BtfError> {
        while position < end {
            let header = self.read(position).ok_or(BtfError::Malformed("short type"))?;
            self.positions.push(position);
            let id =
                u32::try_from(self.positions.len()).map_err(|_| BtfError::Malformed("too many types"))?;
            if header.kind == KIND_STRUCT && header.name != 0 {
                self.structures.entry(self.name(header.name)).or_insert(id);
            }
            if header.kind == KIND_TYPEDEF
                && let Some(tracepoint) = self.name(header.name).strip_prefix(TRACEPOINT)
            {
                self.tracepoints.insert(tracepoint, id);
            }
            position += 12
                + trailing_bytes(header.kind, header.members as usize)
                    .ok_or(BtfError::Malformed("unknown kind of type"))?;
        }
        Ok(())
    }

    /// Number of arguments of a tracepoint, if there is one of that name.
    pub(crate) fn tracepoint_arguments(&self, name: &str) -> Option<u32> {
        let (_, pointer) = self.resolve(*self.tracepoints.get(name.as_bytes())?)?;
        let (_, prototype) = self.resolve(pointer.target)?;
        let is_function = pointer.kind == KIND_POINTER && prototype.kind == KIND_FUNCTION_PROTOTYPE;
        // The first is for whoever calls.
        is_function.then(|| prototype.members.saturating_sub(1))
    }

    /// Byte offset of a field; `path` names members separated by dots.
    fn offset(&self, structure: &str, path: &str) -> Option<u32> {
        let mut current = *self.structures.get(structure.as_bytes())?;
        let mut total = 0;
        for name in path.split('.') {
            let (offset, target) = self.member(current, name.as_bytes(), DEPTH)?;
            total += offset;
            current = target;
        }
        Some(total)
    }

    /// Offset and type of a member, looked for in unnamed members too.
    fn member(&self, id: u32, name: &[u8], depth: usize) -> Option<(u32, u32)> {
        let depth = depth.checked_sub(1)?;
        let (position, header) = self.resolve(id)?;
        if header.kind != KIND_STRUCT && header.kind != KIND_UNION {
            return None;
        }
        (0..header.members as usize).find_map(|index| {
            let member = self.read_member(position, &header, index)?;
            if member.name != 0 {
                return (self.name(member.name) == name).then_some((member.byte_offset, member.target));
            }
            let (offset, target) = self.member(member.target, name, depth)?;
            Some((member.byte_offset + offset, target))
        })
    }

    fn resolve(&self, mut id: u32) -> Option<(usize, Type)> {
        for _ in 0..DEPTH {
            let position = *self.positions.get((id as usize).checked_sub(1)?)?;
            let header = self.read(position)?;
            if !KINDS_TRANSPARENT.contains(&header.kind) {
                return Some((position, header));
            }
            id = header.target;
        }
        None
    }

    fn read(&self, position: usize) -> Option<Type> {
        let info = word(self.bytes, position + 4)?;
        Some(Type {
            name: word(self.bytes, position)?,
            kind: info >> 24 & 0x1F,
            members: info & 0xFFFF,
            packed_offsets: info >> 31 == 1,
            target: word(self.bytes, position + 8)?,
        })
    }

    fn read_member(&self, position: usize, header: &Type, index: usize) -> Option<Member> {
        let position = position + 12 + index * 12;
        let offset = word(self.bytes, position + 8)?;
        let bits = if header.packed_offsets {
            offset & 0x00FF_FFFF
        } else {
            offset
        };
        Some(Member {
            name: word(self.bytes, position)?,
            target: word(self.bytes, position + 4)?,
            byte_offset: bits / 8,
        })
    }

    fn name(&self, offset: u32) -> &'btf [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|&byte| byte == 0).next().unwrap_or_default()
    }
}

/// Bytes that follow a type of `kind` with `members` members.
fn trailing_bytes(kind: u32, members: usize) -> Option<usize> {
    match kind {
        2 | 7..=12 | 16 | 18 => Some(0),
        1 | 14 | 17 => Some(4),
        3 => Some(12),
        4 | 5 | 15 | 19 => Some(12 * members),
        6 | 13 => Some(8 * members),
        _ => None,
    }
}

fn word(bytes: &[u8], position: usize) -> Option<u32> {
    let field = bytes.get(position..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `struct outer { int a; struct { int b; struct inner c; }; }`,
    /// `struct inner { int d; const union { int e; }; }`,
    /// `typedef void (*btf_trace_point)(void *, int)` and `typedef int btf_trace_number`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0a\0b\0c\0inner\0d\0e\0btf_trace_point\0btf_trace_number\0";
        let at = |name: &str| {
            let needle = format!("\0{name}\0");
            let position = strings
                .windows(needle.len())
                .position(|window| window == needle.as_bytes());
            u32::try_from(position.unwrap()).unwrap() + 1
        };
        let mut words = Vec::new();
        let mut structure = |name: u32, kind: u32, size: u32, members: &[[u32; 3]]| {
            words.extend([name, kind << 24 | u32::try_from(members.len()).unwrap(), size]);
            words.extend(members.iter().flatten());
        };
        structure(at("outer"), 4, 16, &[[at("a"), 6, 0], [0, 2, 32]]);
        structure(0, 4, 12, &[[at("b"), 6, 0], [at("c"), 3, 32]]);
        structure(at("inner"), 4, 8, &[[at("d"), 6, 0], [0, 4, 32]]);
        structure(0, 10, 5, &[]);
        structure(0, 5, 4, &[[at("e"), 6, 0]]);
        words.extend([at("int"), 1 << 24, 4, 32]);
        words.extend([at("btf_trace_point"), 8 << 24, 8]);
        words.extend([0, 2 << 24, 9]);
        words.extend([0, 13 << 24 | 2, 0, 0, 10, 0, 6]);
        words.extend([0, 2 << 24, 0]);
        words.extend([at("btf_trace_number"), 8 << 24, 6]);
        assemble(&words, strings)
    }

    fn assemble(words: &[u32], strings: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        let types = u32::try_from(words.len() * 4).unwrap();
        for field in [24, 0, types, types, u32::try_from(strings.len()).unwrap()] {
            bytes.extend(field.to_ne_bytes());
        }
        bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    /// A kernel's types with these tracepoints, each with its number of arguments.
    pub(crate) fn with_tracepoints(tracepoints: &[(&str, u32)]) -> Vec<u8> {
        let mut strings = vec![0];
        let mut words = Vec::new();
        for (id, &(name, arguments)) in (1..).step_by(3).zip(tracepoints) {
            let name_offset = u32::try_from(strings.len()).unwrap();
            strings.extend([TRACEPOINT, name.as_bytes(), &[0]].concat());
            words.extend([name_offset, 8 << 24, id + 1]);
            words.extend([0, 2 << 24, id + 2]);
            words.extend([0, 13 << 24 | (arguments + 1), 0]);
            words.extend((0..=arguments).flat_map(|_| [0, 0]));
        }
        assemble(&words, &strings)
    }

    #[test]
    fn members_are_found_through_unnamed_and_qualified_types() {
        let bytes = sample();
        let types = Types::parse(&bytes).unwrap();
        assert_eq!(types.offset("outer", "a"), Some(0));
        assert_eq!(types.offset("outer", "b"), Some(4));
        assert_eq!(types.offset("outer", "c"), Some(8));
        assert_eq!(types.offset("outer", "c.d"), Some(8));
        assert_eq!(types.offset("outer", "c.e"), Some(12));
        assert_eq!(types.offset("inner", "e"), Some(4));
        assert_eq!(types.offset("outer", "z"), None);
        assert_eq!(types.offset("absent", "a"), None);
    }

    #[test]
    fn the_arguments_of_tracepoints_are_counted() {
        let bytes = sample();
        let types = Types::parse(&bytes).unwrap();
        assert_eq!(types.tracepoint_arguments("point"), Some(1));
        assert_eq!(types.tracepoint_arguments("number"), None);
        assert_eq!(types.tracepoint_arguments("absent"), None);
    }

    #[test]
    fn no_prefix_panics() {
        let bytes = sample();
        for length in 0..bytes.len() {
            if let Ok(types) = Types::parse(&bytes[..length]) {
                let _offset = types.offset("outer", "c.e");
                let _arguments = types.tracepoint_arguments("point");
            }
        }
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(
            kernel_offsets(&Types::parse(&sample()).unwrap()),
            Err(BtfError::MissingField {
                field: "task_struct.files".to_owned()
            })
        );
    }
}
