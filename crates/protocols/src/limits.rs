//! Every bound of the decoders, in one place.

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
        }
    }
}
