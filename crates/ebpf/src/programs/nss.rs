//! NSS, whose TLS descriptors are read and written with NSPR's general functions.
//!
//! A descriptor (`PRFileDesc`) is a stack of layers, each with its table of methods. The layer
//! added by `SSL_ImportFD` shows which table is TLS; a call counts if its descriptor has that
//! layer.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::record::{DIRECTION_READ, DIRECTION_WRITE};

use super::call::{Arguments, enter, free};
use super::filter::{stopped, wanted};
use super::maps::METHODS;
use super::memory::user;
use super::state::{CallKind, SessionKey};

/// Maximum number of layers of a descriptor that are examined.
const LAYERS: usize = 4;
/// Offset of `PRFileDesc.lower`, after the methods and the layer's secret.
const LOWER: u64 = 16;
/// `PR_MSG_PEEK`: the bytes stay and are read again.
const PEEK: u64 = 2;

/// The return of `PRFileDesc *SSL_ImportFD(PRFileDesc *model, PRFileDesc *fd)`.
#[uretprobe]
fn nss_import(context: RetProbeContext) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if stopped() || !wanted(pid) {
        return;
    }
    let descriptor: u64 = context.ret();
    if let Some(session) = user(descriptor) {
        let _full = METHODS.insert(
            SessionKey {
                session,
                pid,
                padding: 0,
            },
            1,
            0,
        );
    }
}

/// `PRInt32 PR_Read(PRFileDesc *fd, void *buf, PRInt32 amount)`
#[uprobe]
fn nss_read(context: ProbeContext) {
    enter_tls(&context, DIRECTION_READ);
}

/// `PRInt32 PR_Recv(PRFileDesc *fd, void *buf, PRInt32 amount, PRIntn flags, …)`
#[uprobe]
fn nss_receive(context: ProbeContext) {
    if context.arg::<u64>(3).unwrap_or(0) & PEEK == 0 {
        enter_tls(&context, DIRECTION_READ);
    }
}

/// `PRInt32 PR_Write(PRFileDesc *fd, const void *buf, PRInt32 amount)`, and `PR_Send`, which has
/// two more parameters.
#[uprobe]
fn nss_write(context: ProbeContext) {
    enter_tls(&context, DIRECTION_WRITE);
}

/// `PRStatus PR_Close(PRFileDesc *fd)`
#[uprobe]
fn nss_close(context: ProbeContext) {
    free(&context);
}

#[inline(always)]
fn enter_tls(context: &ProbeContext, direction: u8) {
    let arguments = Arguments::of(context, 3);
    if is_tls(arguments.session) {
        enter(context, arguments, direction, CallKind::ReturnsInt);
    }
}

#[inline(always)]
fn is_tls(mut descriptor: u64) -> bool {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    for _ in 0..LAYERS {
        let Some(session) = user(descriptor) else {
            return false;
        };
        if METHODS
            .get_ptr(SessionKey {
                session,
                pid,
                padding: 0,
            })
            .is_some()
        {
            return true;
        }
        match user(descriptor + LOWER) {
            Some(lower) if lower != 0 => descriptor = lower,
            _ => return false,
        }
    }
    false
}
