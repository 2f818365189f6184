//! The secrets of TLS handshakes, from which Wireshark decrypts.
//!
//! | library | function | client's random |
//! |---|---|---|
//! | OpenSSL 3 and later | `EVP_KDF_derive` of libcrypto | TLS 1.3: in the session object of the call, where `SSL_get_client_random` reads it; before: a parameter |
//! | OpenSSL 1.1 | `EVP_PKEY_CTX_ctrl` and `EVP_PKEY_derive` of libcrypto | the same |
//! | OpenSSL 1.0.2 | `tls1_setup_key_block` of libssl | where this version has it |
//! | BoringSSL, AWS-LC | `HKDF_expand`, `CRYPTO_tls1_prf` of libcrypto | the same |
//! | the same in stripped programs | `ssl_log_secret`, which is called with the labels of key logs | in its own code |
//! | rustls | the calls of `will_log` and `log` of its `KeyLog` | the code behind them shows it |
//! | GnuTLS | `nettle_hkdf_expand`, `_gnutls_prf_raw` | the same, with `gnutls_session_get_random` |
//! | Go | `writeKeyLog`, `keysFromMasterSecret` | a parameter |

mod decode;
mod functions;
mod place;

use ecapture_ebpf::config::{ONLY_SECRETS, SECRETS as WANTED};
use ecapture_ebpf::limits;
use ecapture_ebpf::secret::KIND_SECRET;

use super::{Decode, Module, tls};

pub(super) static SECRETS: Module = Module {
    name: "secrets",
    families: functions::FAMILIES,
    also_read: place::GETTERS,
    place: Some(place::random),
    named: None,
    without_tls: Some(&CALLS),
    tracepoints: &[],
    tables: &[],
    maps: &[("DERIVATIONS", limits::THREADS)],
    libraries: &["libcrypto", "libnettle"],
    programs: &[],
    needs_sockets: false,
    feature: WANTED,
    needs_loop: false,
    records: &[KIND_SECRET],
    decode: Decode::Each(decode::event),
};

/// The calls of libraries in which secrets are derived, without the plaintext that they move: for a capture of
/// secrets alone.
static CALLS: Module = Module {
    name: "calls",
    families: tls::HANDSHAKES,
    needs_sockets: false,
    feature: ONLY_SECRETS,
    needs_loop: false,
    ..tls::MODULE
};
