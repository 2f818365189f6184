//! rustls with the C functions of rustls-ffi.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE};

use super::call::{Arguments, enter, free};
use super::state::CallKind;

/// `rustls_result rustls_connection_read(rustls_connection *conn, uint8_t *buf, size_t count, size_t *out_n)`
#[uprobe]
fn rustls_connection_read(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_READ,
        CallKind::StoresWithRustlsOk,
    );
}

/// `rustls_result rustls_connection_write(rustls_connection *conn, const uint8_t *buf, size_t count, size_t *out_n)`
#[uprobe]
fn rustls_connection_write(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_WRITE,
        CallKind::StoresWithRustlsOk,
    );
}

/// `rustls_connection_read_tls(rustls_connection *conn, rustls_read_callback, void *, size_t *)`, and
/// the two functions that write: their callbacks use the socket.
#[uprobe]
fn rustls_connection_tls(context: ProbeContext) {
    let arguments = Arguments {
        session: context.arg(0).unwrap_or(0),
        buffer: 0,
        length_pointer: 0,
    };
    enter(&context, arguments, DIRECTION_READ, CallKind::MovesNothing);
}

/// `void rustls_connection_free(rustls_connection *conn)`
#[uprobe]
fn rustls_connection_free(context: ProbeContext) {
    free(&context);
}
