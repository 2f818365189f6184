//! Decides where in a library the probes stand.
//!
//! The kernel executes the instruction under a probe somewhere else, one trap later, unless it can
//! emulate it (`arch/x86/kernel/uprobes.c`): that makes an entry probe about ten times cheaper. In
//! OpenSSL the exported functions begin with an instruction that is not emulated, but each pair
//! (`SSL_read` and `SSL_read_ex`) calls one internal function that begins with `push`, which is.
//! Where [`rules`] can prove this, the probes stand there, else at the exported functions: a wrong
//! argument is worse than a slow probe. On arm64 they always do: no internal function begins with one of the
//! instructions that are emulated there.

mod instruction;
mod rules;
pub(crate) mod rustls;

use std::collections::BTreeSet;
use std::fmt;

use crate::file::elf::{Function, Image};
use crate::find::target::Kind;
use crate::limits;

/// What kind of place a probe stands at. An `endbr64` at its beginning may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointKind {
    /// The first instruction of the exported function.
    Entry,
    /// The first instruction of the internal function behind the exported ones.
    Internal,
}

impl fmt::Display for PointKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Entry => "entry",
            Self::Internal => "internal",
        })
    }
}

/// A function worth probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// Exported name.
    pub(crate) symbol: &'static str,
    /// Program for its entry.
    pub(crate) entry: &'static str,
    /// Program for its return; a hook without one carries no data.
    pub(crate) returns: Option<&'static str>,
    /// The function is compiled by Go: no return probe may change its stack.
    go: bool,
}

const fn data(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        symbol,
        entry,
        returns: Some("call_return"),
        go: false,
    }
}

const fn end(symbol: &'static str, entry: &'static str) -> Hook {
    Hook {
        symbol,
        entry,
        returns: None,
        go: false,
    }
}

const fn go(symbol: &'static str, entry: &'static str, returns: Option<&'static str>) -> Hook {
    Hook {
        symbol,
        entry,
        returns,
        go: true,
    }
}

/// A library's functions, in the order in which they are attached: the handshake after all that moves
/// plaintext, so that whoever is seen at it is seen from its first byte. The plain form and its `_ex` forms of
/// one operation stand together.
type Family = &'static [&'static [Hook]];

/// OpenSSL, BoringSSL and their relatives.
const OPENSSL: Family = &[
    &[data("SSL_read", "ssl_read"), data("SSL_read_ex", "ssl_read_ex")],
    &[
        data("SSL_write", "ssl_write"),
        data("SSL_write_ex", "ssl_write_ex"),
        data("SSL_write_ex2", "ssl_write_ex2"),
    ],
    // They have the parameters of the `_ex` forms, and are made of them.
    &[data("SSL_read_early_data", "ssl_read_ex")],
    &[data("SSL_write_early_data", "ssl_write_ex")],
    // Its bytes go from a file to the socket inside the kernel: they are counted.
    &[data("SSL_sendfile", "ssl_sendfile")],
    &[data("SSL_do_handshake", "ssl_do_handshake")],
    &[end("SSL_free", "ssl_free")],
];

const GNUTLS: Family = &[
    &[data("gnutls_record_recv", "gnutls_receive")],
    &[data("gnutls_record_recv_seq", "gnutls_receive")],
    &[data("gnutls_record_send", "gnutls_send")],
    &[data("gnutls_handshake", "gnutls_handshake")],
    &[end("gnutls_deinit", "gnutls_deinit")],
];

const GO: Family = &[
    &[go("crypto/tls.(*Conn).Read", "go_read", Some("go_return"))],
    &[go("crypto/tls.(*Conn).Write", "go_write", Some("go_return"))],
    &[go("crypto/tls.(*Conn).clientHandshake", "go_handshake", None)],
    &[go("crypto/tls.(*Conn).serverHandshake", "go_handshake", None)],
    &[go("crypto/tls.(*Conn).Close", "go_close", None)],
];

const RUSTLS_FFI: Family = &[
    &[data("rustls_connection_read", "rustls_connection_read")],
    &[data("rustls_connection_write", "rustls_connection_write")],
    &[data("rustls_connection_read_tls", "rustls_connection_tls")],
    &[data("rustls_connection_write_tls", "rustls_connection_tls")],
    &[data(
        "rustls_connection_write_tls_vectored",
        "rustls_connection_tls",
    )],
    &[end("rustls_connection_free", "rustls_connection_free")],
];

/// Of NSPR's functions only calls for NSS's descriptors count.
const NSS: Family = &[
    &[data("PR_Read", "nss_read")],
    &[data("PR_Recv", "nss_receive")],
    &[data("PR_Write", "nss_write")],
    &[data("PR_Send", "nss_write")],
    &[end("PR_Close", "nss_close")],
];

/// How NSS's descriptors become known, in a library of its own: a return probe alone.
const NSS_IMPORT: Family = &[
    &[end("SSL_ImportFD", "nss_import")],
    &[end("DTLS_ImportFD", "nss_import")],
];

const FAMILIES: [Family; 6] = [OPENSSL, GNUTLS, GO, RUSTLS_FFI, NSS, NSS_IMPORT];

/// What a function belongs to.
pub(crate) fn kind(symbol: &str) -> Option<Kind> {
    let kinds = [
        (OPENSSL, Kind::OpenSsl),
        (GNUTLS, Kind::GnuTls),
        (GO, Kind::Go),
        (RUSTLS_FFI, Kind::Rustls),
        (NSS, Kind::Nspr),
        (NSS_IMPORT, Kind::Nss),
    ];
    kinds.into_iter().find_map(|(family, kind)| {
        let mut hooks = family.iter().copied().flatten();
        hooks.any(|hook| hook.symbol == symbol).then_some(kind)
    })
}

/// Where Go's own code begins.
const GO_TEXT: &str = "runtime.text";

fn hooks() -> impl Iterator<Item = &'static Hook> {
    FAMILIES.into_iter().flatten().copied().flatten()
}

/// The names that are worth looking for in a library.
pub(crate) fn symbols() -> Vec<&'static str> {
    hooks()
        .map(|hook| hook.symbol)
        .chain(PEEKS)
        .chain([GO_TEXT])
        .collect()
}

/// The names of which a library must have one.
pub(crate) fn library_symbols() -> Vec<&'static str> {
    let carriers = hooks().filter(|hook| hook.returns.is_some());
    carriers
        .chain(NSS_IMPORT.iter().copied().flatten())
        .map(|hook| hook.symbol)
        .collect()
}

/// One name of each kind of library, for a message.
pub(crate) fn examples() -> String {
    let first = FAMILIES.into_iter().filter_map(|family| family.first()?.first());
    first.map(|hook| hook.symbol).collect::<Vec<_>>().join(", ")
}

/// Whether captured bytes come from a function.
pub(crate) fn carries_data(symbol: &str) -> bool {
    hooks().any(|hook| hook.symbol == symbol && hook.returns.is_some() && !passes_files(symbol))
        || rustls::carries_data(symbol)
}

/// Whether the bytes that a function moves are only counted.
pub(crate) fn passes_files(symbol: &str) -> bool {
    symbol == "SSL_sendfile"
}

/// Every program that stands at a library function.
pub(crate) fn programs() -> Vec<&'static str> {
    let programs: BTreeSet<_> = hooks()
        .flat_map(|hook| [Some(hook.entry), hook.returns])
        .flatten()
        .chain(rustls::PROGRAMS)
        .collect();
    programs.into_iter().collect()
}

/// Whether plaintext can be captured with the programs that are there.
pub(crate) fn can_carry_data(is_there: impl Fn(&str) -> bool) -> bool {
    let pairs = hooks().filter_map(|hook| Some((hook.entry, hook.returns?)));
    let carry = |(entry, returns): (&str, &str)| is_there(entry) && is_there(returns);
    pairs.chain([rustls::WRITE_PROGRAMS]).any(carry)
}

/// The functions that a program is attached to.
pub(crate) fn symbols_of(program: &str) -> Vec<&'static str> {
    let uses = |hook: &&Hook| hook.entry == program || hook.returns == Some(program);
    let symbols = hooks().filter(uses).map(|hook| hook.symbol);
    symbols.chain(rustls::symbol_of(program)).collect()
}

/// Functions that are not probed, but must not share an internal function with those that are.
pub(crate) const PEEKS: [&str; 2] = ["SSL_peek", "SSL_peek_ex"];

/// How the return of a function is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Returns {
    /// It is not.
    Unseen,
    /// By a return probe of this program.
    Probe(&'static str),
    /// By this program at each of these offsets in the file.
    Instructions(&'static str, Vec<u64>),
}

/// Where the probes for one or more exported functions stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) symbols: Vec<&'static str>,
    pub(crate) entry: &'static str,
    pub(crate) returns: Returns,
    /// Offset in the file.
    pub(crate) offset: u64,
    pub(crate) kind: PointKind,
    pub(crate) reason: String,
}

/// Every point of a library, and for each exported function without one the reason. A family of
/// which the library has nothing is left out.
pub(crate) fn points(image: &Image, entries_only: bool) -> (Vec<Point>, Vec<(&'static str, String)>) {
    let mut points = Vec::new();
    let mut failures = Vec::new();
    for family in FAMILIES {
        let mut hooks = family.iter().copied().flatten();
        if !hooks.any(|hook| image.function(hook.symbol).is_some()) {
            continue;
        }
        for forms in family {
            let reason = match forms {
                [plain, extended, ..] if !entries_only => internal_point(image, forms, [*plain, *extended]),
                [_, _, ..] => Err("only entries were asked for".to_owned()),
                _ => Err("the exported function".to_owned()),
            };
            let reason = match reason {
                Ok(point) => {
                    points.push(point);
                    continue;
                }
                Err(reason) => reason,
            };
            for hook in *forms {
                match entry_point(image, *hook, &reason) {
                    Ok(point) => points.push(point),
                    Err(reason) => failures.push((hook.symbol, reason)),
                }
            }
        }
    }
    // The C functions are made of the others.
    if image.function("rustls_connection_read").is_none() {
        points.extend(rustls::points(image).unwrap_or_default());
    }
    (points, failures)
}

/// A Go function's entry and its `ret` instructions.
fn go_point(image: &Image, hook: Hook, function: Function) -> Result<Point, String> {
    let Hook {
        symbol,
        entry,
        returns,
        ..
    } = hook;
    let addresses = few(rules::go_returns(image, function)?)?;
    let offsets: Result<Vec<u64>, String> = addresses
        .into_iter()
        .map(|address| offset(image, address))
        .collect();
    Ok(Point {
        symbols: vec![symbol],
        entry,
        returns: match returns {
            Some(program) => Returns::Instructions(program, offsets?),
            None => Returns::Unseen,
        },
        offset: offset(image, function.address)?,
        kind: PointKind::Entry,
        reason: "the Go function, with a probe at each of its returns".to_owned(),
    })
}

fn entry_point(image: &Image, hook: Hook, reason: &str) -> Result<Point, String> {
    let function = image
        .function(hook.symbol)
        .ok_or_else(|| "the library does not have it".to_owned())?;
    if hook.go {
        return go_point(image, hook, function);
    }
    let emulated = rules::emulated_start(image, function.address);
    let offset = offset(image, emulated.unwrap_or(function.address))?;
    let reason = match emulated {
        Some(_) => "begins with an instruction that the kernel emulates",
        None => reason,
    };
    let reason = reason.to_owned();
    let Hook {
        symbol,
        entry,
        returns,
        ..
    } = hook;
    let returns = returns.map_or(Returns::Unseen, Returns::Probe);
    Ok(Point {
        symbols: vec![symbol],
        entry,
        returns,
        offset,
        kind: PointKind::Entry,
        reason,
    })
}

/// The point behind a family of functions, the first two of which are the plain one and its
/// `_ex` form. All of the family that exist must lead there.
fn internal_point(image: &Image, family: &[Hook], pair: [Hook; 2]) -> Result<Point, String> {
    let [plain, extended] = pair.map(|hook| image.function(hook.symbol));
    let (Some(plain), Some(_)) = (plain, extended) else {
        return Err("the _ex form is not exported".to_owned());
    };
    let callee = rules::callee_of_plain(image, plain)?;
    for hook in &family[1..] {
        let Some(function) = image.function(hook.symbol) else {
            continue;
        };
        let other = rules::only_callee(image, function)?;
        if other != callee.address {
            return Err(format!("{} does not call the same function", hook.symbol));
        }
    }
    for peek in PEEKS {
        if let Some(function) = image.function(peek)
            && rules::only_callee(image, function) == Ok(callee.address)
        {
            return Err(format!("{peek} calls the same function"));
        }
    }
    if image.is_exported(callee.address) {
        return Err("the function behind it is exported itself".to_owned());
    }
    let start = rules::emulated_start(image, callee.address)
        .ok_or("the function behind it begins with an instruction that the kernel does not emulate")?;
    let offset = offset(image, start)?;
    let symbols = family.iter().map(|hook| hook.symbol);
    // The form whose last parameter is where the callee's is: the fifth in OpenSSL 3.3 and later.
    let entry = if callee.length_parameter == 4 {
        family[family.len() - 1]
    } else {
        pair[1]
    };
    Ok(Point {
        symbols: symbols
            .filter(|symbol| image.function(symbol).is_some())
            .collect(),
        entry: entry.entry,
        returns: entry.returns.map_or(Returns::Unseen, Returns::Probe),
        offset,
        kind: PointKind::Internal,
        reason: "function behind it, begins with an instruction that the kernel emulates".to_owned(),
    })
}

/// A probe costs the kernel time and memory, and a hostile function returns everywhere.
fn few(returns: Vec<u64>) -> Result<Vec<u64>, String> {
    if returns.len() > limits::RETURNS {
        return Err(format!(
            "it returns in {} places, more than {}",
            returns.len(),
            limits::RETURNS
        ));
    }
    Ok(returns)
}

/// Where in the file the instruction at an address is.
fn offset(image: &Image, address: u64) -> Result<u64, String> {
    let offset = image
        .file_offset(address)
        .ok_or_else(|| format!("address {address:#x} is not in the file's executable code"))?;
    if !instruction::begins(image, address) {
        return Err(format!("no instruction begins at address {address:#x}"));
    }
    Ok(offset)
}

#[cfg(test)]
mod tests;
