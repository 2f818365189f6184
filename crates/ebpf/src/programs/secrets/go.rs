//! Go's `crypto/tls`.

use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::secret::{LABEL_BYTES, RANDOM_BYTES};

use super::{bounded, followed, read, send, send_master};

/// `func (c *Config) writeKeyLog(label string, clientRandom, secret []byte) error`, which Go calls whether or not the
/// program wants a key log.
#[uprobe]
fn secret_go(context: ProbeContext) {
    let _nothing = go(&context);
}

/// `func keysFromMasterSecret(version uint16, suite *cipherSuite, masterSecret, clientRandom, serverRandom []byte,
/// macLen, keyLen, ivLen int)`: Go does not log the master secret of a session that is resumed.
#[uprobe]
fn secret_go_keys(context: ProbeContext) {
    if let Some(pid_tgid) = followed() {
        let [_, _, secret, secret_length, _, random, random_length, _] = go_arguments(&context);
        if random_length == RANDOM_BYTES as u64 {
            send_master(pid_tgid, random, (secret, secret_length));
        }
    }
}

#[inline(always)]
fn go(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let [
        _,
        label,
        label_length,
        random,
        random_length,
        _,
        secret,
        secret_length,
    ] = go_arguments(context);
    if random_length != RANDOM_BYTES as u64 {
        return None;
    }
    send(pid_tgid, |record| {
        // SAFETY: the record is ours until it is submitted; the helper checks the sources.
        unsafe {
            (*record).label_length = bounded(label_length as u32, LABEL_BYTES as u32);
            read((&raw mut (*record).label).cast(), (*record).label_length, label)?;
            read(
                (&raw mut (*record).client_random).cast(),
                RANDOM_BYTES as u32,
                random,
            )?;
        }
        Some((secret, secret_length as u32))
    });
    Some(())
}

/// Returns the first words of a Go function's parameters.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn go_arguments(context: &ProbeContext) -> [u64; 8] {
    let registers = context.regs;
    // SAFETY: the kernel passes valid registers.
    unsafe {
        [
            (*registers).rax,
            (*registers).rbx,
            (*registers).rcx,
            (*registers).rdi,
            (*registers).rsi,
            (*registers).r8,
            (*registers).r9,
            (*registers).r10,
        ]
    }
}

/// Returns the first words of a Go function's parameters.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn go_arguments(context: &ProbeContext) -> [u64; 8] {
    // SAFETY: the kernel passes valid registers.
    let registers = unsafe { &(*context.regs).regs };
    core::array::from_fn(|index| registers[index])
}
