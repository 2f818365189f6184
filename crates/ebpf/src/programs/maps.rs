//! The maps and constants, and the checks that every program makes.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, CgroupArray, HashMap, LruHashMap, PerCpuArray, RingBuf};
use ecapture_ebpf::config::{
    Config, Control, ENDED, FILTER_CGROUP, FILTER_PID, FILTER_PID_SET, FILTER_UID, KernelOffsets,
};
use ecapture_ebpf::counter;
use ecapture_ebpf::discovery::FileKey;
use ecapture_ebpf::limits;
use ecapture_ebpf::record;
use ecapture_ebpf::share::Share;
use ecapture_ebpf::table;

use super::tables::overflowed;
use super::thread::Thread;

/// Written by user space before loading; the verifier sees constants.
#[unsafe(no_mangle)]
pub(super) static CONFIG: Config = Config {
    filters: 0,
    pid: 0,
    uid: 0,
    features: 0,
    ring_bytes: 0,
    wake_bytes: 0,
    offsets: KernelOffsets {
        task_files: 0,
        task_pid: 0,
        task_tgid: 0,
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

/// Processes that [`FILTER_PID_SET`] lets through, by thread group id.
#[map]
pub(super) static PIDS: HashMap<u32, u32> = HashMap::with_max_entries(limits::PROCESSES, 0);

/// The only entry is the cgroup of [`FILTER_CGROUP`].
#[map]
pub(super) static CGROUPS: CgroupArray = CgroupArray::with_max_entries(1, 0);

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

/// NSS's tables of TLS methods, by address and process.
#[map]
pub(super) static METHODS: LruHashMap<SessionKey, u32> = LruHashMap::with_max_entries(limits::METHODS, 0);

/// By address of the `struct sock`.
#[map]
pub(super) static SOCKETS: LruHashMap<u64, SocketState> = LruHashMap::with_max_entries(limits::SOCKETS, 0);

/// A call is identified by its thread and its stack pointer, so that nested calls, and calls on
/// other stacks of the same thread, are distinguished.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CallKey {
    pub pid_tgid: u64,
    pub stack_pointer: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub session: u64,
    pub buffer: u64,
    /// Where the library stores the number of bytes, for [`crate::programs::call::Length::Stored`].
    pub length_pointer: u64,
    /// When the call began, for calls that write. Data that was read gets the time of the return.
    pub entered_ns: u64,
    /// Stack pointer of the call around this one, 0 without one.
    pub outer: u64,
    pub direction: u32,
    pub length: u32,
    /// Number of functions that ended with a jump into this one: for each of them the return is
    /// seen once more.
    pub tails: u32,
    /// Not 0: the bytes were sent, and only further returns are expected.
    pub delivered: u32,
}

impl Call {
    pub(in crate::programs) const NONE: Self = Self {
        session: 0,
        buffer: 0,
        length_pointer: 0,
        entered_ns: 0,
        outer: 0,
        direction: 0,
        length: 0,
        tails: 0,
        delivered: 0,
    };
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SessionKey {
    pub session: u64,
    pub pid: u32,
    pub padding: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Session {
    /// Position of the next byte, by direction.
    pub offsets: [u64; 2],
    pub sock: u64,
    pub local_address: [u8; 16],
    pub remote_address: [u8; 16],
    pub local_port: u16,
    pub remote_port: u16,
    pub family: u16,
    pub tls_version: u16,
    pub fd: i32,
    pub role: u8,
    pub socket_source: u8,
    /// As in the record.
    pub joined_late: u8,
    /// Not 0: the handshake was seen, and its socket is not known yet.
    pub handshake: u8,
}

/// The initial state of a session. A static, so that it takes no stack.
pub(super) static NEW_SESSION: Session = Session {
    offsets: [0; 2],
    sock: 0,
    local_address: [0; 16],
    remote_address: [0; 16],
    local_port: 0,
    remote_port: 0,
    family: 0,
    tls_version: 0,
    fd: record::NO_FD,
    role: record::ROLE_UNKNOWN,
    socket_source: record::SOCKET_UNKNOWN,
    joined_late: record::NOT_JOINED_LATE,
    handshake: 0,
};

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SocketState {
    /// When the connection began; 0: before the capture, or unseen.
    pub opened_ns: u64,
    pub role: u32,
    /// Not 0: user space has seen this socket and needs to know when it ends.
    pub seen: u32,
}

/// Reads a field of the configuration so that the compiler cannot assume its initial value.
macro_rules! config {
    ($($field:ident).+) => {
        // SAFETY: CONFIG is initialised, aligned and never written while programs run.
        unsafe { core::ptr::read_volatile(&raw const $crate::programs::maps::CONFIG.$($field).+) }
    };
}
pub(super) use config;

#[inline(always)]
pub(super) fn count(counter: u32, amount: u64) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter) {
        // SAFETY: the map lookup succeeded; the entry belongs to this CPU.
        unsafe { *value += amount };
    }
}

/// Returns true if calls that begin now are not captured.
#[inline(always)]
pub(super) fn stopped() -> bool {
    end() != 0
}

/// Returns true if nothing is captured any more, not even calls that were in progress at the stop.
#[inline(always)]
pub(super) fn ended() -> bool {
    end() >= ENDED
}

#[inline(always)]
fn end() -> u32 {
    match CONTROL.get_ptr(0) {
        // SAFETY: the map lookup succeeded; user space writes whole words.
        Some(control) => unsafe { core::ptr::read_volatile(&raw const (*control).end) },
        None => ENDED,
    }
}

/// Counts a return whose call is unknown. After the stop, calls are not remembered.
#[inline(always)]
pub(super) fn count_unmatched() {
    if !stopped() {
        let forgets = overflowed(table::CALLS) || overflowed(table::THREADS);
        let reason = if forgets {
            counter::FORGOTTEN_CALLS
        } else {
            counter::UNMATCHED_RETURNS
        };
        count(reason, 1);
    }
}

/// Returns true if the filters let the current thread through.
#[inline(always)]
pub(super) fn wanted(pid: u32) -> bool {
    let filters = config!(filters);
    if filters & FILTER_PID != 0 && pid != config!(pid) {
        return false;
    }
    if filters & FILTER_UID != 0 && bpf_get_current_uid_gid() as u32 != config!(uid) {
        return false;
    }
    if filters & FILTER_CGROUP != 0 && CGROUPS.current_task_under_cgroup(0) != Ok(true) {
        return false;
    }
    filters & FILTER_PID_SET == 0 || PIDS.get_ptr(pid).is_some()
}
