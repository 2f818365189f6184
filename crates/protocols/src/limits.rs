//! Every bound of the decoders, in one place.

/// Largest block of a capture file, and largest packet of a classic one: that of Wireshark's reader.
pub const CAPTURE_BLOCK_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of interfaces in one section of a capture file.
pub const CAPTURE_INTERFACES: usize = 65536;
/// Maximum number of connections whose sequence numbers an output of packets remembers, about 500 bytes each.
pub const PCAPNG_CONNECTIONS: usize = 16384;

/// Longest file of patterns for secrets, in bytes.
pub const PATTERN_FILE_BYTES: usize = 64 * 1024;
/// Maximum number of patterns in it.
pub const PATTERNS: usize = 256;
/// Memory of its regular expressions together, in bytes.
pub const PATTERN_BYTES: usize = 8 << 20;
/// Matches of them in one text, after which the rest of the text is hidden.
pub const PATTERN_MATCHES: usize = 1024;

/// Instructions of a filter for packets: `BPF_MAXINSNS` of the kernel.
pub const FILTER_INSTRUCTIONS: usize = 4096;
/// Instructions that a filter runs for one packet: it may have loops.
pub const FILTER_STEPS: usize = 64 * 1024;
/// Connections whose TLS handshakes are followed among packets, and whose secrets are remembered; what was not used
/// for longest is forgotten first.
pub const WATCHED_CONNECTIONS: usize = 32 * 1024;
/// How long packets wait for the next secret of their connection, in nanoseconds.
pub const KEYS_WAIT_NS: u64 = 1_000_000_000;
/// TLS records of one segment that are looked at.
pub const RECORDS_OF_SEGMENT: usize = 16;

/// Maximum number of secrets kept of key logs, about 100 bytes each.
pub const KEY_LOG_SECRETS: usize = 1 << 20;
/// Longest content of a TLS record: 2^14 bytes and what the protection of TLS 1.2 may add (RFC 5246 §6.2.3).
pub const TLS_RECORD_BYTES: usize = (1 << 14) + 2048;
/// Maximum number of bytes of a connection held until its server's hello is seen.
pub const TLS_WAITING_BYTES: usize = 512 * 1024;
/// Number of records that may be missing in a gap, for one to be found again.
pub const TLS_TRIALS_AHEAD: u64 = 512;
/// Maximum number of tries to open a record after a gap.
pub const TLS_TRIALS: u32 = 8192;

/// Maximum number of TCP connections of a capture that are followed at once.
pub const FLOWS: usize = 65536;
/// How much older a packet of a capture may be than one before it and still be put before it, or get its time, in
/// nanoseconds.
pub const PACKETS_LATE_NS: u64 = 1_000_000_000;
/// Maximum number of bytes of packets that wait for older ones.
pub const PACKETS_HELD_BYTES: usize = 16 * 1024 * 1024;
/// Maximum number of bytes that all connections of a capture hold.
pub const FLOWS_HELD_BYTES: usize = 256 * 1024 * 1024;
/// Maximum number of bytes of one direction held behind a hole.
pub const STREAM_HELD_BYTES: usize = 4 * 1024 * 1024;
/// Number of packets of a connection after which a hole that the receiver has acknowledged is a gap.
pub const STREAM_PATIENCE: u32 = 64;
/// Maximum number of IP packets that wait for their other fragments.
pub const FRAGMENTED_PACKETS: usize = 256;
/// Maximum number of fragments of one IP packet.
pub const FRAGMENTS: usize = 128;
/// Bytes of one attribute of a span; longer text is cut.
pub const SPAN_ATTRIBUTE_BYTES: usize = 4096;
/// Bytes of the name of a span.
pub const SPAN_NAME_BYTES: usize = 256;
/// Spans of a trace that a captured `traceparent` names; those beyond begin traces of their own, linked to it.
pub const SPANS_OF_ADOPTED_TRACE: u64 = 1000;
/// Traces whose spans are counted for it, 8 bytes each.
pub const ADOPTED_TRACES: usize = 4096;
/// Bytes of all `tracestate` fields that are passed on (W3C Trace Context §3.3.1.5).
pub const TRACESTATE_BYTES: usize = 512;
/// Members of a `tracestate` (W3C Trace Context §3.3.1.1).
pub const TRACESTATE_MEMBERS: usize = 32;
/// Groups of exchanges with figures of their own. Each takes at most 5 KiB.
pub const STAT_GROUPS: usize = 1000;

/// Nanoseconds without traffic after which no request is outstanding that was lost.
pub(crate) const PAIRING_QUIET_NS: u64 = 5_000_000_000;

/// Limits on what one decoder may hold and produce. Sizes are in bytes unless stated otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest HTTP/1 head (start line and header fields).
    pub http1_head_bytes: usize,
    /// Most header fields in one HTTP/1 head.
    pub http1_header_fields: usize,
    /// Longest chunk-size line or trailer section of a chunked body.
    pub http1_chunk_line_bytes: usize,
    /// Maximum number of bytes held after a response's head until the request's method is known.
    pub http1_awaiting_bytes: usize,
    /// Number of held bytes that are decoded in one call, rounded up to the end of an event.
    pub http1_step_bytes: usize,
    /// Maximum number of bytes held after an HTTP/2 response that may open a tunnel, until its
    /// request is known.
    pub http2_awaiting_bytes: usize,
    /// Body bytes kept per message, after decoding. Bytes beyond that are counted, not kept.
    pub body_bytes: usize,
    /// Number of bytes that the content codings of one direction of a connection may write beyond
    /// [`expansion_ratio`](Self::expansion_ratio) times the bytes received. Bodies beyond it are
    /// cut.
    pub expansion_bytes: usize,
    /// Number of bytes that content codings may write for each byte received.
    pub expansion_ratio: usize,
    /// Largest HTTP/2 frame buffered as a whole; DATA is streamed and never buffered.
    pub http2_frame_bytes: usize,
    /// Largest HTTP/2 header block (HEADERS and its CONTINUATIONs).
    pub http2_header_block_bytes: usize,
    /// Maximum number of HTTP/2 streams tracked at once per direction.
    pub http2_streams: usize,
    /// Maximum number of body bytes held over all streams of one HTTP/2 direction, including the
    /// windows of their content codings; beyond it, the stream that has been quiet longest is
    /// emitted as it is.
    pub http2_held_bytes: usize,
    /// Maximum number of bytes held in the search for a frame after a gap or a late attach.
    pub http2_resync_bytes: usize,
    /// Largest HPACK dynamic table kept.
    pub hpack_table_bytes: usize,
    /// Largest decoded HPACK field list (guards against decompression blow-up).
    pub hpack_list_bytes: usize,
    /// Bytes shown of a content coding that is repeated with each frame it applies to.
    pub shown_coding_bytes: usize,
    /// Largest zstd window, as a power of two.
    pub zstd_window_log: u32,
    /// Maximum number of content codings applied one over the other.
    pub content_codings: usize,
    /// Largest WebSocket message kept.
    pub websocket_message_bytes: usize,
    /// Largest server-sent event kept, counted over its `data`, `event` and `id` values.
    pub sse_event_bytes: usize,
    /// Largest gRPC message kept.
    pub grpc_message_bytes: usize,
    /// Deepest nesting of a schema-less protobuf dump.
    pub protobuf_depth: usize,
    /// Most fields of a schema-less protobuf dump.
    pub protobuf_fields: usize,
    /// Maximum number of bytes examined before a stream is treated as raw.
    pub detect_bytes: usize,
    /// Number of requests remembered for their responses.
    pub pending_requests: usize,
    /// Bytes kept of the method, the authority and the path of a request until its response.
    pub asked_bytes: usize,
    /// Bytes of them that are kept over all requests that wait; beyond it they are paired by number.
    pub asked_total_bytes: usize,
    /// Bytes of whole requests that are held for their responses, in views that join.
    pub joined_bytes: usize,
    /// As [`http1_awaiting_bytes`](Self::http1_awaiting_bytes), where responses are paired.
    pub paired_awaiting_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            http1_head_bytes: 64 * 1024,
            http1_header_fields: 1024,
            http1_chunk_line_bytes: 16 * 1024,
            http1_awaiting_bytes: 128 * 1024,
            http1_step_bytes: 16 * 1024,
            http2_awaiting_bytes: 128 * 1024,
            body_bytes: 8 * 1024 * 1024,
            expansion_bytes: 2 * 1024 * 1024,
            expansion_ratio: 128,
            http2_frame_bytes: 64 * 1024,
            http2_header_block_bytes: 256 * 1024,
            http2_streams: 1024,
            http2_held_bytes: 32 * 1024 * 1024,
            http2_resync_bytes: 128 * 1024,
            hpack_table_bytes: 64 * 1024,
            hpack_list_bytes: 1024 * 1024,
            shown_coding_bytes: 64,
            zstd_window_log: 23,
            content_codings: 4,
            websocket_message_bytes: 8 * 1024 * 1024,
            sse_event_bytes: 1024 * 1024,
            grpc_message_bytes: 8 * 1024 * 1024,
            protobuf_depth: 16,
            protobuf_fields: 4096,
            detect_bytes: 64 * 1024,
            pending_requests: 4096,
            asked_bytes: 2 * 1024,
            asked_total_bytes: 256 * 1024,
            joined_bytes: 4 * 1024 * 1024,
            paired_awaiting_bytes: 1024 * 1024,
        }
    }
}
