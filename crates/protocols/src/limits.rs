//! Every bound of the decoders, in one place.

/// What one decoder may hold and produce. Sizes are bytes unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest HTTP/1 head (start line and header fields).
    pub http1_head_bytes: usize,
    /// Most header fields in one HTTP/1 head.
    pub http1_header_fields: usize,
    /// Longest chunk-size line or trailer section of a chunked body.
    pub http1_chunk_line_bytes: usize,
    /// Most bytes held behind a response's head while the request's method is waited for.
    pub http1_awaiting_bytes: usize,
    /// Bytes of what was held that are decoded in one call, up to the end of an event.
    pub http1_step_bytes: usize,
    /// Most bytes held behind an HTTP/2 response that opens a tunnel or does not, while its request is waited
    /// for.
    pub http2_awaiting_bytes: usize,
    /// Body bytes kept per message, after decoding. What is beyond is counted, not kept.
    pub body_bytes: usize,
    /// What the content codings of one direction of a connection may write beyond
    /// [`expansion_ratio`](Self::expansion_ratio) times what came. Bodies beyond it are cut.
    pub expansion_bytes: usize,
    /// Bytes that content codings may write for each byte that came.
    pub expansion_ratio: usize,
    /// Largest HTTP/2 frame buffered as a whole; DATA is streamed and never buffered.
    pub http2_frame_bytes: usize,
    /// Largest HTTP/2 header block (HEADERS and its CONTINUATIONs).
    pub http2_header_block_bytes: usize,
    /// Most HTTP/2 streams followed at once per direction.
    pub http2_streams: usize,
    /// Most body bytes held over all streams of one HTTP/2 direction, with the windows of their
    /// content codings; beyond it the stream that has been quiet longest is emitted as it is.
    pub http2_held_bytes: usize,
    /// Most bytes held while looking for a frame start after a gap or a late attach.
    pub http2_resync_bytes: usize,
    /// Largest HPACK dynamic table honoured.
    pub hpack_table_bytes: usize,
    /// Largest decoded HPACK field list (guards against decompression blow-up).
    pub hpack_list_bytes: usize,
    /// Bytes shown of a content coding that is repeated with each frame it applies to.
    pub shown_coding_bytes: usize,
    /// Largest zstd window, as a power of two.
    pub zstd_window_log: u32,
    /// Most content codings applied one over the other.
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
    /// Most bytes looked at before a stream is called raw.
    pub detect_bytes: usize,
    /// Requests remembered for the responses still to come.
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
