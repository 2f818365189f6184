//! rustls in a program from Rust sources.
//!
//! All plaintext passes two functions: `send_appdata_encrypt` on its way out and
//! `take_received_plaintext` on its way in. Nobody promises that they exist, nor what they are
//! called with. So this must be proved of each file: that there is one of each; that everything
//! received passes the one (each `ExpectTraffic::handle` calls it, instead of containing it); and
//! that the other one has its bytes where rustls 0.23 has them, and where it returns. Returns are
//! probes at each `ret`: a return probe would break the unwinding of a panic.

use crate::file::elf::{Function, Image};
use crate::file::rust_symbol::RustFunction;
use crate::kind::Kind;
use crate::limits;
use crate::plan::{self, Brings, Hook, Point, Refusal, Returns, rules};

/// In the order in which they are attached to.
pub(super) const OPERATIONS: &[&[Hook]] = &[&[SEND], &[ENCRYPT], &[RECEIVED], &[DROP]];

const SEND: Hook = Hook {
    symbol: "rustls::ChunkVecBuffer::write_to",
    entry: "rustls_send",
    returns: Some("rustls_sent"),
    brings: Brings::Nothing,
    identifies: false,
    variables: &[],
};
const ENCRYPT: Hook = Hook {
    symbol: "rustls::CommonState::send_appdata_encrypt",
    entry: "rustls_encrypt",
    returns: Some("rustls_encrypted"),
    brings: Brings::Content,
    identifies: false,
    variables: &[],
};
const RECEIVED: Hook = Hook {
    symbol: "rustls::CommonState::take_received_plaintext",
    entry: "rustls_received",
    returns: None,
    brings: Brings::Content,
    identifies: false,
    variables: &[],
};
const DROP: Hook = Hook {
    symbol: "core::ptr::drop_in_place::<rustls::CommonState>",
    entry: "rustls_drop",
    returns: None,
    brings: Brings::Nothing,
    identifies: false,
    variables: &[],
};

/// Where the probes go, or why none do.
pub(crate) fn points(image: &Image) -> Result<Vec<Point>, Refusal> {
    // What the functions of rustls-ffi move passes these functions, too.
    if image.function("rustls_connection_read").is_some() {
        return Err(Refusal::Missing);
    }
    let encrypt = one(image, RustFunction::Encrypt, "send_appdata_encrypt")?;
    let received = one(image, RustFunction::Received, "take_received_plaintext")?;
    let send = one(image, RustFunction::Send, "write_to")?;
    let mut traffic = image.rust_functions(RustFunction::Traffic).peekable();
    if traffic.peek().is_none() {
        return Err(Refusal::NoReceivers);
    }
    if image.rust_functions(RustFunction::Traffic).count() > limits::TRAFFIC_FUNCTIONS {
        return Err(Refusal::Receivers {
            most: limits::TRAFFIC_FUNCTIONS,
        });
    }
    for function in traffic {
        if !rules::calls(image, function, received.address)? {
            return Err(Refusal::Inlined);
        }
    }
    let knows_chunks = image.rust_functions(RustFunction::Chunks).next().is_some();
    if !knows_chunks && !rules::loads_from_second_parameter(image, encrypt, &[0x10, 0x18])? {
        return Err(Refusal::OtherVersion);
    }
    let mut points = vec![
        point(image, SEND, send)?,
        point(image, ENCRYPT, encrypt)?,
        point(image, RECEIVED, received)?,
    ];
    points.extend(drop_point(image)?);
    Ok(points)
}

/// All copies of the function that ends a connection, as one point: one link instead of many.
fn drop_point(image: &Image) -> Result<Option<Point>, Refusal> {
    let mut copies = image.rust_functions(RustFunction::Drop);
    let Some(first) = copies.next() else {
        return Ok(None);
    };
    let others = copies.map(|function| plan::offset(image, function.address));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    if others.len() >= limits::DROP_FUNCTIONS {
        return Err(Refusal::DropFunctions {
            most: limits::DROP_FUNCTIONS,
        });
    }
    let mut point = point(image, DROP, first)?;
    if !others.is_empty() {
        point.returns = Returns::Instructions(DROP.entry, others);
    }
    Ok(Some(point))
}

fn one(image: &Image, wanted: RustFunction, function: &'static str) -> Result<Function, Refusal> {
    let mut found = image.rust_functions(wanted);
    match (found.next(), found.next()) {
        (Some(function), None) => Ok(function),
        (Some(_), Some(_)) => Err(Refusal::SeveralVersions { function }),
        (None, _) => Err(Refusal::NotAmongSymbols { function }),
    }
}

fn point(image: &Image, hook: Hook, function: Function) -> Result<Point, Refusal> {
    plan::inside_point(image, Kind::Rustls, hook, function)
}
