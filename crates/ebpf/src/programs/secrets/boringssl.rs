//! BoringSSL and its relatives, such as AWS-LC.

use aya_ebpf::helpers::generated::bpf_probe_read_user_str;
use aya_ebpf::macros::uprobe;
use aya_ebpf::programs::ProbeContext;
use ecapture_ebpf::counter;
use ecapture_ebpf::secret::{LABEL_BYTES, RANDOM_BYTES, RandomPlace};

use super::{
    EXPANSION, argument, begin, cookie, count, derived_label, followed, is_expansion, random_at, read, send,
    send_master,
};

/// `int HKDF_expand(uint8_t *out_key, size_t out_len, const EVP_MD *digest, const uint8_t *prk, size_t prk_len,
/// const uint8_t *info, size_t info_len)` of BoringSSL and its relatives.
#[uprobe]
fn secret_expand(context: ProbeContext) {
    let _nothing = expand(&context);
}

/// `int CRYPTO_tls1_prf(const EVP_MD *digest, uint8_t *out, size_t out_len, const uint8_t *secret,
/// size_t secret_len, const uint8_t *label, size_t label_len, const uint8_t *seed1, size_t seed1_len,
/// const uint8_t *seed2, size_t seed2_len)` of BoringSSL and its relatives.
#[uprobe]
fn secret_tls1_prf(context: ProbeContext) {
    let _nothing = tls1_prf(&context);
}

/// `bool ssl_log_secret(const SSL *ssl, const char *label, Span<const uint8_t> secret)`, which BoringSSL and its
/// relatives call whether or not the program wants a key log.
#[uprobe]
fn secret_log(context: ProbeContext) {
    let _nothing = log(&context);
}

#[inline(always)]
fn expand(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let label = derived_label(context.arg(5)?)?;
    let output = (context.arg(0)?, context.arg::<u64>(1)? as u32);
    begin(pid_tgid, label, output, false)
}

#[inline(always)]
fn tls1_prf(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let (secret, secret_length): (u64, u64) = (context.arg(3)?, context.arg(4)?);
    let (label, label_length): (u64, u64) = (context.arg(5)?, argument(context, 6)?);
    if label_length == EXPANSION.len() as u64
        && is_expansion(label)
        && argument(context, 10)? == RANDOM_BYTES as u64
    {
        send_master(pid_tgid, argument(context, 9)?, (secret, secret_length));
    }
    Some(())
}

#[inline(always)]
fn log(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let (session, label, secret, secret_length): (u64, u64, u64, u64) =
        (context.arg(0)?, context.arg(1)?, context.arg(2)?, context.arg(3)?);
    let place = RandomPlace::decode((cookie(context) >> 32) as u32);
    let Some(random) = place.and_then(|place| random_at(session, place)) else {
        count(counter::SECRETS_WITHOUT_RANDOM, 1);
        return None;
    };
    send(pid_tgid, |record| {
        // SAFETY: as in `go`.
        unsafe {
            let room = LABEL_BYTES as u32;
            let copied = bpf_probe_read_user_str((&raw mut (*record).label).cast(), room, label as *const _);
            (*record).label_length = if copied > 0 {
                copied as u32 - 1
            } else {
                return None;
            };
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
