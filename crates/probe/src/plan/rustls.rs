//! rustls in a program from Rust sources.
//!
//! All plaintext passes two functions: `send_appdata_encrypt` on its way out and
//! `take_received_plaintext` on its way in. Nobody promises that they exist, nor what they are
//! called with. So this must be proved of each file: that there is one of each; that everything
//! received passes the one (each `ExpectTraffic::handle` calls it, instead of containing it);
//! and that the other one has its bytes where rustls 0.23 has them, and where it returns. Returns
//! are probes at each `ret`: a return probe would stand in the way of a panic.

use crate::file::elf::{Function, Image};
use crate::file::rust_symbol::RustFunction;
use crate::limits;

use super::{Point, PointKind, Returns, few, offset, rules};

const ENCRYPT: &str = "rustls::CommonState::send_appdata_encrypt";
const RECEIVED: &str = "rustls::CommonState::take_received_plaintext";
const SEND: &str = "rustls::ChunkVecBuffer::write_to";
const DROP: &str = "core::ptr::drop_in_place::<rustls::CommonState>";

/// The programs for these functions.
pub(super) const PROGRAMS: [&str; 6] = [
    "rustls_encrypt",
    "rustls_encrypted",
    "rustls_received",
    "rustls_send",
    "rustls_sent",
    "rustls_drop",
];

/// Those at the entry and the returns of the function that encrypts.
pub(super) const WRITE_PROGRAMS: (&str, &str) = ("rustls_encrypt", "rustls_encrypted");

/// The function that a program is attached to.
pub(super) fn symbol_of(program: &str) -> Option<&'static str> {
    match program {
        "rustls_encrypt" | "rustls_encrypted" => Some(ENCRYPT),
        "rustls_received" => Some(RECEIVED),
        "rustls_send" | "rustls_sent" => Some(SEND),
        "rustls_drop" => Some(DROP),
        _ => None,
    }
}

/// Whether captured bytes come from a function.
pub(super) fn carries_data(symbol: &str) -> bool {
    [ENCRYPT, RECEIVED].contains(&symbol)
}

/// Where the probes stand, or why none do.
pub(crate) fn points(image: &Image) -> Result<Vec<Point>, String> {
    let encrypt = one(image, RustFunction::Encrypt, "send_appdata_encrypt")?;
    let received = one(image, RustFunction::Received, "take_received_plaintext")?;
    let send = one(image, RustFunction::Send, "write_to")?;
    let mut traffic = image.rust_functions(RustFunction::Traffic).peekable();
    if traffic.peek().is_none() {
        return Err("no function that receives plaintext is known".to_owned());
    }
    if image.rust_functions(RustFunction::Traffic).count() > limits::TRAFFIC_FUNCTIONS {
        return Err(format!(
            "more than {} functions receive plaintext",
            limits::TRAFFIC_FUNCTIONS
        ));
    }
    for function in traffic {
        if !rules::calls(image, function, received.address)? {
            return Err("take_received_plaintext was inlined where plaintext is received".to_owned());
        }
    }
    let knows_chunks = image.rust_functions(RustFunction::Chunks).next().is_some();
    if !knows_chunks && !rules::loads_from_second_parameter(image, encrypt, &[0x10, 0x18])? {
        return Err("send_appdata_encrypt is not that of rustls 0.23".to_owned());
    }
    let mut points = vec![
        point(image, SEND, "rustls_send", send, Some("rustls_sent"))?,
        point(
            image,
            ENCRYPT,
            "rustls_encrypt",
            encrypt,
            Some("rustls_encrypted"),
        )?,
        point(image, RECEIVED, "rustls_received", received, None)?,
    ];
    points.extend(drop_point(image)?);
    Ok(points)
}

/// All copies of the function that ends a connection, as one point: one link instead of many.
fn drop_point(image: &Image) -> Result<Option<Point>, String> {
    let mut copies = image.rust_functions(RustFunction::Drop);
    let Some(first) = copies.next() else {
        return Ok(None);
    };
    let others: Result<Vec<u64>, String> = copies.map(|function| offset(image, function.address)).collect();
    let others = others?;
    if others.len() >= limits::DROP_FUNCTIONS {
        return Err(format!(
            "it has more than {} copies of drop_in_place",
            limits::DROP_FUNCTIONS
        ));
    }
    let mut point = point(image, DROP, "rustls_drop", first, None)?;
    if !others.is_empty() {
        point.returns = Returns::Instructions("rustls_drop", others);
    }
    Ok(Some(point))
}

fn one(image: &Image, wanted: RustFunction, name: &str) -> Result<Function, String> {
    let mut found = image.rust_functions(wanted);
    match (found.next(), found.next()) {
        (Some(function), None) => Ok(function),
        (Some(_), Some(_)) => Err(format!("it has more than one {name}: several versions of rustls")),
        (None, _) => Err(format!(
            "{name} is not among its symbols: it was inlined, or this is not rustls 0.23"
        )),
    }
}

fn point(
    image: &Image,
    symbol: &'static str,
    entry: &'static str,
    function: Function,
    at_returns: Option<&'static str>,
) -> Result<Point, String> {
    let returns = match at_returns {
        Some(program) => {
            let addresses = few(rules::returns(image, function)?)?;
            let offsets: Result<_, _> = addresses
                .into_iter()
                .map(|address| offset(image, address))
                .collect();
            Returns::Instructions(program, offsets?)
        }
        None => Returns::Unseen,
    };
    Ok(Point {
        symbols: vec![symbol],
        entry,
        returns,
        offset: offset(image, function.address)?,
        kind: PointKind::Internal,
        reason: "the function inside rustls, with a probe at each of its returns".to_owned(),
    })
}
