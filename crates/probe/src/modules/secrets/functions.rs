//! The functions that derive or log secrets.

use ecapture_ebpf::secret::RandomPlace;

use crate::file::elf::{Function, Image};
use crate::kind::Kind;
use crate::plan::rules::{self, LogFunction, RustlsSecrets};
use crate::plan::{self, Brings, Family, Hook, Locate, Point, Reason, Refusal};

pub(super) const FAMILIES: &[Family] = &[
    exported(
        Kind::LibCrypto,
        &[&[Hook {
            returns: Some("secret_kdf_return"),
            ..logged("EVP_KDF_derive", "secret_kdf")
        }]],
    ),
    exported(
        Kind::LibCrypto,
        &[
            &[Hook {
                returns: Some("secret_kdf_return"),
                ..logged("HKDF_expand", "secret_expand")
            }],
            &[logged("CRYPTO_tls1_prf", "secret_tls1_prf")],
        ],
    ),
    Family {
        kind: Kind::LibCrypto,
        operations: &[&[CONTROL], &[DERIVE]],
        also_read: &OPENSSL_1_1,
        locate: Locate::Proof(openssl_1_1),
    },
    Family {
        kind: Kind::OpenSsl,
        operations: &[&[KEY_BLOCK]],
        also_read: &[KEY_BLOCK.symbol],
        locate: Locate::Proof(openssl_1_0),
    },
    Family {
        kind: Kind::LibCrypto,
        operations: &[&[LOG]],
        also_read: &[],
        locate: Locate::Proof(boringssl),
    },
    Family {
        kind: Kind::Rustls,
        operations: &[&[RUSTLS], &[RUSTLS_MASTER]],
        also_read: &[],
        locate: Locate::Proof(rustls),
    },
    exported(
        Kind::Nettle,
        &[&[Hook {
            returns: Some("secret_hkdf_return"),
            ..logged("nettle_hkdf_expand", "secret_hkdf")
        }]],
    ),
    exported(Kind::GnuTls, &[&[logged("_gnutls_prf_raw", "secret_prf")]]),
    Family {
        kind: Kind::Go,
        operations: &[
            &[logged("crypto/tls.(*Config).writeKeyLog", "secret_go")],
            &[logged("crypto/tls.keysFromMasterSecret", "secret_go_keys")],
        ],
        // Where Go's own code begins.
        also_read: &["runtime.text"],
        locate: Locate::Go,
    },
];

const CONTROL: Hook = Hook {
    brings: Brings::Nothing,
    ..logged("EVP_PKEY_CTX_ctrl", "secret_control")
};
const DERIVE: Hook = Hook {
    returns: Some("secret_kdf_return"),
    ..logged("EVP_PKEY_derive", "secret_derive")
};

/// What is looked up for [`openssl_1_1`]: OpenSSL 1.0 lacks the last one.
const OPENSSL_1_1: [&str; 3] = [CONTROL.symbol, DERIVE.symbol, "OPENSSL_init_crypto"];

/// OpenSSL 1.1 derives by functions that later versions have, too, but do not use for TLS.
fn openssl_1_1(image: &Image) -> Result<Vec<Point>, Refusal> {
    let has = |name: &str| image.function(name).is_some();
    if !OPENSSL_1_1.into_iter().all(has) || has("EVP_KDF_derive") || has("HKDF_expand") {
        return Err(Refusal::Missing);
    }
    [CONTROL, DERIVE]
        .into_iter()
        .map(|hook| plan::entry_point(image, hook, &Reason::Exported))
        .collect()
}

const KEY_BLOCK: Hook = logged("tls1_setup_key_block", "secret_key_block");
/// What every libssl of OpenSSL 1.0.2 has in it, before the letter of its release.
const VERSION_1_0: &[u8] = b"TLSv1 part of OpenSSL 1.0.2";
/// Where the structures of OpenSSL 1.0.2 have the client's random (`s3->client_random`) and the master secret
/// (`session->master_key`), in releases a to u, the last public one.
const RANDOM_1_0: RandomPlace = RandomPlace {
    pointer: Some(0x80),
    offset: 0xc4,
};
const MASTER_1_0: RandomPlace = RandomPlace {
    pointer: Some(0x130),
    offset: 0x14,
};

/// OpenSSL 1.0.2 has no function that returns the client's random: its version says where it is.
fn openssl_1_0(image: &Image) -> Result<Vec<Point>, Refusal> {
    if image.function(KEY_BLOCK.symbol).is_none() || !image.has_text(VERSION_1_0) {
        return Err(Refusal::Missing);
    }
    let cookie = u64::from(RANDOM_1_0.encode()) << 32 | u64::from(MASTER_1_0.encode());
    Ok(vec![Point {
        cookie: Some(cookie),
        ..plan::entry_point(image, KEY_BLOCK, &Reason::Exported)?
    }])
}

/// Without symbols.
const LOG: Hook = logged("ssl_log_secret", "secret_log");

/// A file with these has no need of it.
const NAMED: [&str; 4] = ["EVP_KDF_derive", "HKDF_expand", "CRYPTO_tls1_prf", "SSL_read"];

/// BoringSSL and its relatives in a program without symbols.
fn boringssl(image: &Image) -> Result<Vec<Point>, Refusal> {
    let is_known = |name: &str| image.function(name).is_some();
    if NAMED.into_iter().any(is_known) {
        return Err(Refusal::Missing);
    }
    let found = rules::log_function(image);
    note_refusal(image, "BoringSSL", &found);
    let LogFunction { address, random } = found?;
    let place = RandomPlace {
        pointer: random.pointer,
        offset: random.offset,
    };
    // Its size is not known, and its return does not matter.
    let function = Function { address, size: 0 };
    let point = plan::inside_point(image, Kind::LibCrypto, LOG, function)?;
    Ok(vec![Point {
        cookie: Some(u64::from(place.encode()) << 32),
        ..point
    }])
}

const RUSTLS: Hook = logged("rustls::KeyLog::will_log", "secret_rustls");
const RUSTLS_MASTER: Hook = logged("rustls::KeyLog::log", "secret_rustls_master");

/// The calls of rustls, which has no functions that can be relied on.
fn rustls(image: &Image) -> Result<Vec<Point>, Refusal> {
    let found = rules::rustls_secrets(image);
    note_refusal(image, "rustls", &found);
    let RustlsSecrets { derived, masters } = found?;
    let point = |hook, address| plan::inside_point(image, Kind::Rustls, hook, Function { address, size: 0 });
    let derived = derived.into_iter().map(|call| {
        let cookie = u64::from(call.secret.encode()) << 32 | u64::from(call.random.encode());
        Ok(Point {
            cookie: Some(cookie),
            ..point(RUSTLS, call.address)?
        })
    });
    let masters = masters.into_iter().map(|address| point(RUSTLS_MASTER, address));
    derived.chain(masters).collect()
}

/// Says why a file that has the labels of key logs has no secrets for one.
fn note_refusal<T>(image: &Image, name: &str, found: &Result<T, Refusal>) {
    if let Err(refusal) = found
        && *refusal != Refusal::Missing
    {
        tracing::debug!(
            file = %image.path().display(),
            "no secrets of {name} are captured here: {refusal}"
        );
    }
}

const fn exported(kind: Kind, operations: &'static [&'static [Hook]]) -> Family {
    Family {
        kind,
        operations,
        also_read: &[],
        locate: Locate::Exported,
    }
}

/// A function that has the secret when it begins.
const fn logged(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        symbol,
        entry,
        returns: None,
        variables: &[],
        brings: Brings::Secrets,
        identifies: true,
    }
}
