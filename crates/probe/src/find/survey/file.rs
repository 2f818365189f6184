//! The TLS in a file, and the part of it that can be captured.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::fingerprints::Fingerprints;
use super::{Finding, Keys, Obstacle, PlannedHook};
use crate::file::elf::Image;
use crate::file::library::Library;
use crate::kind::Kind;
use crate::modules::Modules;
use crate::modules::tls::rustls;
use crate::plan::{Brings, Plan, Point, Refusal};
use crate::{AttachPoint, Error};

/// The TLS in one file, the same in every process.
pub(super) struct FileSurvey {
    pub(super) kinds: Vec<Kind>,
    pub(super) hooks: Vec<PlannedHook>,
    /// It has functions that derive or log secrets.
    pub(super) derives: bool,
    /// Where it keeps the client's random is known.
    pub(super) has_place: bool,
    /// Why it could not be read.
    pub(super) unusable: Option<Arc<Error>>,
    /// Why the rustls in it, if there is one, would not be captured.
    pub(super) rustls: Option<Refusal>,
    pub(super) fingerprints: Fingerprints,
}

impl FileSurvey {
    pub(super) fn of(library: &Library) -> Self {
        Self::read(library, true)
    }

    /// Without what can be had for a key log, which takes longer.
    pub(super) fn without_keys(library: &Library) -> Self {
        Self::read(library, false)
    }

    fn read(library: &Library, with_keys: bool) -> Self {
        let fingerprints = Fingerprints::read(library);
        let mut file = Self {
            kinds: Vec::new(),
            hooks: Vec::new(),
            derives: false,
            has_place: false,
            unusable: None,
            rustls: None,
            fingerprints,
        };
        match Image::read(library, &Modules::TLS.with(Modules::SECRETS).symbols()) {
            Ok(image) => {
                file.kinds = Modules::TLS.kinds_in(&image);
                file.rustls = rustls_refusal(&image);
                let Plan { points, .. } = Plan::of(&image, Modules::TLS.families(), false);
                if with_keys {
                    file.derives = Modules::SECRETS.derive_in(&image);
                    file.has_place = Modules::SECRETS.place(&image) != 0;
                }
                file.hooks = points.into_iter().flat_map(planned).collect();
            }
            Err(error) => file.unusable = Some(Arc::new(error)),
        }
        file
    }
}

/// The functions of a point that deliver plaintext.
fn planned(point: Point) -> impl Iterator<Item = PlannedHook> {
    let at = AttachPoint {
        offset: point.offset,
        kind: point.kind,
        reason: point.reason,
    };
    let symbols = point.symbols.into_iter();
    let symbols = symbols.filter(|symbol| Modules::TLS.brings(symbol) != Some(Brings::Length));
    symbols.map(move |symbol| PlannedHook {
        symbol,
        point: at.clone(),
    })
}

fn rustls_refusal(image: &Image) -> Option<Refusal> {
    if !image.names_rustls() {
        return Some(Refusal::NoSymbols);
    }
    rustls::points(image).err()
}

/// Completes the finding of a TLS library. The version of OpenSSL and its relatives is in their libcrypto.
pub(super) fn library(finding: &mut Finding, file: &FileSurvey, crypto: Option<&FileSurvey>) {
    let Some(&kind) = file.kinds.first() else {
        if let Some(other) = not_supported(&file.fingerprints) {
            (finding.implementation, finding.version, finding.obstacle) = other;
            return;
        }
        finding.implementation = "unknown";
        finding.obstacle = Some(match file.unusable.clone() {
            Some(error) => Obstacle::Unusable(error),
            None => Obstacle::NoFunctions,
        });
        return;
    };
    let mut fingerprints = file.fingerprints.clone();
    if let Some(crypto) = crypto {
        fingerprints.add(crypto.fingerprints.clone());
    }
    captured(finding, file, kind, &fingerprints);
    let derives = file.derives || crypto.is_some_and(|crypto| crypto.derives);
    finding.keys = keys(kind, derives, file.has_place);
}

fn keys(kind: Kind, derives: bool, has_place: bool) -> Keys {
    match (kind, derives, has_place) {
        (Kind::Go | Kind::Rustls, true, _) | (Kind::OpenSsl | Kind::GnuTls, true, true) => Keys::All,
        (Kind::OpenSsl | Kind::GnuTls, true, false) => Keys::UpToTls12,
        _ => Keys::None,
    }
}

/// Completes the finding of a program with TLS in its executable. Returns false if it has none.
pub(super) fn executable(finding: &mut Finding, file: &FileSurvey) -> bool {
    if let Some(&kind) = file.kinds.first() {
        captured(finding, file, kind, &file.fingerprints);
        finding.keys = keys(kind, file.derives, file.has_place);
        return true;
    }
    if is_erlang(&finding.file) {
        finding.implementation = "Erlang";
        finding.obstacle = Some(Obstacle::Erlang);
        return true;
    }
    let fingerprints = &file.fingerprints;
    if fingerprints.own {
        return false;
    }
    let (implementation, version, obstacle) = if fingerprints.openssl {
        let (name, version) = fingerprints.openssl_release();
        (name, version, Obstacle::NoSymbols)
    } else if fingerprints.go && fingerprints.go_tls {
        (
            "Go crypto/tls",
            fingerprints.go_version.as_ref(),
            Obstacle::GoTable,
        )
    } else if fingerprints.rustls {
        (
            "rustls",
            fingerprints.rustls_version.as_ref(),
            Obstacle::Rustls(file.rustls.clone().unwrap_or(Refusal::Unreadable)),
        )
    } else if let Some(other) = not_supported(fingerprints) {
        (finding.implementation, finding.version, finding.obstacle) = other;
        return true;
    } else if fingerprints.go {
        ("Go", fingerprints.go_version.as_ref(), Obstacle::GoWithoutTls)
    } else {
        return false;
    };
    finding.implementation = implementation;
    finding.version = version.cloned();
    if matches!(obstacle, Obstacle::NoSymbols | Obstacle::Rustls(_)) && file.derives {
        // What writes key logs was found without symbols.
        finding.keys = Keys::All;
    }
    finding.obstacle = Some(obstacle);
    true
}

/// The implementations that are recognized only by their content.
fn not_supported(fingerprints: &Fingerprints) -> Option<(&'static str, Option<String>, Option<Obstacle>)> {
    if fingerprints.mbedtls {
        let version = fingerprints.mbedtls_version.clone();
        Some(("Mbed TLS", version, Some(Obstacle::NotSupported("Mbed TLS"))))
    } else if fingerprints.wolfssl {
        Some(("wolfSSL", None, Some(Obstacle::NotSupported("wolfSSL"))))
    } else {
        None
    }
}

/// Erlang's virtual machine is `beam.smp`, whatever is run in it.
fn is_erlang(program: &Path) -> bool {
    program
        .file_name()
        .is_some_and(|name| name.as_bytes().starts_with(b"beam.") || name.as_bytes() == b"beam")
}

fn captured(finding: &mut Finding, file: &FileSurvey, kind: Kind, fingerprints: &Fingerprints) {
    let (implementation, version) = match kind {
        Kind::OpenSsl => fingerprints.openssl_release(),
        Kind::GnuTls => (kind.name(), fingerprints.gnutls_version.as_ref()),
        Kind::Go => (kind.name(), fingerprints.go_version.as_ref()),
        Kind::Rustls => (kind.name(), fingerprints.rustls_version.as_ref()),
        Kind::LibCrypto
        | Kind::Nettle
        | Kind::Nspr
        | Kind::Nss
        | Kind::Bash
        | Kind::Readline
        | Kind::Zsh
        | Kind::MariaDb
        | Kind::Postgres => (kind.name(), None),
    };
    finding.implementation = implementation;
    finding.version = version.cloned();
    finding.hooks.clone_from(&file.hooks);
    if finding.hooks.is_empty() {
        finding.obstacle = Some(Obstacle::NoFunctions);
    }
}
