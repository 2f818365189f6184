//! The plaintext of TLS libraries, and of programs with TLS of their own.

mod decode;
mod functions;
pub(crate) mod rustls;

use ecapture_ebpf::record::KIND_DATA;
use ecapture_ebpf::{limits, table};

use super::{Module, Table, Tracepoint};

pub(super) static TLS: Module = Module {
    name: "tls",
    families: functions::FAMILIES,
    tracepoints: &[
        Tracepoint {
            name: "inet_sock_set_state",
            lost: "who opened a connection, and which ones were open before the capture",
        },
        Tracepoint {
            name: "tcp_destroy_sock",
            lost: "when connections end",
        },
    ],
    tables: &[
        Table {
            name: "CALLS",
            number: table::CALLS,
            entries: limits::CALLS,
        },
        Table {
            name: "THREADS",
            number: table::THREADS,
            entries: limits::THREADS,
        },
        Table {
            name: "SESSIONS",
            number: table::SESSIONS,
            entries: limits::SESSIONS,
        },
        Table {
            name: "SOCKETS",
            number: table::SOCKETS,
            entries: limits::SOCKETS,
        },
    ],
    libraries: &["libssl", "libgnutls", "libnspr4"],
    records: &[KIND_DATA],
    decode: decode::event,
};
