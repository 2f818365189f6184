//! The `bpf` and `perf_event_open` system calls that aya 0.14 has no way to make: loading one program for
//! `uprobe_multi` and with the verifier's figures, and links of that kind.
//!
//! Layouts are those of `include/uapi/linux/bpf.h` and `perf_event.h`; a kernel takes shorter and longer ones.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_prog_type};

/// `BPF_F_UPROBE_MULTI_RETURN`
const AT_RETURN: u32 = 1;
/// `BPF_F_BEFORE`
const BEFORE: u32 = 1 << 3;
/// `BPF_LOG_STATS`: errors and what the verifier has done, without the instructions.
const LOG_STATISTICS: u32 = 4;
/// Errors and statistics have some hundred bytes.
const LOG_BYTES: usize = 64 * 1024;
/// `_IOW('$', 8, __u32)` and `_IO('$', 0)` of `perf_event.h`.
const PERF_EVENT_IOC_SET_BPF: libc::c_ulong = 0x4004_2408;
const PERF_EVENT_IOC_ENABLE: libc::c_ulong = 0x2400;
const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;

/// Code with what belongs to it, ready to be loaded.
pub(super) struct Code<'a> {
    pub(super) instructions: &'a [aya_obj::generated::bpf_insn],
    pub(super) license: &'a CStr,
    pub(super) program_type: bpf_prog_type,
    pub(super) attach_type: Option<bpf_attach_type>,
    /// The BTF id of what a tracing program is attached to; 0 for others.
    pub(super) attach_type_id: u32,
    pub(super) functions: Option<FunctionInfo<'a>>,
}

/// Records of functions and lines, with the type information that they refer to.
#[derive(Clone, Copy)]
pub(super) struct FunctionInfo<'a> {
    pub(super) types: &'a OwnedFd,
    /// Bytes, size of a record, number of records.
    pub(super) functions: (&'a [u8], usize, usize),
    pub(super) lines: (&'a [u8], usize, usize),
}

/// A load that failed, with the verifier's words.
pub(super) struct LoadError {
    pub(super) error: io::Error,
    pub(super) log: String,
}

/// Loads type information of an object into the kernel.
pub(super) fn load_types(bytes: &[u8]) -> Result<OwnedFd, LoadError> {
    let mut attributes = LoadTypes {
        types: address(bytes),
        size: length(bytes.len()),
        ..LoadTypes::default()
    };
    if let Ok(types) = call(bpf_cmd::BPF_BTF_LOAD, &attributes) {
        return Ok(types);
    }
    // Once more, for the reason.
    let mut log = vec![0; LOG_BYTES];
    attributes.log = address(&log);
    attributes.log_size = length(log.len());
    attributes.log_level = 1;
    call(bpf_cmd::BPF_BTF_LOAD, &attributes).map_err(|error| LoadError {
        error,
        log: text_of(&mut log),
    })
}

/// Loads a program without a log, which is quicker.
pub(super) fn load_program(code: &Code<'_>) -> io::Result<OwnedFd> {
    call(bpf_cmd::BPF_PROG_LOAD, &LoadProgram::of(code, &mut []))
}

/// Loads a program and returns the verifier's log with it.
pub(super) fn load_program_with_log(code: &Code<'_>) -> Result<(OwnedFd, String), LoadError> {
    let mut log = vec![0; LOG_BYTES];
    let loaded = call(bpf_cmd::BPF_PROG_LOAD, &LoadProgram::of(code, &mut log));
    let log = text_of(&mut log);
    match loaded {
        Ok(program) => Ok((program, log)),
        Err(error) => Err(LoadError { error, log }),
    }
}

/// The text that the kernel wrote into a log.
fn text_of(log: &mut Vec<u8>) -> String {
    log.truncate(log.iter().position(|&byte| byte == 0).unwrap_or(log.len()));
    String::from_utf8_lossy(log).into_owned()
}

/// Where and how a uprobe is attached.
#[derive(Clone, Copy)]
pub(super) struct Uprobe<'a> {
    pub(super) path: &'a CStr,
    pub(super) at_return: bool,
    /// 0: in every process.
    pub(super) pid: u32,
    /// The value that `bpf_get_attach_cookie` returns in the program.
    pub(super) cookie: u64,
}

/// Attaches a program that was loaded for it at all `offsets` of a file (Linux 6.6).
pub(super) fn link_multi(program: &OwnedFd, offsets: &[u64], uprobe: Uprobe<'_>) -> io::Result<OwnedFd> {
    let cookies = vec![uprobe.cookie; offsets.len()];
    let attributes = CreateMultiLink {
        program: program.as_raw_fd(),
        attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
        path: address(uprobe.path.to_bytes_with_nul()),
        offsets: address(offsets),
        cookies: address(&cookies),
        count: length(offsets.len()),
        uprobe_flags: if uprobe.at_return { AT_RETURN } else { 0 },
        pid: uprobe.pid,
        ..CreateMultiLink::default()
    };
    call(bpf_cmd::BPF_LINK_CREATE, &attributes)
}

/// The perf event of a uprobe at one offset. `performance_unit` is the type number of the kernel's `uprobe`
/// unit, `return_bit` the bit of its configuration that asks for the return.
pub(super) fn open_uprobe_event(
    performance_unit: u32,
    return_bit: u32,
    offset: u64,
    uprobe: Uprobe<'_>,
) -> io::Result<OwnedFd> {
    let attributes = PerfEvent {
        kind: performance_unit,
        size: length(size_of::<PerfEvent>()),
        config: u64::from(uprobe.at_return) << return_bit,
        path: address(uprobe.path.to_bytes_with_nul()),
        offset,
        ..PerfEvent::default()
    };
    let (pid, cpu) = match libc::pid_t::try_from(uprobe.pid) {
        Ok(pid) if pid != 0 => (pid, -1),
        _ => (-1, 0),
    };
    // SAFETY: the structure is laid out as the kernel's, and the path in it lives until the call returns.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            pid,
            cpu,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    owned(result)
}

/// Runs a program at a perf event, as a link that hands it a `cookie` (Linux 5.15).
pub(super) fn link_event(program: &OwnedFd, event: &OwnedFd, cookie: u64) -> io::Result<OwnedFd> {
    let attributes = CreateEventLink {
        program: program.as_raw_fd(),
        target: event.as_raw_fd(),
        attach_type: bpf_attach_type::BPF_PERF_EVENT as u32,
        flags: 0,
        cookie,
    };
    call(bpf_cmd::BPF_LINK_CREATE, &attributes)
}

/// Runs a program at a perf event as long as the event is open.
pub(super) fn set_event_program(program: &OwnedFd, event: &OwnedFd) -> io::Result<()> {
    // SAFETY: both requests take plain numbers.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    let result = unsafe {
        let event = event.as_raw_fd();
        match libc::ioctl(event, PERF_EVENT_IOC_SET_BPF as _, program.as_raw_fd()) {
            0 => libc::ioctl(event, PERF_EVENT_IOC_ENABLE as _, 0),
            failed => failed,
        }
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Runs a program for the packets of an interface, before all others that are attached there as links (tcx, Linux
/// 6.6). It is detached when the link is closed, also by the end of the process.
pub(super) fn link_packets(
    program: &OwnedFd,
    interface: u32,
    attach_type: bpf_attach_type,
) -> io::Result<OwnedFd> {
    let attributes = CreatePacketLink {
        program: program.as_raw_fd(),
        interface,
        attach_type: attach_type as u32,
        flags: BEFORE,
        relative: 0,
        padding: 0,
        revision: 0,
    };
    call(bpf_cmd::BPF_LINK_CREATE, &attributes)
}

/// Attaches a tracing program to the tracepoint that it was loaded for.
pub(super) fn open_tracepoint(program: &OwnedFd) -> io::Result<OwnedFd> {
    let attributes = OpenTracepoint {
        name: 0,
        program: program.as_raw_fd(),
        padding: 0,
    };
    call(bpf_cmd::BPF_RAW_TRACEPOINT_OPEN, &attributes)
}

/// `bpf_attr` of `BPF_BTF_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadTypes {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    /// `btf_log_true_size` since Linux 6.4. Before, the kernel refuses anything but 0 after its known fields
    /// (`CHECK_ATTR`), and what the compiler leaves between fields may be anything.
    padding: u32,
}

/// `bpf_attr` of `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    types: RawFd,
    function_record_size: u32,
    functions: u64,
    function_count: u32,
    line_record_size: u32,
    lines: u64,
    line_count: u32,
    attach_type_id: u32,
}

impl LoadProgram {
    fn of(code: &Code<'_>, log: &mut [u8]) -> Self {
        let mut attributes = Self {
            program_type: code.program_type as u32,
            instruction_count: length(code.instructions.len()),
            instructions: address(code.instructions),
            license: address(code.license.to_bytes_with_nul()),
            log_level: if log.is_empty() { 0 } else { LOG_STATISTICS },
            log_size: length(log.len()),
            log: if log.is_empty() {
                0
            } else {
                log.as_mut_ptr().expose_provenance() as u64
            },
            expected_attach_type: code.attach_type.map_or(0, |kind| kind as u32),
            attach_type_id: code.attach_type_id,
            ..Self::default()
        };
        if let Some(FunctionInfo {
            types,
            functions: (functions, function_size, function_count),
            lines: (lines, line_size, line_count),
        }) = code.functions
        {
            attributes.types = types.as_raw_fd();
            attributes.functions = address(functions);
            attributes.function_record_size = length(function_size);
            attributes.function_count = length(function_count);
            attributes.lines = address(lines);
            attributes.line_record_size = length(line_size);
            attributes.line_count = length(line_count);
        }
        attributes
    }
}

/// `bpf_attr` of `BPF_LINK_CREATE` for `uprobe_multi`.
#[repr(C)]
#[derive(Default)]
struct CreateMultiLink {
    program: RawFd,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    uprobe_flags: u32,
    pid: u32,
    padding: u32,
}

/// `bpf_attr` of `BPF_LINK_CREATE` for a perf event.
#[repr(C)]
struct CreateEventLink {
    program: RawFd,
    target: RawFd,
    attach_type: u32,
    flags: u32,
    cookie: u64,
}

/// `bpf_attr` of `BPF_LINK_CREATE` for an interface.
#[repr(C)]
struct CreatePacketLink {
    program: RawFd,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    revision: u64,
}

/// `bpf_attr` of `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct OpenTracepoint {
    name: u64,
    program: RawFd,
    padding: u32,
}

/// `perf_event_attr` up to `PERF_ATTR_SIZE_VER1`.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    path: u64,
    offset: u64,
}

// No structure has room that is not a field.
const _: () = assert!(size_of::<LoadTypes>() == 32);
const _: () = assert!(size_of::<LoadProgram>() == 112);
const _: () = assert!(size_of::<CreateMultiLink>() == 64);
const _: () = assert!(size_of::<CreateEventLink>() == 24);
const _: () = assert!(size_of::<CreatePacketLink>() == 32);
const _: () = assert!(size_of::<OpenTracepoint>() == 16);
const _: () = assert!(size_of::<PerfEvent>() == 72);

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Where the kernel finds the values. They must live until the call returns.
fn address<T>(values: &[T]) -> u64 {
    values.as_ptr().expose_provenance() as u64
}

/// A `bpf` system call that returns a descriptor. `attributes` is one of the structures above.
#[expect(unsafe_code, reason = "aya offers no way to make these calls")]
fn call<T>(command: bpf_cmd, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the structures are laid out as the kernel's and hold addresses of what lives until
    // the call returns; the kernel only writes into the log, which nobody else borrows during the
    // call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    owned(result)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for us.
        #[expect(unsafe_code, reason = "a new descriptor gets its owner")]
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
