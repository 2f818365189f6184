//! MariaDB, and MySQL.
//!
//! A thread of the server executes each command of a client in `dispatch_command`. The client's packet lies
//! in the buffer in which the server later puts its answer, so its text is sent when the command begins.
//!
//! The members of `THD` are where user space has read in the server's own accessors that they are, see
//! [`ecapture_ebpf::sql::Connection`].

use core::ffi::c_void;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_get_attach_cookie, bpf_ktime_get_ns};
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::config::HAS_COOKIE;
use ecapture_ebpf::limits::LEAST_PAYLOAD;
use ecapture_ebpf::sql::{
    Connection, Diagnostics, HAS_RESULT, KIND_MYSQL, NO_ROW_COUNTED, NO_TEXT, ROWS_UNKNOWN, Results,
    STEP_END, STEP_ERROR, STEP_PARAMETERS, STEP_SESSION, STEP_TEXT, STEP_VALUE_APART,
};

use super::super::call::is_followed;
use super::super::filter::{ended, may_return};
use super::super::maps::config;
use super::super::memory::user;
use super::delivery::{send, send_bytes, send_names, send_string};
use super::statement::Statement;

/// `COM_QUERY`
const QUERY: u32 = 3;
/// `COM_STMT_PREPARE`
const PREPARE: u32 = 22;
/// `COM_STMT_EXECUTE`
const EXECUTE: u32 = 23;
/// `COM_STMT_SEND_LONG_DATA`
const SEND_LONG_DATA: u32 = 24;
/// `COM_STMT_BULK_EXECUTE` of MariaDB
const BULK_EXECUTE: u32 = 250;
/// `enum_diagnostics_status` of MariaDB: no result yet.
const DA_EMPTY: u32 = 0;
/// Rows may have been changed.
const DA_OK: u32 = 1;
/// Rows were returned.
const DA_EOF: u32 = 2;
/// As `DA_OK`, of a bulk.
const DA_OK_BULK: u32 = 3;
const DA_ERROR: u32 = 5;
/// No `THD` has more bytes. The protocol of the client's connection is a member of it.
const MOST_THD: u64 = 1 << 16;
/// No text is longer: `max_allowed_packet` is at most 1 GiB.
const LONGEST: u64 = 1 << 30;

/// `dispatch_command_return dispatch_command(enum_server_command command, THD *thd, char *packet, uint
/// packet_length, …)` of MariaDB
#[uprobe]
fn mysql_command(context: ProbeContext) {
    let command: u64 = context.arg(0).unwrap_or(0);
    let thd: u64 = context.arg(1).unwrap_or(0);
    let packet: u64 = context.arg(2).unwrap_or(0);
    let length: u64 = context.arg(3).unwrap_or(0);
    begin(&context, command as u32, thd, packet, length & 0xFFFF_FFFF);
}

/// `bool dispatch_command(THD *thd, const COM_DATA *com_data, enum_server_command command)` of MySQL 5.7 and
/// later. `COM_DATA` of a query or of a statement to be prepared begins with its text and length.
#[uprobe]
fn mysql_command_data(context: ProbeContext) {
    let thd: u64 = context.arg(0).unwrap_or(0);
    let data: u64 = context.arg(1).unwrap_or(0);
    let command: u64 = context.arg(2).unwrap_or(0);
    let command = command as u32;
    let (packet, length) = if command == QUERY || command == PREPARE {
        let length: u32 = user(data + 8).unwrap_or(0);
        (user(data).unwrap_or(0), u64::from(length))
    } else {
        (0, 0)
    };
    begin(&context, command, thd, packet, length);
}

#[inline(always)]
fn begin(context: &ProbeContext, command: u32, thd: u64, packet: u64, length: u64) {
    let is_text = command == QUERY || command == PREPARE;
    let is_apart = command == SEND_LONG_DATA;
    if !is_text && !is_apart && command != EXECUTE && command != BULK_EXECUTE {
        return;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    if !is_followed(pid_tgid) {
        return;
    }
    let Some(statement) = Statement::current(pid_tgid) else {
        return;
    };
    let known = Connection::of(cookie(context));
    statement.connection = member(thd, known.number);
    // SAFETY: the helper has no preconditions.
    statement.began_ns = unsafe { bpf_ktime_get_ns() };
    statement.object = thd;
    statement.text_bytes = if is_text { length } else { 0 };
    statement.command = command;
    statement.kind = KIND_MYSQL;
    statement.flags = if is_text { Statement::TEXT_SENT } else { 0 };
    statement.rows = 0;
    if is_apart {
        let header = statement.header(pid_tgid, STEP_VALUE_APART);
        send::<LEAST_PAYLOAD>(&header, packet, if length < 4 { 0 } else { 4 });
        Statement::forget(pid_tgid);
        return;
    }
    let mut header = statement.header(pid_tgid, STEP_SESSION);
    let security = member(thd, known.security);
    let name = if security == 0 {
        0
    } else {
        user(security + u64::from(known.user)).unwrap_or(0)
    };
    send_names(&header, name, member(thd, known.database));
    header.step = if is_text { STEP_TEXT } else { STEP_PARAMETERS };
    send_bytes(header, packet, length);
}

/// `bool Prepared_statement::execute(String *expanded_query, bool open_cursor)`: once for each row of a bulk,
/// and once more after the statement had to be prepared again.
#[uprobe]
fn mysql_execute(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if ended() {
        return;
    }
    let Some(statement) = Statement::known(pid_tgid) else {
        return;
    };
    let is_open = statement.began_ns != 0 && statement.flags & Statement::TEXT_SENT == 0;
    let query = cookie(&context);
    if !is_open || query == 0 {
        return;
    }
    let opens_cursor: u64 = context.arg(2).unwrap_or(0);
    if opens_cursor & 0xFF != 0 {
        statement.flags |= Statement::OPENS_CURSOR;
    }
    let prepared: u64 = context.arg(0).unwrap_or(0);
    let text: u64 = user(prepared + query).unwrap_or(0);
    let length: u64 = user(prepared + query + 8).unwrap_or(0);
    if text == 0 || length > LONGEST {
        return;
    }
    statement.flags |= Statement::TEXT_SENT;
    statement.text_bytes = length;
    send_bytes(statement.header(pid_tgid, STEP_TEXT), text, length);
}

/// `void Protocol::end_statement()`: the client is sent the end of a result. A query may have several statements,
/// and a procedure several results.
#[uprobe]
fn mysql_result(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if ended() {
        return;
    }
    let Some(statement) = Statement::known(pid_tgid) else {
        return;
    };
    // What the server executes for itself has a protocol elsewhere.
    let protocol: u64 = context.arg(0).unwrap_or(0);
    let known = Results::of(cookie(&context));
    let area = member(statement.object, known.area);
    if statement.began_ns == 0 || area == 0 || protocol.wrapping_sub(statement.object) >= MOST_THD {
        return;
    }
    let status: u32 = user(area + u64::from(known.status)).unwrap_or(0);
    let mut rows: u64 = 0;
    if status == DA_OK || status == DA_OK_BULK {
        rows = user(area + u64::from(known.rows)).unwrap_or(0);
    } else if status == DA_EOF && statement.flags & Statement::OPENS_CURSOR == 0 {
        rows = member(statement.object, known.sent);
        if rows == 0 {
            statement.flags |= NO_ROW_COUNTED;
        }
    } else if status != DA_EMPTY && status != DA_ERROR {
        statement.flags |= ROWS_UNKNOWN;
    }
    // Which of several results has no rows is not known.
    if statement.flags & Statement::COUNTED != 0 && statement.flags & NO_ROW_COUNTED != 0 {
        statement.flags |= ROWS_UNKNOWN;
    }
    statement.flags |= Statement::COUNTED;
    statement.rows += rows;
}

/// The return of either form.
#[uretprobe]
fn mysql_returned(context: RetProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if ended() || !may_return((pid_tgid >> 32) as u32) {
        return;
    }
    let Some(statement) = Statement::known(pid_tgid) else {
        return;
    };
    if statement.began_ns == 0 {
        return;
    }
    let known = Diagnostics::of(cookie(&context));
    let mut header = statement.header(pid_tgid, STEP_END);
    let returned: u64 = context.ret();
    header.returned = returned as i32;
    header.total = statement.text_bytes;
    if statement.flags & Statement::TEXT_SENT == 0 {
        header.flags |= NO_TEXT;
    }
    let area = member(statement.object, known.area);
    if area != 0 {
        header.flags |= HAS_RESULT;
        header.error = user(area + u64::from(known.error)).unwrap_or(0);
        if statement.flags & Statement::COUNTED != 0 {
            header.rows = statement.rows;
            header.flags |= statement.flags & (ROWS_UNKNOWN | NO_ROW_COUNTED);
        } else {
            header.rows = user(area + u64::from(known.rows)).unwrap_or(0);
            let status: u32 = user(area + u64::from(known.status)).unwrap_or(0);
            if known.rows == 0 || status != DA_OK && status != DA_OK_BULK {
                header.flags |= ROWS_UNKNOWN;
            }
        }
        if header.error != 0 {
            header.step = STEP_ERROR;
            send_string(header, area + u64::from(known.message));
            header.step = STEP_END;
        }
    }
    send::<LEAST_PAYLOAD>(&header, 0, 0);
    Statement::forget(pid_tgid);
}

/// The pointer or number at an offset in an object; 0 where that is not known.
#[inline(always)]
fn member(object: u64, offset: u16) -> u64 {
    if offset == 0 {
        return 0;
    }
    user(object + u64::from(offset)).unwrap_or(0)
}

#[inline(always)]
fn cookie(context: &impl EbpfContext) -> u64 {
    if config!(features) & HAS_COOKIE == 0 {
        return 0;
    }
    // SAFETY: the context is the program's own.
    unsafe { bpf_get_attach_cookie(context.as_ptr() as *mut c_void) }
}
