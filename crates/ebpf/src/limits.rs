//! Sizes that both sides must agree on.

/// Room for payload in the smallest record, in bytes. In larger records it is rounded up to the
/// next power of two.
pub const LEAST_PAYLOAD: usize = 256;
/// Payload bytes of the largest record; longer buffers are sent as several records.
pub const CHUNK_PAYLOAD: usize = 16 * 1024;
/// Maximum number of full records for one library call: 2 GiB, the largest `int` length. Bytes
/// beyond that are counted as cut.
pub const CALL_CHUNKS: u32 = 1 << 17;
/// The same on kernels without `bpf_loop` (before 5.17), whose verifier checks every iteration: 1
/// MiB.
pub const CALL_CHUNKS_UNROLLED: u32 = 64;
/// The same for each of the few parts of a write with rustls: 128 KiB; rustls itself accepts at
/// most 64 KiB of one write unless its limit is raised.
pub const RUSTLS_CHUNKS_UNROLLED: u32 = 8;

/// Bytes of a shell's text in one record, with a zero byte behind the last one.
pub const SHELL_CHUNK: usize = 4096;
/// Maximum number of records for one text of a shell: 4 MiB.
pub const SHELL_CHUNKS: u32 = 1024;
/// The same on kernels without `bpf_loop`: 256 KiB.
pub const SHELL_CHUNKS_UNROLLED: u32 = 64;
/// Interactive shells that are tracked at once.
pub const SHELLS: u32 = 4096;

/// Library calls in progress that are tracked at once.
pub const CALLS: u32 = 16 * 1024;
/// Threads with library calls that are tracked at once.
pub const THREADS: u32 = 16 * 1024;
/// Library sessions tracked at once; the least recently used is forgotten first.
pub const SESSIONS: u32 = 64 * 1024;
/// Calls in which content is searched for at once: at most a few for each processor.
pub const FOLLOWED: u32 = 4096;
/// Steps of the search for content in one call: fewer than it has bytes and ranges together. What is
/// left is counted as cut.
pub const FRAMING_STEPS: u32 = 2 * 1024 * 1024;
/// Bytes of a start line. A longer one is content, as all that follows; less than [`CHUNK_PAYLOAD`], because it is
/// handed over when it is complete.
pub const START_LINE: u32 = 15 * 1024;
/// Bytes of a header section. What is behind them is content, as all that follows.
pub const HEAD: u32 = 1024 * 1024;
/// Bytes of a trailer section, in the same way.
pub const TRAILER: u32 = 1024 * 1024;
/// Bytes of a line with the size of a chunk, in the same way.
pub const CHUNK_SIZE_LINE: u32 = 16 * 1024;
/// Sockets tracked at once; the least recently used is forgotten first.
pub const SOCKETS: u32 = 64 * 1024;
/// Threads of database servers whose statements are tracked at once: each connection in progress, and each
/// process of PostgreSQL.
pub const STATEMENTS: u32 = 16 * 1024;
/// Most full records of one string whose length is not known, on kernels without `bpf_loop`: 1 MiB.
pub const STRING_CHUNKS_UNROLLED: u32 = 64;
/// Processes tracked at once.
pub const PROCESSES: u32 = 16 * 1024;
/// Tables of TLS methods known at once, about one for each process that uses NSS.
pub const METHODS: u32 = 1024;
/// Times at which probes were attached: at the beginning of the capture, then to each file found
/// later. Further files share the last entry.
pub const STANDING: u32 = 4096;
/// Files that user space has inspected; the least recently used is forgotten first and inspected
/// again.
pub const KNOWN_FILES: u32 = 64 * 1024;
/// Processes whose share of the ring is tracked at once; the least recently used is forgotten
/// first.
pub const SHARES: u32 = 4096;
/// Size of the ring buffer of files: more than 1,000 at once.
pub const FILES_RING_BYTES: u32 = 256 * 1024;
/// Room for bytes of packets in a record of each size. The second largest is for whatever a kernel sends as one
/// packet (GSO, 64 KiB and headers), the largest for a packet of the largest snap length.
pub const PACKET_PAYLOADS: [usize; 8] = [
    128,
    256,
    512,
    1600,
    4096,
    16 * 1024,
    66 * 1024,
    SNAP_LENGTH as usize,
];
/// The largest snap length, as that of tcpdump (`MAXIMUM_SNAPLEN`), in bytes.
pub const SNAP_LENGTH: u32 = 256 * 1024;
/// Sockets whose owners are known at once; the least recently used is forgotten first.
pub const OWNERS: u32 = 64 * 1024;
/// Interfaces whose packets are captured at once.
pub const INTERFACES: u32 = 4096;
/// Instructions of filter expressions that the kernel runs, of all link types together; an expression that finds no room
/// runs in user space alone.
pub const EXPRESSIONS: u32 = 4096;
/// Instructions that the kernel runs for one packet. A packet that needs more is left to user space.
pub const EXPRESSION_STEPS: u32 = 512;
/// The same on kernels without `bpf_loop` (before 5.17), whose verifier checks every iteration.
pub const EXPRESSION_STEPS_UNROLLED: u32 = 32;
/// Size of the ring buffer unless user space sets another.
pub const RING_BYTES: u32 = 16 * 1024 * 1024;
