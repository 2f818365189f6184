//! GnuTLS, and Nettle, in which it derives.

use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::secret::RANDOM_BYTES;

use super::{EXPANSION, argument, begin, derived_label, finish, followed, is_expansion, send_master};

/// `void nettle_hkdf_expand(void *mac_ctx, nettle_hash_update_func *update, nettle_hash_digest_func *digest,
/// size_t digest_size, size_t info_size, const uint8_t *info, size_t length, uint8_t *dst)`, by which GnuTLS derives
/// the secrets of TLS 1.3.
#[uprobe]
fn secret_hkdf(context: ProbeContext) {
    let _nothing = hkdf(&context);
}

/// Its return.
#[uretprobe]
fn secret_hkdf_return(_context: RetProbeContext) {
    finish(true);
}

/// `int _gnutls_prf_raw(gnutls_mac_algorithm_t mac, size_t master_size, const void *master, size_t label_size,
/// const char *label, size_t seed_size, const uint8_t *seed, size_t outsize, char *out)`, by which GnuTLS derives
/// keys up to TLS 1.2.
#[uprobe]
fn secret_prf(context: ProbeContext) {
    let _nothing = prf(&context);
}

#[inline(always)]
fn hkdf(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let label = derived_label(context.arg(5)?)?;
    let output = (argument(context, 7)?, argument(context, 6)? as u32);
    begin(pid_tgid, label, output, false)
}

#[inline(always)]
fn prf(context: &ProbeContext) -> Option<()> {
    let pid_tgid = followed()?;
    let (master_size, master, label_size, label): (u64, u64, u64, u64) =
        (context.arg(1)?, context.arg(2)?, context.arg(3)?, context.arg(4)?);
    let seed_size: u64 = context.arg(5)?;
    if label_size == EXPANSION.len() as u64 && seed_size == 2 * RANDOM_BYTES as u64 && is_expansion(label) {
        let seed = argument(context, 6)?;
        send_master(pid_tgid, seed + RANDOM_BYTES as u64, (master, master_size));
    }
    Some(())
}
