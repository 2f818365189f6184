//! OpenSSL: one function for all derivations since 3.0, parameters and derivation by several calls in 1.1, a known
//! layout in 1.0.2.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::counter;
use ecapture_ebpf::secret::{RANDOM_BYTES, RandomPlace};

use super::{
    DERIVATIONS, DERIVED_LABEL_BYTES, Derivation, EXPANSION, begin, cookie, count, derived_label, finish,
    followed, is_expansion, random_at, send_master, user,
};

/// `OSSL_PARAM` of include/openssl/core.h, without what the programs do not need.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameter {
    key: u64,
    kind: u64,
    data: u64,
    length: u64,
}

/// Bytes of an `OSSL_PARAM`.
const PARAMETER_BYTES: u64 = 40;
/// Parameters that are read of a derivation; libssl passes at most 8.
const PARAMETERS: u64 = 12;

/// `int EVP_KDF_derive(EVP_KDF_CTX *ctx, unsigned char *key, size_t keylen, const OSSL_PARAM params[])`, by which
/// OpenSSL 3 derives all secrets.
#[uprobe]
fn secret_kdf(context: ProbeContext) {
    let _nothing = kdf(&context);
}

/// Its return.
#[uretprobe]
fn secret_kdf_return(context: RetProbeContext) {
    let returned: i32 = context.ret();
    finish(returned > 0);
}

/// `int EVP_PKEY_CTX_ctrl(EVP_PKEY_CTX *ctx, int keytype, int optype, int cmd, int p1, void *p2)`, which OpenSSL 1.1
/// passes the parameters of derivations to.
#[uprobe]
fn secret_control(context: ProbeContext) {
    let _nothing = control(&context);
}

/// `int EVP_PKEY_derive(EVP_PKEY_CTX *ctx, unsigned char *key, size_t *pkeylen)`, by which OpenSSL 1.1 derives.
#[uprobe]
fn secret_derive(context: ProbeContext) {
    let _nothing = derive(&context);
}

/// `int tls1_setup_key_block(SSL *s)` of OpenSSL 1.0.2, whose session has its master secret by then. Where that and the
/// client's random are is in the cookie.
#[uprobe]
fn secret_key_block(context: ProbeContext) {
    let _nothing = key_block(&context);
}

#[inline(always)]
fn key_block(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let session: u64 = context.arg(0)?;
    let cookie = cookie(context);
    let place = |number: u64| random_at(session, RandomPlace::decode(number as u32)?);
    let (Some(random), Some(secret)) = (place(cookie >> 32), place(cookie)) else {
        count(counter::SECRETS_WITHOUT_RANDOM, 1);
        return None;
    };
    // `master_key_length` precedes `master_key`.
    if user::<u32>(secret - 4)? == MASTER_BYTES {
        send_master(pid_tgid, random, (secret, u64::from(MASTER_BYTES)));
    }
    Some(())
}

#[inline(always)]
fn kdf(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let parameters: u64 = context.arg(3)?;
    let mut label = (0, 0);
    let mut secret = (0, 0);
    let mut first_seed = (0, 0);
    let mut third_seed = (0, 0);
    let mut seeds = 0u32;
    for index in 0..PARAMETERS {
        let parameter: Parameter = user(parameters + index * PARAMETER_BYTES)?;
        if parameter.key == 0 {
            break;
        }
        let name: u64 = user(parameter.key)?;
        let value = (parameter.data, parameter.length);
        if is_name(name, b"label\0") {
            label = value;
        } else if is_name(name, b"secret\0") {
            secret = value;
        } else if is_name(name, b"seed\0") {
            if seeds == 0 {
                first_seed = value;
            } else if seeds == 2 {
                third_seed = value;
            }
            seeds += 1;
        }
    }
    if label.1 != 0 {
        let (address, length) = label;
        let output = (context.arg(1)?, context.arg::<u64>(2)? as u32);
        return begin(pid_tgid, (address, length as u32), output, true);
    }
    let is_expansion = first_seed.1 == EXPANSION.len() as u64 && is_expansion(first_seed.0);
    if is_expansion && third_seed.1 == RANDOM_BYTES as u64 {
        send_master(pid_tgid, third_seed.0, secret);
    }
    Some(())
}

/// Whether eight bytes begin with a name and its NUL.
#[inline(always)]
fn is_name<const LENGTH: usize>(bytes: u64, name: &[u8; LENGTH]) -> bool {
    let mut word = [0; 8];
    word[..LENGTH].copy_from_slice(name);
    let mask = u64::MAX >> (64 - 8 * LENGTH);
    bytes & mask == u64::from_le_bytes(word)
}

/// `EVP_PKEY_CTRL_TLS_SECRET` of include/openssl/kdf.h.
const CONTROL_SECRET: u32 = 0x1001;
/// `EVP_PKEY_CTRL_TLS_SEED`
const CONTROL_SEED: u32 = 0x1002;
/// `EVP_PKEY_CTRL_HKDF_INFO`
const CONTROL_INFO: u32 = 0x1006;
/// [`Derivation::label_length`] after the master secret was passed; then after the label, and after the server's
/// random.
const AFTER_SECRET: u32 = 1000;
const AFTER_LABEL: u32 = 1001;
const AFTER_RANDOM: u32 = 1002;
/// Bytes of a master secret.
const MASTER_BYTES: u32 = 48;

#[inline(always)]
fn control(context: &ProbeContext) -> Option<()> {
    let command = context.arg::<u64>(3)? as u32;
    if command != CONTROL_INFO && command != CONTROL_SECRET && command != CONTROL_SEED {
        return None;
    }
    let pid_tgid = followed()?;
    let (length, value) = (context.arg::<u64>(4)? as u32, context.arg::<u64>(5)?);
    match command {
        CONTROL_INFO => return begin(pid_tgid, derived_label(value)?, (0, 0), true),
        CONTROL_SECRET if length == MASTER_BYTES && value != 0 => {
            let derivation = Derivation {
                output: value,
                length,
                label_length: AFTER_SECRET,
                label: [0; DERIVED_LABEL_BYTES],
                client_random: [0; RANDOM_BYTES],
            };
            if DERIVATIONS.insert(pid_tgid, &derivation, 0).is_err() {
                count(counter::SECRETS_LOST, 1);
            }
        }
        CONTROL_SEED => return seed(pid_tgid, value, length),
        _ => {}
    }
    Some(())
}

/// The label and the randoms are passed as one seed after the other.
#[inline(always)]
fn seed(pid_tgid: u64, value: u64, length: u32) -> Option<()> {
    let derivation = DERIVATIONS.get_ptr_mut(pid_tgid)?;
    // SAFETY: the map lookup succeeded, and only this thread changes the entry.
    let derivation = unsafe { &mut *derivation };
    let is_random = length == RANDOM_BYTES as u32;
    match derivation.label_length {
        AFTER_SECRET if length == EXPANSION.len() as u32 && is_expansion(value) => {
            derivation.label_length = AFTER_LABEL;
            return Some(());
        }
        AFTER_LABEL if is_random => {
            derivation.label_length = AFTER_RANDOM;
            return Some(());
        }
        AFTER_RANDOM if is_random => {
            send_master(pid_tgid, value, (derivation.output, u64::from(derivation.length)));
        }
        _ => {}
    }
    let _gone = DERIVATIONS.remove(pid_tgid);
    Some(())
}

#[inline(always)]
fn derive(context: &ProbeContext) -> Option<()> {
    let pid_tgid = bpf_get_current_pid_tgid();
    let derivation = DERIVATIONS.get_ptr_mut(pid_tgid)?;
    // SAFETY: as in `seed`.
    let derivation = unsafe { &mut *derivation };
    derivation.output = context.arg(1)?;
    derivation.length = user::<u64>(context.arg(2)?)? as u32;
    Some(())
}
