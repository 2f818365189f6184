//! OpenSSL, BoringSSL and their relatives.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE};

use super::call::{Arguments, Length, enter, expect_memory_bio, free};

/// `int SSL_read(SSL *ssl, void *buf, int num)`
#[uprobe]
fn ssl_read(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_READ,
        Length::ReturnedInt,
    );
}

/// `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)`
#[uprobe]
fn ssl_read_ex(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_READ,
        Length::Stored,
    );
}

/// `int SSL_write(SSL *ssl, const void *buf, int num)`
#[uprobe]
fn ssl_write(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_WRITE,
        Length::ReturnedInt,
    );
}

/// `int SSL_write_ex(SSL *s, const void *buf, size_t num, size_t *written)`
#[uprobe]
fn ssl_write_ex(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 3),
        DIRECTION_WRITE,
        Length::Stored,
    );
}

/// `int SSL_write_ex2(SSL *s, const void *buf, size_t num, uint64_t flags, size_t *written)`
#[uprobe]
fn ssl_write_ex2(context: ProbeContext) {
    enter(
        &context,
        Arguments::of(&context, 4),
        DIRECTION_WRITE,
        Length::Stored,
    );
}

/// `void SSL_set_bio(SSL *ssl, BIO *rbio, BIO *wbio)`
#[uprobe]
fn ssl_set_bio(_context: ProbeContext) {
    expect_memory_bio();
}

/// `void SSL_free(SSL *ssl)`
#[uprobe]
fn ssl_free(context: ProbeContext) {
    free(&context);
}
