//! Settings that user space passes to the programs: constants before loading, switches while they
//! run.

/// [`Config::filters`]: only the process [`Config::pid`].
pub const FILTER_PID: u32 = 1;
/// [`Config::filters`]: only threads whose real user id is [`Config::uid`].
pub const FILTER_UID: u32 = 1 << 1;
/// [`Config::filters`]: only processes of the `PIDS` map.
pub const FILTER_PID_SET: u32 = 1 << 2;
/// [`Config::filters`]: children of processes of the `PIDS` map join it.
pub const FOLLOW_CHILDREN: u32 = 1 << 3;
/// [`Config::filters`]: only processes in the cgroup of the `CGROUPS` map or below it.
pub const FILTER_CGROUP: u32 = 1 << 4;
/// [`Config::features`]: the kernel has `bpf_loop`.
pub const HAS_LOOP: u32 = 1;
/// [`Config::features`]: user space wants reports about files, see [`crate::discovery`].
pub const DISCOVER: u32 = 1 << 1;
/// [`Config::features`]: the kernel has `bpf_get_attach_cookie`.
pub const HAS_COOKIE: u32 = 1 << 2;
/// [`Config::features`]: the filters are those of the `FILTERS` map, and may change.
pub const LIVE_FILTERS: u32 = 1 << 3;
/// [`Config::features`]: secrets of handshakes are wanted.
pub const SECRETS: u32 = 1 << 6;
/// [`Config::features`]: the plaintext that calls move is not wanted.
pub const ONLY_SECRETS: u32 = 1 << 7;

/// [`Config::features`]: shells are captured, and the ends of their processes matter.
pub const SHELLS: u32 = 1 << 4;
/// [`Config::features`]: packets are captured, see [`crate::packet`].
pub const PACKETS: u32 = 1 << 5;
/// [`Config::features`]: only what frames messages, and their heads, is wanted; content is left out (see
/// [`crate::framing`]). Needs [`HAS_LOOP`].
pub const WITHOUT_CONTENT: u32 = 1 << 9;
/// [`Config::features`]: packets are selected by a filter expression.
pub const EXPRESSION: u32 = 1 << 8;

/// [`Control::end`]: calls that begin now are not captured; those in progress are when they return.
pub const STOPPED: u32 = 1;
/// [`Control::end`]: nothing is captured any more.
pub const ENDED: u32 = 2;

/// An offset that this kernel does not have.
pub const NO_OFFSET: u32 = u32::MAX;

/// Constants of one capture, written into the object before it is loaded.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Which filters apply, a sum of the constants of this module. 0 captures everything.
    pub filters: u32,
    /// Thread group id for [`FILTER_PID`].
    pub pid: u32,
    /// Real user id for [`FILTER_UID`].
    pub uid: u32,
    /// What this kernel can do and what is wanted, a sum of the constants of this module.
    pub features: u32,
    /// Size of the ring in bytes.
    pub ring_bytes: u32,
    /// The reader is woken when this many bytes are waiting in the ring.
    pub wake_bytes: u32,
    /// The reader of packets is woken when this many bytes are waiting in their ring.
    pub packet_wake_bytes: u32,
    /// Where this kernel keeps the fields that the programs read.
    pub offsets: KernelOffsets,
}

/// Byte offsets inside kernel structures, from the running kernel's BTF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelOffsets {
    /// `task_struct.files`
    pub task_files: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.exit_code`
    pub task_exit_code: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.max_fds`
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`
    pub fdtable_fd: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// `file.f_inode`
    pub file_inode: u32,
    /// `file.f_path.dentry`
    pub file_dentry: u32,
    /// `dentry.d_name.name`
    pub dentry_name: u32,
    /// `inode.i_mode`
    pub inode_mode: u32,
    /// `inode.i_ino`
    pub inode_number: u32,
    /// `inode.i_size`
    pub inode_size: u32,
    /// `inode.i_generation`
    pub inode_generation: u32,
    /// `inode.i_sb`
    pub inode_super_block: u32,
    /// `super_block.s_dev`
    pub super_block_device: u32,
    /// `linux_binprm.file`
    pub binprm_file: u32,
    /// `linux_binprm.filename`
    pub binprm_filename: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `sock.__sk_common.skc_family`
    pub sock_family: u32,
    /// `sock.__sk_common.skc_cookie`
    pub sock_cookie: u32,
    /// `sock.sk_protocol`
    pub sock_protocol: u32,
    /// `sock.__sk_common.skc_num`
    pub sock_local_port: u32,
    /// `sock.__sk_common.skc_dport`
    pub sock_remote_port: u32,
    /// `sock.__sk_common.skc_rcv_saddr`
    pub sock_local_v4: u32,
    /// `sock.__sk_common.skc_daddr`
    pub sock_remote_v4: u32,
    /// `sock.__sk_common.skc_v6_rcv_saddr`, [`NO_OFFSET`] in a kernel without IPv6.
    pub sock_local_v6: u32,
    /// `sock.__sk_common.skc_v6_daddr`, [`NO_OFFSET`] in a kernel without IPv6.
    pub sock_remote_v6: u32,
}

/// Switches that user space may change while the programs run; the only entry of `CONTROL`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Control {
    /// The progress of the capture's end: 0 or a constant of this module.
    pub end: u32,
    /// Not 0: the reader sleeps and wants to be woken by the next record.
    pub reader_waits: u32,
    /// The place of the filters in force, below [`PLACES`]; with [`LIVE_FILTERS`].
    pub place: u32,
}

/// Places for filters: those in force, and those that are prepared. Writing [`Control::place`] switches.
pub const PLACES: u32 = 2;

/// Filters that may change, an entry of `FILTERS`. `CGROUPS` has their cgroup at the same place. With
/// [`FILTER_PID_SET`] they let a process through whose value in `PIDS` has the bit `1 << place`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Filters {
    /// As [`Config::filters`], without [`FILTER_PID`].
    pub filters: u32,
    /// As [`Config::uid`].
    pub uid: u32,
}

const _: () = assert!(size_of::<Config>() == 28 + 31 * 4);
const _: () = assert!(size_of::<Control>() == 12);
