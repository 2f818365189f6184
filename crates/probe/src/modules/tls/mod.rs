//! The plaintext of TLS libraries, and of programs with TLS of their own.

mod decode;
mod functions;
pub(crate) mod rustls;

use ecapture_ebpf::record::KIND_DATA;
use ecapture_ebpf::{limits, table};

use super::{Decode, Module, Table, Tracepoint};

pub(super) use functions::HANDSHAKES;

/// A constant, too, so that others can be made of it.
pub(super) const MODULE: Module = Module {
    name: "tls",
    families: functions::FAMILIES,
    also_read: &[],
    place: None,
    named: None,
    without_tls: None,
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
    maps: &[],
    libraries: &["libssl", "libgnutls", "libnspr4"],
    programs: &[],
    needs_sockets: true,
    feature: 0,
    needs_loop: false,
    records: &[KIND_DATA],
    decode: Decode::Each(decode::event),
};

pub(super) static TLS: Module = MODULE;
