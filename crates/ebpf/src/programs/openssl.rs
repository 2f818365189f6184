//! OpenSSL, BoringSSL and their relatives.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE, KIND_CLOSE_SESSION};

use super::call::{Arguments, Length, enter, leave};
use super::delivery::close;
use super::maps::{SESSIONS, SessionKey, stopped, wanted};

/// `int SSL_read(SSL *ssl, void *buf, int num)`
#[uprobe]
fn ssl_read(context: ProbeContext) {
    enter(&context, arguments(&context), DIRECTION_READ, Length::ReturnedInt);
}

/// `int SSL_read_ex(SSL *ssl, void *buf, size_t num, size_t *readbytes)`
#[uprobe]
fn ssl_read_ex(context: ProbeContext) {
    enter(&context, arguments(&context), DIRECTION_READ, Length::Stored);
}

/// `int SSL_write(SSL *ssl, const void *buf, int num)`
#[uprobe]
fn ssl_write(context: ProbeContext) {
    enter(
        &context,
        arguments(&context),
        DIRECTION_WRITE,
        Length::ReturnedInt,
    );
}

/// `int SSL_write_ex(SSL *s, const void *buf, size_t num, size_t *written)`
#[uprobe]
fn ssl_write_ex(context: ProbeContext) {
    enter(&context, arguments(&context), DIRECTION_WRITE, Length::Stored);
}

/// `int SSL_write_ex2(SSL *s, const void *buf, size_t num, uint64_t flags, size_t *written)`
#[uprobe]
fn ssl_write_ex2(context: ProbeContext) {
    let arguments = Arguments {
        length_pointer: context.arg(4).unwrap_or(0),
        ..arguments(&context)
    };
    enter(&context, arguments, DIRECTION_WRITE, Length::Stored);
}

/// The return of any of the functions above.
#[uretprobe]
fn ssl_return(context: RetProbeContext) {
    leave(&context);
}

/// `void SSL_free(SSL *ssl)`
#[uprobe]
fn ssl_free(context: ProbeContext) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if stopped() || !wanted(pid) {
        return;
    }
    let session: u64 = context.arg(0).unwrap_or(0);
    let key = SessionKey {
        session,
        pid,
        padding: 0,
    };
    if SESSIONS.remove(key).is_ok() {
        close(KIND_CLOSE_SESSION, pid, session);
    }
}

/// The arguments that all functions have in the same place. The last one means nothing
/// where the function has only three.
#[inline(always)]
fn arguments(context: &ProbeContext) -> Arguments {
    Arguments {
        session: context.arg(0).unwrap_or(0),
        buffer: context.arg(1).unwrap_or(0),
        length_pointer: context.arg(3).unwrap_or(0),
    }
}
