//! Sizes that both sides must agree on.

/// Room for payload in the smallest record, in bytes. A record has as little more as a power of two allows.
pub const LEAST_PAYLOAD: usize = 256;
/// Payload bytes of the largest record; longer buffers are sent as several records.
pub const CHUNK_PAYLOAD: usize = 16 * 1024;
/// Most full records for one library call: 2 GiB, what an `int` length can say. What is beyond
/// is counted as cut.
pub const CALL_CHUNKS: u32 = 1 << 17;
/// The same on kernels without `bpf_loop` (before 5.17), whose verifier walks every round: 1 MiB.
pub const CALL_CHUNKS_UNROLLED: u32 = 64;
/// The same for each of the few parts of a write with rustls: 128 KiB; rustls itself takes 64 KiB at most of one
/// write unless its limit is raised.
pub const RUSTLS_CHUNKS_UNROLLED: u32 = 8;

/// Library calls in progress that are followed at once.
pub const CALLS: u32 = 16 * 1024;
/// Threads with library calls that are followed at once.
pub const THREADS: u32 = 16 * 1024;
/// Library sessions followed at once; the least recently used is forgotten first.
pub const SESSIONS: u32 = 64 * 1024;
/// Sockets followed at once; the least recently used is forgotten first.
pub const SOCKETS: u32 = 64 * 1024;
/// Processes followed at once.
pub const PROCESSES: u32 = 16 * 1024;
/// Tables of TLS methods known at once, about one for each process that uses NSS.
pub const METHODS: u32 = 1024;
/// Times at which probes stood: of the capture's beginning, then of each file found later. More files
/// share the last one.
pub const STANDING: u32 = 4096;
/// Files that user space has looked at; the least recently used is looked at anew.
pub const KNOWN_FILES: u32 = 64 * 1024;
/// Processes whose share of the ring is known at once; the least recently asked for is forgotten first.
pub const SHARES: u32 = 4096;
/// Size of the ring buffer of files: more than 1,000 at once.
pub const FILES_RING_BYTES: u32 = 256 * 1024;
/// Size of the ring buffer unless user space sets another.
pub const RING_BYTES: u32 = 16 * 1024 * 1024;
