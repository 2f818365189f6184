//! OpenSSL, BoringSSL and their relatives.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE};

use super::call::{Arguments, enter, free, handshake};
use super::state::CallKind;

/// `int SSL_read(SSL *ssl, void *buf, int num)`
#[uprobe]
fn ssl_read(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_READ,
        CallKind::ReturnsInt,
    );
}

/// `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)`
#[uprobe]
fn ssl_read_ex(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_READ,
        CallKind::Stores,
    );
}

/// `int SSL_write(SSL *ssl, const void *buf, int num)`
#[uprobe]
fn ssl_write(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_WRITE,
        CallKind::ReturnsInt,
    );
}

/// `int SSL_write_ex(SSL *s, const void *buf, size_t num, size_t *written)`
#[uprobe]
fn ssl_write_ex(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_WRITE,
        CallKind::Stores,
    );
}

/// `int SSL_write_ex2(SSL *s, const void *buf, size_t num, uint64_t flags, size_t *written)`
#[uprobe]
fn ssl_write_ex2(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 4),
        DIRECTION_WRITE,
        CallKind::Stores,
    );
}

/// `ossl_ssize_t SSL_sendfile(SSL *s, int fd, off_t offset, size_t size, int flags)`
#[uprobe]
fn ssl_sendfile(context: ProbeContext) {
    let arguments = Arguments {
        session: context.arg(0).unwrap_or(0),
        buffer: 0,
        length_pointer: 0,
    };
    enter(&context, arguments, DIRECTION_WRITE, CallKind::SendsFile);
}

/// `int SSL_do_handshake(SSL *ssl)`, which `SSL_accept` and `SSL_connect` call. It moves no
/// plaintext, but it shows the socket: a server may have read the first request together with the
/// handshake's last record, so that the call which returns the request uses no socket.
#[uprobe]
fn ssl_do_handshake(context: ProbeContext) {
    handshake(&context);
}

/// `void SSL_free(SSL *ssl)`
#[uprobe]
fn ssl_free(context: ProbeContext) {
    free(&context);
}
