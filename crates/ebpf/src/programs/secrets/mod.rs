//! Secrets of TLS handshakes, as they are derived or logged.
//!
//! A derivation does not know its connection. But it happens inside a call of the library, whose session object
//! is known ([`thread`](super::thread)), and where that has the client's random user space reads from the code of
//! the library's own getter: the upper half of the cookie of the probes in that file.

mod boringssl;
mod gnutls;
mod go;
mod openssl;
mod rustls;

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{
    bpf_get_attach_cookie, bpf_get_current_comm, bpf_ktime_get_ns, bpf_probe_read_user,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::config::{HAS_COOKIE, SECRETS};
use ecapture_ebpf::counter;
use ecapture_ebpf::secret::{
    KIND_SECRET, LABEL_BYTES, RANDOM_BYTES, RandomPlace, SECRET_BYTES, SECRET_RECORD_BYTES, SecretRecord,
};

use super::counters::count;
use super::filter::{ended, stopped, wanted};
use super::maps::{EVENTS, config};
use super::memory::user;
use super::record::{bounded, wake_flag};
use super::state::{CallKey, Thread};

/// Derivations in progress, by `pid_tgid`. User space makes room for as many as there are threads.
#[map]
static DERIVATIONS: LruHashMap<u64, Derivation> = LruHashMap::with_max_entries(1, 0);

/// Room for the label of a derivation of TLS 1.3 that is logged.
const DERIVED_LABEL_BYTES: usize = 16;

/// A derivation whose result is a secret once it returns.
#[repr(C)]
#[derive(Clone, Copy)]
struct Derivation {
    output: u64,
    length: u32,
    label_length: u32,
    label: [u8; DERIVED_LABEL_BYTES],
    client_random: [u8; RANDOM_BYTES],
}

/// Notes where the library that a call belongs to keeps the client's random. Costs nothing if no secrets are wanted.
#[inline(always)]
pub(super) fn note_place(context: &ProbeContext, thread: &mut Thread) {
    if config!(features) & (SECRETS | HAS_COOKIE) == SECRETS | HAS_COOKIE {
        // SAFETY: the context is the program's own.
        let cookie = unsafe { bpf_get_attach_cookie(context.as_ptr() as *mut c_void) };
        thread.random_place = (cookie >> 32) as u32;
    }
}

/// What user space handed over with the probe; 0 where the kernel does not.
#[inline(always)]
fn cookie(context: &ProbeContext) -> u64 {
    match config!(features) & HAS_COOKIE {
        0 => 0,
        // SAFETY: the context is the program's own.
        _ => unsafe { bpf_get_attach_cookie(context.as_ptr() as *mut c_void) },
    }
}

/// The label in an `HkdfLabel` (RFC 8446 §7.1), behind the length of the output and its own length, and its length
/// without the prefix.
#[inline(always)]
fn derived_label(info: u64) -> Option<(u64, u32)> {
    let [_, _, length, prefix @ ..]: [u8; 9] = user(info)?;
    (prefix == *b"tls13 " && length > 6).then(|| (info + 9, u32::from(length) - 6))
}

/// Remembers a derivation with `label` in the current call until it returns, if its result is a secret that a key
/// log holds. `checks`: the session of another kind of object is recognized by its first word.
#[inline(always)]
fn begin(pid_tgid: u64, label: (u64, u32), output: (u64, u32), checks: bool) -> Option<()> {
    let (address, label_length) = label;
    let name: u64 = user(address)?;
    if !is_logged(name, label_length) {
        return None;
    }
    let (output, length) = output;
    let Some(random) = current_random(pid_tgid, checks) else {
        count(counter::SECRETS_WITHOUT_RANDOM, 1);
        return None;
    };
    let derivation = Derivation {
        output,
        length,
        label_length,
        label: user(address)?,
        client_random: user(random)?,
    };
    if DERIVATIONS.insert(pid_tgid, &derivation, 0).is_err() {
        count(counter::SECRETS_LOST, 1);
    }
    Some(())
}

/// Sends the result of the current thread's derivation.
#[inline(always)]
fn finish(succeeded: bool) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(derivation) = DERIVATIONS.get_ptr(pid_tgid) else {
        return;
    };
    // SAFETY: the map lookup succeeded.
    let is_secret = unsafe { (*derivation).label_length } <= DERIVED_LABEL_BYTES as u32;
    if succeeded && is_secret && !ended() {
        send(pid_tgid, |record| {
            // SAFETY: the map lookup succeeded, and only this thread changes the entry; the record is ours until it
            // is submitted.
            unsafe {
                (*record).client_random = (*derivation).client_random;
                (*record).label = [0; LABEL_BYTES];
                (&raw mut (*record).label)
                    .cast::<[u8; DERIVED_LABEL_BYTES]>()
                    .write((*derivation).label);
                (*record).label_length = (*derivation).label_length;
                Some(((*derivation).output, (*derivation).length))
            }
        });
    }
    let _gone = DERIVATIONS.remove(pid_tgid);
}

/// Sends the master secret of the connection whose client's random is at `random`.
#[inline(always)]
fn send_master(pid_tgid: u64, random: u64, secret: (u64, u64)) {
    send(pid_tgid, |record| {
        // SAFETY: the record is ours until it is submitted; the helper checks the source.
        unsafe {
            (*record).label = *b"CLIENT_RANDOM\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
            (*record).label_length = 13;
            read(
                (&raw mut (*record).client_random).cast(),
                RANDOM_BYTES as u32,
                random,
            )?;
        }
        Some((secret.0, secret.1 as u32))
    });
}

/// Sends a record whose label and random `fill` writes; it returns where the secret is, and its length.
#[inline(always)]
fn send(pid_tgid: u64, fill: impl FnOnce(*mut SecretRecord) -> Option<(u64, u32)>) {
    let Some(mut slot) = EVENTS.reserve::<SecretRecord>(0) else {
        count(counter::SECRETS_LOST, 1);
        return;
    };
    let record = slot.as_mut_ptr();
    if write(record, pid_tgid, fill).is_none() {
        slot.discard(0);
        count(counter::SECRETS_LOST, 1);
        return;
    }
    slot.submit(wake_flag(SECRET_RECORD_BYTES as u64));
    count(counter::SECRETS, 1);
}

#[inline(always)]
fn write(
    record: *mut SecretRecord,
    pid_tgid: u64,
    fill: impl FnOnce(*mut SecretRecord) -> Option<(u64, u32)>,
) -> Option<()> {
    let (secret, length) = fill(record)?;
    if length == 0 || length > SECRET_BYTES as u32 {
        return None;
    }
    // SAFETY: the record is ours until it is submitted; the helpers check addresses and write as many bytes as they
    // are given.
    unsafe {
        let length = bounded(length, SECRET_BYTES as u32);
        read((&raw mut (*record).secret).cast(), length, secret)?;
        (*record).kind = KIND_SECRET;
        (*record).secret_length = length;
        (*record).timestamp_ns = bpf_ktime_get_ns();
        (*record).pid = (pid_tgid >> 32) as u32;
        (*record).tid = pid_tgid as u32;
        (*record).uid = bpf_get_current_uid_gid() as u32;
        bpf_get_current_comm((&raw mut (*record).comm).cast(), 16);
    }
    Some(())
}

/// Copies `length` bytes of the current process.
///
/// # Safety
///
/// There must be room for them at `target`.
#[inline(always)]
unsafe fn read(target: *mut c_void, length: u32, source: u64) -> Option<()> {
    // SAFETY: the caller guarantees the room; the helper checks the source.
    (unsafe { bpf_probe_read_user(target, length, source as *const _) } == 0).then_some(())
}

/// Returns the current thread if its secrets are wanted.
#[inline(always)]
fn followed() -> Option<u64> {
    let pid_tgid = bpf_get_current_pid_tgid();
    (!stopped() && wanted((pid_tgid >> 32) as u32)).then_some(pid_tgid)
}

/// Returns the address of the client's random of the session that the current call is about.
#[inline(always)]
fn current_random(pid_tgid: u64, checks: bool) -> Option<u64> {
    let thread = Thread::known(pid_tgid)?;
    let place = RandomPlace::decode(thread.random_place)?;
    let stack_pointer = thread.innermost;
    if stack_pointer == 0 {
        return None;
    }
    let call = thread.call(CallKey {
        pid_tgid,
        stack_pointer,
    })?;
    let session = call.session;
    if checks && !is_connection(user(session)?) {
        return None;
    }
    random_at(session, place)
}

/// Up to OpenSSL 3.1 a session begins with its version, later with its type: 0 for a connection, and something else
/// for the objects of QUIC.
#[inline(always)]
fn is_connection(first_word: u32) -> bool {
    matches!(first_word, 0 | 0x0300..=0x0304 | 0xFEFD | 0xFEFF)
}

#[inline(always)]
fn random_at(session: u64, place: RandomPlace) -> Option<u64> {
    let base = match place.pointer {
        Some(pointer) => user::<u64>(session + u64::from(pointer))?,
        None => session,
    };
    Some(base + u64::from(place.offset))
}

/// The label of the derivation of keys up to TLS 1.2 (RFC 5246 §6.3). The randoms follow it, first the server's.
const EXPANSION: &[u8; 13] = b"key expansion";

#[inline(always)]
fn is_expansion(address: u64) -> bool {
    user::<[u8; 13]>(address).is_some_and(|label| label == *EXPANSION)
}

/// Recognizes the derivations of TLS 1.3 whose results a key log holds, by their first eight bytes and their length.
#[inline(always)]
fn is_logged(name: u64, length: u32) -> bool {
    let is = |label: &[u8; 8]| name == u64::from_le_bytes(*label);
    match length {
        10 => is(b"exp mast"),
        11 => is(b"c e traf"),
        12 => is(b"c hs tra") || is(b"s hs tra") || is(b"c ap tra") || is(b"s ap tra") || is(b"e exp ma"),
        _ => false,
    }
}

/// Returns the parameter `index` of a C function, from 6 on.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
fn argument(context: &ProbeContext, index: u64) -> Option<u64> {
    // SAFETY: the kernel passes valid registers.
    let stack_pointer = unsafe { (*context.regs).rsp };
    // Above the return address.
    user(stack_pointer + 8 + (index - 6) * 8)
}

/// Returns the parameter `index` of a C function, from 6 on.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
fn argument(context: &ProbeContext, index: u64) -> Option<u64> {
    // SAFETY: the kernel passes valid registers.
    let (registers, stack_pointer) = unsafe { (&(*context.regs).regs, (*context.regs).sp) };
    match index {
        6 => Some(registers[6]),
        7 => Some(registers[7]),
        // On the stack.
        index => user(stack_pointer + (index - 8) * 8),
    }
}
