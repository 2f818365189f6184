//! The maps and constants.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, CgroupArray, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf};
use ecapture_ebpf::config::{Config, Control, Filters, KernelOffsets, PLACES};
use ecapture_ebpf::discovery::FileKey;
use ecapture_ebpf::framing::Framing;
use ecapture_ebpf::limits;
use ecapture_ebpf::packet::{ExpressionInstruction, InterfaceCounters, Owner};
use ecapture_ebpf::share::Share;

use super::state::{Call, CallKey, Direction, Machine, Session, SessionKey, Shell, SocketState, Thread};

/// Written by user space before loading; the verifier sees constants.
#[unsafe(no_mangle)]
pub(super) static CONFIG: Config = Config {
    filters: 0,
    pid: 0,
    uid: 0,
    features: 0,
    ring_bytes: 0,
    wake_bytes: 0,
    packet_wake_bytes: 0,
    offsets: KernelOffsets {
        task_files: 0,
        task_pid: 0,
        task_tgid: 0,
        task_exit_code: 0,
        task_signal: 0,
        signal_live: 0,
        files_fdt: 0,
        fdtable_max_fds: 0,
        fdtable_fd: 0,
        file_private_data: 0,
        file_inode: 0,
        file_dentry: 0,
        dentry_name: 0,
        inode_mode: 0,
        inode_number: 0,
        inode_size: 0,
        inode_generation: 0,
        inode_super_block: 0,
        super_block_device: 0,
        binprm_file: 0,
        binprm_filename: 0,
        socket_sk: 0,
        sock_family: 0,
        sock_cookie: 0,
        sock_protocol: 0,
        sock_local_port: 0,
        sock_remote_port: 0,
        sock_local_v4: 0,
        sock_remote_v4: 0,
        sock_local_v6: 0,
        sock_remote_v6: 0,
    },
};

#[map]
pub(super) static EVENTS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

#[map]
pub(super) static COUNTERS: PerCpuArray<u64> =
    PerCpuArray::with_max_entries(ecapture_ebpf::counter::COUNT, 0);

#[map]
pub(super) static CONTROL: Array<Control> = Array::with_max_entries(1, 0);

/// By thread group id.
#[map]
pub(super) static SHARES: LruHashMap<u32, Share> = LruHashMap::with_max_entries(limits::SHARES, 0);

/// Processes that [`FILTER_PID_SET`](ecapture_ebpf::config::FILTER_PID_SET) lets through, by thread group id.
#[map]
pub(super) static PIDS: HashMap<u32, u32> = HashMap::with_max_entries(limits::PROCESSES, 0);

/// The cgroups of [`FILTER_CGROUP`](ecapture_ebpf::config::FILTER_CGROUP), by place.
#[map]
pub(super) static CGROUPS: CgroupArray = CgroupArray::with_max_entries(PLACES, 0);

/// By place; see [`LIVE_FILTERS`](ecapture_ebpf::config::LIVE_FILTERS). Only user space writes here.
#[map]
pub(super) static FILTERS: Array<Filters> = Array::with_max_entries(PLACES, 0);

/// Reports to user space about files that are not in [`KNOWN`].
#[map]
pub(super) static FILES: RingBuf = RingBuf::with_byte_size(limits::FILES_RING_BYTES, 0);

/// Files that user space has inspected. Only user space writes here.
#[map]
pub(super) static KNOWN: LruHashMap<FileKey, u32> = LruHashMap::with_max_entries(limits::KNOWN_FILES, 0);

/// When probes were attached (`CLOCK_MONOTONIC` in nanoseconds; 0: not yet): entry 0 for the
/// beginning of the capture, and for a file found later the entry numbered by the cookie of its
/// probes. Only user space writes here.
#[map]
pub(super) static STANDING: Array<u64> = Array::with_max_entries(limits::STANDING, 0);

/// When a process last began to connect or to listen, by thread group id.
#[map]
pub(super) static CONNECTED: LruHashMap<u32, u64> = LruHashMap::with_max_entries(limits::PROCESSES, 0);

/// Processes that own a session, by thread group id: their end is an event.
#[map]
pub(super) static PROCESSES: LruHashMap<u32, u32> = LruHashMap::with_max_entries(limits::PROCESSES, 0);

/// Calls in progress, except those kept in [`THREADS`].
#[map]
pub(super) static CALLS: LruHashMap<CallKey, Call> = LruHashMap::with_max_entries(limits::CALLS, 0);

/// By `pid_tgid`.
#[map]
pub(super) static THREADS: LruHashMap<u64, Thread> = LruHashMap::with_max_entries(limits::THREADS, 0);

#[map]
pub(super) static SESSIONS: LruHashMap<SessionKey, Session> =
    LruHashMap::with_max_entries(limits::SESSIONS, 0);

/// Heads and content of the sessions, with [`WITHOUT_CONTENT`](ecapture_ebpf::config::WITHOUT_CONTENT).
#[map]
pub(super) static FRAMING: LruHashMap<SessionKey, Framing> =
    LruHashMap::with_max_entries(limits::SESSIONS, 0);

/// Directions of sessions in which a call is being followed: some libraries allow several at once.
#[map]
pub(super) static FOLLOWED: HashMap<Direction, u32> = HashMap::with_max_entries(limits::FOLLOWED, 0);

/// NSS's tables of TLS methods, by address and process.
#[map]
pub(super) static METHODS: LruHashMap<SessionKey, u32> = LruHashMap::with_max_entries(limits::METHODS, 0);

/// By address of the `struct sock`.
#[map]
pub(super) static SOCKETS: LruHashMap<u64, SocketState> = LruHashMap::with_max_entries(limits::SOCKETS, 0);

/// By thread group id.
#[map]
pub(super) static SHELLS: LruHashMap<u32, Shell> = LruHashMap::with_max_entries(limits::SHELLS, 0);

/// Packets, and the owners of their sockets.
#[map]
pub(super) static PACKETS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);

/// By cookie of the socket.
#[map]
pub(super) static OWNERS: LruHashMap<u64, Owner> = LruHashMap::with_max_entries(limits::OWNERS, 0);

/// By number of the interface. Only user space inserts here.
#[map]
pub(super) static INTERFACES: PerCpuHashMap<u32, InterfaceCounters> =
    PerCpuHashMap::with_max_entries(limits::INTERFACES, 0);

/// Filter expressions of libpcap, one behind the other. Only user space writes here.
#[map]
pub(super) static EXPRESSIONS: Array<ExpressionInstruction> = Array::with_max_entries(limits::EXPRESSIONS, 0);

#[map]
pub(super) static MACHINES: PerCpuArray<Machine> = PerCpuArray::with_max_entries(1, 0);

/// Reads a field of the configuration so that the compiler cannot assume its initial value.
macro_rules! config {
    ($($field:ident).+) => {
        // SAFETY: CONFIG is initialised, aligned and never written while programs run.
        unsafe { core::ptr::read_volatile(&raw const $crate::programs::maps::CONFIG.$($field).+) }
    };
}
pub(super) use config;
