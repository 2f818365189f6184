//! GnuTLS.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE};

use super::call::{Arguments, enter, free, handshake};
use super::state::CallKind;

/// `ssize_t gnutls_record_recv(gnutls_session_t session, void *data, size_t data_size)`, and
/// `gnutls_record_recv_seq`, which has one more parameter.
#[uprobe]
fn gnutls_receive(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_READ,
        CallKind::ReturnsLong,
    );
}

/// `ssize_t gnutls_record_send(gnutls_session_t session, const void *data, size_t data_size)`
#[uprobe]
fn gnutls_send(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_WRITE,
        CallKind::ReturnsLong,
    );
}

/// `int gnutls_handshake(gnutls_session_t session)`
#[uprobe]
fn gnutls_handshake(context: ProbeContext) {
    handshake(&context);
}

/// `void gnutls_deinit(gnutls_session_t session)`
#[uprobe]
fn gnutls_deinit(context: ProbeContext) {
    free(&context);
}
