//! rustls, in a program from Rust sources.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::counter;
use ecapture_ebpf::secret::{HeldPlace, HeldRegister, LABEL_BYTES, OKM_LENGTH_AT, RANDOM_BYTES};

use super::{cookie, count, followed, read, send, send_master, user};

/// The call of `fn will_log(&self, label: &str) -> bool` of its `dyn KeyLog`, once a secret of TLS 1.3 is derived.
/// What the registers lead to is in the cookie.
#[uprobe]
fn secret_rustls(context: ProbeContext) {
    let _nothing = derived(&context);
}

/// The call of `fn log(&self, label: &str, client_random: &[u8], secret: &[u8])` with a master secret.
#[uprobe]
fn secret_rustls_master(context: ProbeContext) {
    let _nothing = master(&context);
}

#[inline(always)]
fn derived(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let (label, label_length): (u64, u64) = (context.arg(1)?, context.arg(2)?);
    let cookie = cookie(context);
    let place = |number: u64| address(context, HeldPlace::decode(number as u32)?);
    let (Some(random), Some(secret)) = (place(cookie), place(cookie >> 32)) else {
        count(counter::SECRETS_WITHOUT_RANDOM, 1);
        return None;
    };
    let length: u64 = user(secret + u64::from(OKM_LENGTH_AT))?;
    send(pid_tgid, |record| {
        // SAFETY: as in `boringssl`.
        unsafe {
            if label_length > LABEL_BYTES as u64 {
                return None;
            }
            (*record).label_length = label_length as u32;
            read((&raw mut (*record).label).cast(), LABEL_BYTES as u32, label)?;
            read(
                (&raw mut (*record).client_random).cast(),
                RANDOM_BYTES as u32,
                random,
            )?;
        }
        Some((secret, length as u32))
    });
    Some(())
}

#[inline(always)]
fn master(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let (random, random_length): (u64, u64) = (context.arg(3)?, context.arg(4)?);
    if random_length == RANDOM_BYTES as u64 {
        // The seventh parameter is on the stack, where the call has not yet put its return address.
        let length = address(context, LENGTH)?;
        send_master(pid_tgid, random, (context.arg(5)?, length));
    }
    Some(())
}

/// The word that the stack pointer points to.
const LENGTH: HeldPlace = HeldPlace {
    register: HeldRegister::StackPointer,
    offset: 0,
    is_pointer: true,
};

/// The address that a place has or stands for.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn address(context: &ProbeContext, place: HeldPlace) -> Option<u64> {
    // SAFETY: the kernel passes valid registers.
    let registers = unsafe { &*context.regs };
    let base = match place.register {
        HeldRegister::Rbx => registers.rbx,
        HeldRegister::Rbp => registers.rbp,
        HeldRegister::StackPointer => registers.rsp,
        HeldRegister::R12 => registers.r12,
        HeldRegister::R13 => registers.r13,
        HeldRegister::R14 => registers.r14,
        HeldRegister::R15 => registers.r15,
    };
    let address = base.wrapping_add(i64::from(place.offset) as u64);
    if place.is_pointer {
        user(address)
    } else {
        Some(address)
    }
}

/// Not attached on this architecture.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn address(_context: &ProbeContext, _place: HeldPlace) -> Option<u64> {
    None
}
