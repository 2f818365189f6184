//! Where MariaDB keeps what belongs to a statement.
//!
//! The offsets in `THD` differ between versions. The server exports accessors for its plugins, so they are read
//! there: `thd_get_thread_id` is one load and a return. What cannot be read is not known, and nothing is guessed.

use ecapture_ebpf::sql::{Connection, Diagnostics, Results};

use crate::file::elf::{Function, Image};
use crate::file::library::NamedFunction;
use crate::kind::Kind;
use crate::plan::rules::{self, Accessor};
use crate::plan::{self, Brings, Hook, Point, PointKind, Reason, Refusal, Returns};

/// `dispatch_command`, in whatever mangling: see `file::sql_symbol`.
pub(super) const DISPATCH: &str = "dispatch_command(enum_server_command, THD *, …)";
/// The form of MySQL from 5.7 on.
pub(super) const DISPATCH_DATA: &str = "dispatch_command(THD *, COM_DATA *, …)";
const EXECUTE: &str = "_ZN18Prepared_statement7executeEP6Stringb";
const SET_OK: &str = "_ZN16Diagnostics_area13set_ok_statusEyyPKc";
const RESULT: &str = "_ZN8Protocol13end_statementEv";
const SET_SENT: &str = "_ZN3THD18set_sent_row_countEy";

/// What is looked up in a file.
pub(super) const READ: &[&str] = &[
    DISPATCH,
    DISPATCH_DATA,
    EXECUTE,
    SET_OK,
    RESULT,
    SET_SENT,
    "thd_get_thread_id",
    "thd_current_db",
    "thd_user_name",
    "thd_query_string",
    "thd_get_error_number",
    "thd_get_error_message",
];

pub(super) const OPERATIONS: &[&[Hook]] = &[
    &[hook(
        DISPATCH,
        "mysql_command",
        Some("mysql_returned"),
        Brings::Content,
    )],
    &[hook(
        DISPATCH_DATA,
        "mysql_command_data",
        Some("mysql_returned"),
        Brings::Content,
    )],
    &[hook(EXECUTE, "mysql_execute", None, Brings::Nothing)],
    &[hook(RESULT, "mysql_result", None, Brings::Nothing)],
];

const fn hook(
    symbol: &'static str,
    entry: &'static str,
    returns: Option<&'static str>,
    brings: Brings,
) -> Hook {
    Hook {
        symbol,
        entry,
        returns,
        variables: &[],
        brings,
        identifies: true,
    }
}

/// The name of `dispatch_command` in the form that a function named by the user has: MySQL's from 5.7 on if its symbol
/// says so.
pub(super) fn named(function: &NamedFunction) -> &'static str {
    let has_data = function
        .symbol
        .as_deref()
        .is_some_and(|symbol| symbol.contains("COM_DATA"));
    if has_data { DISPATCH_DATA } else { DISPATCH }
}

/// Where the probes go.
pub(super) fn points(image: &Image) -> Result<Vec<Point>, Refusal> {
    let forms = [(DISPATCH, "mysql_command"), (DISPATCH_DATA, "mysql_command_data")];
    let (symbol, entry, function) = forms
        .into_iter()
        .find_map(|(symbol, entry)| Some((symbol, entry, image.function(symbol)?)))
        .ok_or(Refusal::Missing)?;
    // The return comes first: a command that is then seen beginning is seen ending, too.
    let diagnostics = diagnostics(image);
    let mut points = vec![point(
        image,
        symbol,
        "mysql_returned",
        function,
        diagnostics.cookie(),
    )?];
    if let (Some(results), Some(ends)) = (results(image, diagnostics), image.function(RESULT)) {
        points.push(point(image, RESULT, "mysql_result", ends, results.cookie())?);
    }
    points.push(point(image, symbol, entry, function, connection(image).cookie())?);
    let text = image
        .function("thd_query_string")
        .and_then(|accessor| address(image, accessor));
    if let (Some(execute), Some(text)) = (image.function(EXECUTE), text) {
        points.push(point(image, EXECUTE, "mysql_execute", execute, text.into())?);
    }
    Ok(points)
}

fn point(
    image: &Image,
    symbol: &'static str,
    program: &'static str,
    function: Function,
    cookie: u64,
) -> Result<Point, Refusal> {
    let emulated = rules::emulated_start(image, function.address).filter(|_| program != "mysql_returned");
    Ok(Point {
        symbols: vec![symbol],
        entry: program,
        returns: Returns::Unseen,
        offset: plan::offset(image, emulated.unwrap_or(function.address))?,
        kind: PointKind::Entry,
        reason: Reason::Exported,
        cookie: Some(cookie),
    })
}

fn connection(image: &Image) -> Connection {
    let find = |name| image.function(name);
    let (security, user) = find("thd_user_name")
        .and_then(|accessor| through(image, accessor))
        .unwrap_or_default();
    Connection {
        number: find("thd_get_thread_id")
            .and_then(|accessor| match rules::accessor(image, accessor)? {
                Accessor::Value(offset) => u16::try_from(offset).ok(),
                _ => None,
            })
            .unwrap_or(0),
        database: find("thd_current_db")
            .and_then(|accessor| address(image, accessor))
            .unwrap_or(0),
        security,
        user,
    }
}

fn diagnostics(image: &Image) -> Diagnostics {
    known_diagnostics(image).unwrap_or_default()
}

fn known_diagnostics(image: &Image) -> Option<Diagnostics> {
    let (area, error) = through(image, image.function("thd_get_error_number")?)?;
    let (same, message) = through(image, image.function("thd_get_error_message")?)?;
    if same != area {
        return None;
    }
    let (rows, status) = image
        .function(SET_OK)
        .and_then(|set_ok| rules::second_parameter_member(image, set_ok))
        .and_then(|(rows, status)| Some((u16::try_from(rows).ok()?, u16::try_from(status?).ok()?)))
        .unwrap_or_default();
    Some(Diagnostics {
        area,
        error: u8::try_from(error).ok()?,
        message: u8::try_from(message).ok()?,
        rows,
        status,
    })
}

/// Where the rows of a result are counted; `None` unless all of it is known.
fn results(image: &Image, diagnostics: Diagnostics) -> Option<Results> {
    let set_sent = image.function(SET_SENT)?;
    let (sent, _) = rules::second_parameter_member(image, set_sent)?;
    (diagnostics.rows != 0).then_some(Results {
        area: diagnostics.area,
        rows: diagnostics.rows,
        status: diagnostics.status,
        sent: u16::try_from(sent).ok()?,
    })
}

/// The offset of a member whose address an accessor returns.
fn address(image: &Image, accessor: Function) -> Option<u16> {
    match rules::accessor(image, accessor)? {
        Accessor::Address(offset) => u16::try_from(offset).ok(),
        _ => None,
    }
}

/// The offset of a pointer, and that of a member behind it.
fn through(image: &Image, accessor: Function) -> Option<(u16, u16)> {
    match rules::accessor(image, accessor)? {
        Accessor::Through(pointer, member) => {
            Some((u16::try_from(pointer).ok()?, u16::try_from(member).ok()?))
        }
        _ => None,
    }
}

/// What the family is.
pub(super) const KIND: Kind = Kind::MariaDb;
