//! The functions of TLS libraries. The handshake comes behind all that moves plaintext: whoever is
//! seen at it is seen from its first byte.

use super::rustls;
use crate::kind::Kind;
use crate::plan::{Brings, Family, Hook, Locate};

/// The only list of implementations of TLS and their functions.
pub(super) const FAMILIES: &[Family] = &[
    exported(Kind::OpenSsl, OPENSSL, &["SSL_peek", "SSL_peek_ex"]),
    exported(Kind::GnuTls, GNUTLS, &[]),
    Family {
        kind: Kind::Go,
        operations: GO,
        // Where Go's own code begins.
        also_read: &["runtime.text"],
        locate: Locate::Go,
    },
    exported(Kind::Rustls, RUSTLS_FFI, &[]),
    exported(Kind::Nspr, NSPR, &[]),
    exported(Kind::Nss, NSS, &[]),
    Family {
        kind: Kind::Rustls,
        operations: rustls::OPERATIONS,
        also_read: &[],
        locate: Locate::Proof(rustls::points),
    },
];

/// Of these, the functions in which a handshake may take place and which know its session only.
pub(in crate::modules) const HANDSHAKES: &[Family] = &[
    exported(Kind::OpenSsl, OPENSSL, &["SSL_peek", "SSL_peek_ex"]),
    exported(Kind::GnuTls, GNUTLS, &[]),
];

/// OpenSSL, BoringSSL and their relatives.
const OPENSSL: &[&[Hook]] = &[
    &[data("SSL_read", "ssl_read"), data("SSL_read_ex", "ssl_read_ex")],
    &[
        data("SSL_write", "ssl_write"),
        data("SSL_write_ex", "ssl_write_ex"),
        data("SSL_write_ex2", "ssl_write_ex2"),
    ],
    // They have the parameters of the `_ex` forms, and are made of them.
    &[data("SSL_read_early_data", "ssl_read_ex")],
    &[data("SSL_write_early_data", "ssl_write_ex")],
    // Its bytes go from a file to the socket inside the kernel.
    &[Hook {
        brings: Brings::Length,
        ..data("SSL_sendfile", "ssl_sendfile")
    }],
    &[handshake("SSL_do_handshake", "ssl_do_handshake")],
    &[end("SSL_free", "ssl_free")],
];

const GNUTLS: &[&[Hook]] = &[
    &[data("gnutls_record_recv", "gnutls_receive")],
    &[data("gnutls_record_recv_seq", "gnutls_receive")],
    &[data("gnutls_record_send", "gnutls_send")],
    &[handshake("gnutls_handshake", "gnutls_handshake")],
    &[end("gnutls_deinit", "gnutls_deinit")],
];

const GO: &[&[Hook]] = &[
    &[go_data("crypto/tls.(*Conn).Read", "go_read")],
    &[go_data("crypto/tls.(*Conn).Write", "go_write")],
    &[end("crypto/tls.(*Conn).clientHandshake", "go_handshake")],
    &[end("crypto/tls.(*Conn).serverHandshake", "go_handshake")],
    &[end("crypto/tls.(*Conn).Close", "go_close")],
];

const RUSTLS_FFI: &[&[Hook]] = &[
    &[data("rustls_connection_read", "rustls_connection_read")],
    &[data("rustls_connection_write", "rustls_connection_write")],
    &[handshake("rustls_connection_read_tls", "rustls_connection_tls")],
    &[handshake("rustls_connection_write_tls", "rustls_connection_tls")],
    &[handshake(
        "rustls_connection_write_tls_vectored",
        "rustls_connection_tls",
    )],
    &[end("rustls_connection_free", "rustls_connection_free")],
];

/// Functions of NSPR. Only their calls for NSS's descriptors count.
const NSPR: &[&[Hook]] = &[
    &[data("PR_Read", "nss_read")],
    &[data("PR_Recv", "nss_receive")],
    &[data("PR_Write", "nss_write")],
    &[data("PR_Send", "nss_write")],
    &[end("PR_Close", "nss_close")],
];

/// How NSS's descriptors become known, in a library of its own: a return probe alone.
const NSS: &[&[Hook]] = &[
    &[import("SSL_ImportFD", "nss_import")],
    &[import("DTLS_ImportFD", "nss_import")],
];

const fn exported(
    kind: Kind,
    operations: &'static [&'static [Hook]],
    also_read: &'static [&'static str],
) -> Family {
    Family {
        kind,
        operations,
        also_read,
        locate: Locate::Exported,
    }
}

/// A function that moves plaintext.
const fn data(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        symbol,
        entry,
        returns: Some("call_return"),
        brings: Brings::Content,
        identifies: true,
        variables: &[],
    }
}

const fn go_data(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        returns: Some("go_return"),
        ..data(symbol, entry)
    }
}

/// A function whose calls use the socket, and return when they have.
const fn handshake(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        brings: Brings::Nothing,
        ..data(symbol, entry)
    }
}

/// A function whose beginning says it all.
const fn end(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        symbol,
        entry,
        returns: None,
        brings: Brings::Nothing,
        identifies: false,
        variables: &[],
    }
}

const fn import(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        identifies: true,
        ..end(symbol, entry)
    }
}
