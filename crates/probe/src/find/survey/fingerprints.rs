//! Recognizes by the bytes of a program or library which TLS implementation was linked into it, and its
//! version.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};

use memchr::memmem;

use crate::file::elf::Layout;
use crate::file::library::Library;

/// Maximum length of the part of a file that is searched, in bytes.
const SCAN_LIMIT: u64 = 64 * 1024 * 1024;
/// Length of the part that is in memory at a time, in bytes.
const WINDOW: usize = 1024 * 1024;
/// Overlap of two windows, in bytes: more than any fingerprint with its version.
const OVERLAP: usize = 256;
/// Longest version that is taken, in bytes.
const VERSION_LIMIT: usize = 24;

/// Fingerprints of libssl: `SSL_state_string_long` of every OpenSSL and LibreSSL, where it is used; the name
/// of a source file since 1.1.0, which errors are raised with; text of such an error since 3.0.
const OPENSSL: [&[u8]; 3] = [
    b"SSL negotiation finished successfully",
    b"ssl/statem/statem",
    b"No ciphers enabled for max supported SSL/TLS version",
];
/// `ssl_client_handshake_state` of BoringSSL and AWS-LC; the version of the latter is in its
/// libcrypto.
const BORINGSSL_STATE: &[u8] = b"TLS client start_connect";
/// Source folders of BoringSSL, which errors are raised with, where no state is asked for, as in bun.
const BORINGSSL_SOURCES: [&[u8]; 2] = [b"boringssl/ssl/", b"boringssl/src/ssl/"];
/// A cipher suite as only Mbed TLS spells it, and text of an error of wolfSSL.
const MBEDTLS: &[u8] = b"TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256";
const WOLFSSL: &[u8] = b"unknown type in record hdr";
/// Source path in the panic messages of rustls.
const RUSTLS_SOURCE: &[u8] = b"/rustls-";
/// `buildInfoMagic` of Go's `debug/buildinfo`; the version is 32 bytes after its beginning since Go
/// 1.18.
const GO_BUILD_INFO: &[u8] = b"\xff Go buildinf:";
const GO_VERSION_OFFSET: usize = 32;
const GO_TLS: &[u8] = b"crypto/tls.(*Conn).Write";

/// Marks this program, which contains all fingerprints, to distinguish it from the programs that
/// they identify.
const OWN: &[u8] = b"what stands here is only looked for";

/// The fingerprints found in a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fingerprints {
    /// Code of libssl or a relative is in it.
    pub(super) openssl: bool,
    /// It is of BoringSSL or of its relative AWS-LC.
    boringssl: bool,
    /// It is a build of this program.
    pub(super) own: bool,
    /// Code of Mbed TLS is in it.
    pub(super) mbedtls: bool,
    /// Code of wolfSSL is in it.
    pub(super) wolfssl: bool,
    /// Code of rustls is in it.
    pub(super) rustls: bool,
    /// It was compiled by Go.
    pub(super) go: bool,
    /// It names a function of Go's crypto/tls.
    pub(super) go_tls: bool,
    openssl_version: Option<String>,
    libressl_version: Option<String>,
    aws_lc_version: Option<String>,
    pub(super) gnutls_version: Option<String>,
    pub(super) mbedtls_version: Option<String>,
    pub(super) rustls_version: Option<String>,
    pub(super) go_version: Option<String>,
}

impl Fingerprints {
    /// Reads those in the first 64 MiB of a file's data; none when it cannot be read.
    pub(super) fn read(library: &Library) -> Self {
        let mut fingerprints = Self::default();
        let mut left = SCAN_LIMIT;
        for (offset, size) in data(library) {
            let size = size.min(left);
            left -= size;
            // What cannot be read has no fingerprints.
            let _ = fingerprints.scan(library.file(), offset, size);
        }
        fingerprints
    }

    /// Which of OpenSSL and its relatives this is, and its version. BoringSSL has none.
    pub(super) fn openssl_release(&self) -> (&'static str, Option<&String>) {
        match (&self.aws_lc_version, &self.libressl_version) {
            // Programs may have AWS-LC's cryptography without its TLS.
            (Some(version), _) if self.boringssl => ("AWS-LC", Some(version)),
            (_, Some(version)) => ("LibreSSL", Some(version)),
            _ if self.boringssl => ("BoringSSL", None),
            _ => ("OpenSSL", self.openssl_version.as_ref()),
        }
    }

    fn scan(&mut self, mut file: &File, offset: u64, size: u64) -> io::Result<()> {
        file.seek(io::SeekFrom::Start(offset))?;
        let mut file = file.take(size);
        let mut window = Vec::with_capacity(WINDOW + OVERLAP);
        while file.by_ref().take(WINDOW as u64).read_to_end(&mut window)? > 0 {
            self.add(Self::of(&window));
            window.drain(..window.len().saturating_sub(OVERLAP));
        }
        Ok(())
    }

    /// Adds those of another file, or part of one, that belongs to it.
    pub(super) fn add(&mut self, other: Self) {
        self.openssl |= other.openssl;
        self.boringssl |= other.boringssl;
        self.own |= other.own;
        self.mbedtls |= other.mbedtls;
        self.wolfssl |= other.wolfssl;
        self.rustls |= other.rustls;
        self.go |= other.go;
        self.go_tls |= other.go_tls;
        for (known, more) in [
            (&mut self.openssl_version, other.openssl_version),
            (&mut self.libressl_version, other.libressl_version),
            (&mut self.aws_lc_version, other.aws_lc_version),
            (&mut self.gnutls_version, other.gnutls_version),
            (&mut self.mbedtls_version, other.mbedtls_version),
            (&mut self.rustls_version, other.rustls_version),
            (&mut self.go_version, other.go_version),
        ] {
            if known.is_none() {
                *known = more;
            }
        }
    }

    pub(super) fn of(bytes: &[u8]) -> Self {
        let has = |mark| memmem::find(bytes, mark).is_some();
        let boringssl = has(BORINGSSL_STATE) || BORINGSSL_SOURCES.into_iter().any(has);
        let build_info = memmem::find(bytes, GO_BUILD_INFO);
        let rustls_version = version_after(bytes, RUSTLS_SOURCE, RELEASE);
        Self {
            openssl: boringssl || OPENSSL.into_iter().any(has),
            boringssl,
            own: has(OWN),
            mbedtls: has(MBEDTLS),
            wolfssl: has(WOLFSSL),
            rustls: rustls_version.is_some(),
            go: build_info.is_some(),
            go_tls: has(GO_TLS),
            openssl_version: version_after(bytes, b"OpenSSL ", RELEASE),
            libressl_version: version_after(bytes, b"LibreSSL ", SERIES),
            aws_lc_version: version_after(bytes, b"AWS-LC ", RELEASE),
            mbedtls_version: version_after(bytes, b"bed TLS ", RELEASE),
            gnutls_version: version_after(bytes, b"GnuTLS ", RELEASE),
            rustls_version,
            go_version: build_info.and_then(|at| go_version(bytes.get(at + GO_VERSION_OFFSET..)?)),
        }
    }
}

/// Offset and size of the sections with data, which contain texts; the whole file if it has no such
/// sections.
fn data(library: &Library) -> Vec<(u64, u64)> {
    let sections = Layout::read(library.file(), library.size()).map(|layout| layout.sections);
    let sections = sections.unwrap_or_default();
    let data: Vec<_> = sections
        .iter()
        .filter(|section| section.is_data())
        .map(|section| (section.offset, section.size))
        .collect();
    if data.is_empty() {
        vec![(0, u64::MAX)]
    } else {
        data
    }
}

/// Dots in a release. Texts with fewer dots name a series; the first LibreSSL releases have only
/// that.
const RELEASE: usize = 2;
const SERIES: usize = 1;

/// The first thing like `3.0.2`, with as many dots, right after `prefix` and with something after it.
fn version_after(bytes: &[u8], prefix: &[u8], dots: usize) -> Option<String> {
    memmem::find_iter(bytes, prefix).find_map(|at| {
        let rest = &bytes[at + prefix.len()..];
        let version: String = rest
            .iter()
            .take(VERSION_LIMIT)
            .map(|&byte| char::from(byte))
            .take_while(|character| character.is_ascii_alphanumeric() || ".-".contains(*character))
            .collect();
        // One that ends with the window may continue in the next.
        let is_whole = version.len() < rest.len();
        let is_version =
            version.starts_with(|first: char| first.is_ascii_digit()) && version.matches('.').count() >= dots;
        (is_whole && is_version).then_some(version)
    })
}

/// A length and as many characters, such as `go1.22.1`.
fn go_version(bytes: &[u8]) -> Option<String> {
    let (&length, rest) = bytes.split_first()?;
    let text = rest.get(..usize::from(length))?;
    let version = std::str::from_utf8(text).ok()?.strip_prefix("go")?;
    Some(version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_recognized() {
        let fingerprints = Fingerprints::of(
            b"..OpenSSL \0OpenSSL 3.0 legacy\0OpenSSL 3.0.22 25 Aug 2026\0Enabled GnuTLS 3.7.9 logging",
        );
        assert_eq!(fingerprints.openssl_version.as_deref(), Some("3.0.22"));
        assert_eq!(fingerprints.gnutls_version.as_deref(), Some("3.7.9"));
        assert!(!fingerprints.openssl && !fingerprints.go && !fingerprints.rustls);
    }

    #[test]
    fn linked_in_implementations_are_recognized() {
        let fingerprints = Fingerprints::of(b"x/registry/src/rustls-0.23.12/src/conn.rs");
        assert_eq!(fingerprints.rustls_version.as_deref(), Some("0.23.12"));
        for mark in OPENSSL {
            assert!(Fingerprints::of(mark).openssl);
        }
        assert!(Fingerprints::of(BORINGSSL_STATE).openssl);
        assert!(Fingerprints::of(b"../../vendor/boringssl/ssl/../crypto/internal.h").boringssl);
        let fingerprints = Fingerprints::of(b"TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256 mbed TLS 2.28.3\0");
        assert_eq!(fingerprints.mbedtls_version.as_deref(), Some("2.28.3"));
        assert!(fingerprints.mbedtls && !fingerprints.openssl && !fingerprints.wolfssl);
    }

    #[test]
    fn relatives_of_openssl_are_told_apart() {
        let release = |parts: &[&[u8]]| {
            let fingerprints = Fingerprints::of(&parts.concat());
            let (name, version) = fingerprints.openssl_release();
            (name, version.cloned())
        };
        let end = b"\0";
        assert_eq!(
            release(&[b"OpenSSL 3.0.22 25 Aug 2026", end]),
            ("OpenSSL", Some("3.0.22".to_owned()))
        );
        let resembling: &[u8] = b"OpenSSL 1.1.1 (compatible; BoringSSL)";
        assert_eq!(release(&[BORINGSSL_STATE, resembling, end]), ("BoringSSL", None));
        for told in [
            &b"AWS-LC 1.66.0"[..],
            b"OpenSSL 1.1.1 (compatible; AWS-LC 1.66.0)",
        ] {
            assert_eq!(
                release(&[BORINGSSL_STATE, told, end]),
                ("AWS-LC", Some("1.66.0".to_owned()))
            );
            assert_ne!(release(&[told, end]).0, "AWS-LC", "without its TLS");
        }
        for (told, version) in [("LibreSSL 3.8.2", "3.8.2"), ("LibreSSL 2.0", "2.0")] {
            assert_eq!(
                release(&[told.as_bytes(), end]),
                ("LibreSSL", Some(version.to_owned()))
            );
        }
    }

    #[test]
    fn a_mark_across_two_windows_is_found() {
        let mut bytes = vec![b'.'; WINDOW - 10];
        bytes.extend_from_slice(b"OpenSSL 3.0.22 25 Aug 2026\0");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        assert_eq!(
            Fingerprints::read(&Library::open(file.path()).unwrap())
                .openssl_version
                .as_deref(),
            Some("3.0.22")
        );
    }

    #[test]
    fn go_tells_its_version() {
        let mut bytes = [b"code", GO_BUILD_INFO, &[8, 2], &[0; 16], b"\x08go1.22.1", GO_TLS].concat();
        let fingerprints = Fingerprints::of(&bytes);
        assert!(fingerprints.go && fingerprints.go_tls);
        assert_eq!(fingerprints.go_version.as_deref(), Some("1.22.1"));
        bytes.truncate(40);
        assert_eq!(Fingerprints::of(&bytes).go_version, None);
    }
}
