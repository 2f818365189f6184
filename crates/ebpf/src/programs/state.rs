//! The layouts of the maps' keys and values: what the programs remember between two events.

use ecapture_ebpf::record;

/// A call is identified by its thread and its stack pointer, so that nested calls, and calls on
/// other stacks of the same thread, are distinguished.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct CallKey {
    pub pid_tgid: u64,
    pub stack_pointer: u64,
}

/// The kind of a call: where the number of moved bytes is at the return, if any.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(super) enum CallKind {
    /// The function returns how much it moved as an `int`; 0 and below mean that nothing moved.
    ReturnsInt = 0,
    /// The function returns more than 0 and stores how much it moved as a `size_t`.
    Stores = 1,
    /// The function returns how much it moved as an `ssize_t`; 0 and below mean that nothing moved.
    ReturnsLong = 2,
    /// No plaintext moves, but some may have moved before.
    MovesNothing = 3,
    /// As [`Self::ReturnsLong`], but the bytes went from a file to the socket inside the kernel.
    SendsFile = 4,
    /// The function returns `RUSTLS_RESULT_OK` and stores how much it moved as a `size_t`.
    StoresWithRustlsOk = 5,
    /// The sender of the bytes passes their number. The session object does not begin with a
    /// version.
    KnowsLength = 6,
    /// The function performs the handshake; no plaintext has moved before it returns.
    Handshake = 7,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Call {
    pub session: u64,
    pub buffer: u64,
    /// Where the library stores the number of bytes, for [`CallKind::Stores`].
    pub length_pointer: u64,
    /// When the call began, for calls that write. Data that was read gets the time of the return.
    pub entered_ns: u64,
    /// Stack pointer of the call around this one, 0 without one.
    pub outer: u64,
    pub direction: u32,
    /// A [`CallKind`].
    pub kind: u32,
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
        kind: 0,
        tails: 0,
        delivered: 0,
    };

    /// Returns true if the function of this call moves no plaintext.
    #[inline(always)]
    pub(in crate::programs) fn moves_nothing(&self) -> bool {
        self.is(CallKind::MovesNothing) || self.is(CallKind::Handshake)
    }

    #[inline(always)]
    pub(in crate::programs) fn is(&self, kind: CallKind) -> bool {
        self.kind == kind as u32
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct SessionKey {
    pub session: u64,
    pub pid: u32,
    pub padding: u32,
}

/// One direction of a session.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Direction {
    pub session: u64,
    pub pid: u32,
    pub direction: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Session {
    /// Position of the next byte, by direction.
    pub offsets: [u64; 2],
    pub sock: u64,
    /// rustls. Of an object: the name under which its plaintext is reported. Of the memory of a queue: the
    /// address of the object that had it last.
    pub link: u64,
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
    link: 0,
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

/// The state of a thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Thread {
    /// Stack pointer of the innermost call, 0 outside of calls.
    pub innermost: u64,
    /// Buffer of the last `read` of [`Self::recent_fd`].
    pub recent_buffer: u64,
    /// Last internet socket from which the thread read outside of calls.
    pub recent_fd: i32,
    /// Descriptor that the current call used, or [`record::NO_FD`]: an internet socket if it used one.
    pub call_fd: i32,
    /// Not 0: this thread's calls do not use sockets themselves.
    pub memory_bio: u64,
    /// Stack pointer of [`Self::call`], 0 when there is none.
    pub kept: u64,
    /// Where the library of the last call keeps the client's random, see
    /// [`RandomPlace`](ecapture_ebpf::secret::RandomPlace); 0 if that is not known or no secrets are wanted.
    pub random_place: u32,
    pub padding: u32,
    /// One call is kept here, because nearly every thread has only one at a time: an entry of
    /// [`CALLS`](super::maps::CALLS) costs more than all other steps of tracking a call.
    pub call: Call,
}

/// The state of an interactive shell.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Shell {
    /// A [`ShellPhase`].
    pub phase: u32,
    /// Lines of the command that is being typed or runs.
    pub lines: u32,
    /// 0 while no line is being edited. In zsh otherwise the stack pointer of the call that does it.
    pub reading: u64,
    /// As in the record.
    pub kind: u32,
    /// bash: not 0 if what was read is not a command.
    pub faulty: u32,
}

/// What a shell is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum ShellPhase {
    /// It was running before the capture, so that is not known.
    Unknown = 0,
    /// It reads a command.
    Reads = 1,
    /// It runs a command.
    Runs = 2,
}

/// What is known of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Verdict {
    /// User space decides.
    Open,
    /// User space would reject it.
    Rejected,
}

/// Words of memory of a [`Machine`].
pub(super) const MEMORY_WORDS: usize = 16;

/// The state of a run of a filter expression. It is in a map because the verifier does not follow what is there: to it
/// all instructions lead to the same state.
#[repr(C)]
pub(super) struct Machine {
    /// Not 0 during a run: a kernel whose softirqs can be preempted may begin another one on the same processor.
    pub busy: u32,
    /// The next instruction.
    pub at: u32,
    pub verdict: Verdict,
    pub accumulator: u32,
    pub index: u32,
    /// Bytes of the packet, and of its part that is captured, both with the tag.
    pub length: u32,
    pub captured: u32,
    /// The VLAN tag, if it is to be put back.
    pub tag: u32,
    pub has_tag: u32,
    pub memory: [u32; MEMORY_WORDS],
}
