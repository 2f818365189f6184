//! PostgreSQL: one process for each connection.
//!
//! A process reads the type of a message with `pq_getbyte` and its body with `pq_getmessage`, and then reports
//! what it executes with `pgstat_report_activity`: also for a statement that was prepared long ago. All these
//! functions are exported for extensions, and their parameters are the same from version 10 to 18.

use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::{uprobe, uretprobe};
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use ecapture_ebpf::limits::LEAST_PAYLOAD;
use ecapture_ebpf::sql::{
    COMPLETION_BYTES, ERROR_BYTES, Header, KIND_POSTGRES, NO_TEXT, STEP_COMPLETED, STEP_END, STEP_ERROR,
    STEP_PARAMETERS, STEP_SESSION, STEP_TEXT, TEXT_CUT,
};

use super::super::call::is_followed;
use super::super::filter::{ended, stopped, wanted};
use super::super::memory::user;
use super::delivery::{CUT, send, send_bytes, send_names, send_string};
use super::statement::Statement;

/// Offset of `StringInfoData.len`, after the pointer to the data.
const LENGTH: u64 = 8;
/// Offset of `StringInfoData.cursor`; `pq_beginmessage` keeps the type of the message there.
const CURSOR: u64 = 16;

const QUERY: u32 = b'Q' as u32;
const EXECUTE: u32 = b'E' as u32;
const BIND: u32 = b'B' as u32;
const CALL: u32 = b'F' as u32;

/// The return of `int pq_getbyte(void)`: a message begins, or the connection has ended.
#[uretprobe]
fn postgres_message(context: RetProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let read: u64 = context.ret();
    let command = read as u32;
    // Data for COPY belong to the statement before; the rest of what is not listed is no command.
    if !matches!(
        command as u8,
        b'Q' | b'P' | b'B' | b'E' | b'F' | b'D' | b'C' | b'S' | b'X'
    ) && read as i32 != -1
    {
        return;
    }
    if let Some(statement) = Statement::known(pid_tgid) {
        end(statement, pid_tgid);
    }
    if stopped() || !is_followed(pid_tgid) || command == b'X' as u32 || read as i32 == -1 {
        return;
    }
    if let Some(statement) = Statement::current(pid_tgid) {
        statement.command = command;
        statement.kind = KIND_POSTGRES;
        statement.began_ns = 0;
        statement.object = 0;
        statement.text = 0;
        statement.text_bytes = 0;
        statement.flags = 0;
    }
}

/// `int pq_getmessage(StringInfo s, int maxlen)`
#[uprobe]
fn postgres_body(context: ProbeContext) {
    if let Some(statement) = Statement::known(bpf_get_current_pid_tgid())
        && statement.object == 0
    {
        statement.object = context.arg(0).unwrap_or(0);
        // SAFETY: the helper has no preconditions.
        statement.began_ns = unsafe { bpf_ktime_get_ns() };
    }
}

/// `void pgstat_report_activity(BackendState state, const char *cmd_str)`: the first one with a text after a
/// message is about what the message asks for.
#[uprobe]
fn postgres_activity(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let text: u64 = context.arg(1).unwrap_or(0);
    if text == 0 || ended() {
        return;
    }
    let Some(statement) = Statement::known(pid_tgid) else {
        return;
    };
    if statement.began_ns == 0 || statement.flags & Statement::BEGUN != 0 {
        return;
    }
    statement.flags |= Statement::BEGUN;
    statement.text = text;
    let command = statement.command;
    if command == BIND {
        let data: u64 = user(statement.object).unwrap_or(0);
        let length: u32 = user(statement.object + LENGTH).unwrap_or(0);
        send_bytes(
            statement.header(pid_tgid, STEP_PARAMETERS),
            data,
            u64::from(length),
        );
    } else if command == QUERY || command == EXECUTE || command == CALL {
        send_text(statement, pid_tgid);
        if command == EXECUTE {
            // The name of the portal, which is nearly always empty.
            let data: u64 = user(statement.object).unwrap_or(0);
            let length: u32 = user(statement.object + LENGTH).unwrap_or(0);
            if length <= LEAST_PAYLOAD as u32 {
                let header = statement.header(pid_tgid, STEP_PARAMETERS);
                send::<LEAST_PAYLOAD>(&header, data, length);
            }
        }
    }
}

/// `void FUNCTION(const char *query_string)`, such as `exec_simple_query`: the function that the user names. It is
/// all that is known of a statement if the server does not have the other names.
#[uprobe]
fn postgres_named(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let text: u64 = context.arg(0).unwrap_or(0);
    if text == 0 || stopped() || !is_followed(pid_tgid) {
        return;
    }
    let Some(statement) = Statement::current(pid_tgid) else {
        return;
    };
    if statement.object == 0 {
        // No message was read; an error may have left the function before without a return.
        end(statement, pid_tgid);
        // SAFETY: the helper has no preconditions.
        statement.began_ns = unsafe { bpf_ktime_get_ns() };
        statement.command = QUERY;
        statement.kind = KIND_POSTGRES;
    }
    if statement.began_ns == 0 || statement.flags & Statement::BEGUN != 0 {
        return;
    }
    statement.flags |= Statement::BEGUN;
    statement.text = text;
    send_text(statement, pid_tgid);
}

/// The function that the user names returns. Where messages are seen, the answer to the client ends the statement.
#[uretprobe]
fn postgres_named_returned(_context: RetProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if let Some(statement) = Statement::known(pid_tgid)
        && statement.object == 0
    {
        end(statement, pid_tgid);
    }
}

/// The text of a query is the client's message, if the server did not have to convert it.
#[inline(always)]
fn send_text(statement: &mut Statement, pid_tgid: u64) {
    statement.flags |= Statement::TEXT_SENT;
    let header = statement.header(pid_tgid, STEP_TEXT);
    let data: u64 = user(statement.object).unwrap_or(0);
    let length: u32 = user(statement.object + LENGTH).unwrap_or(0);
    if statement.command == QUERY && data == statement.text && length != 0 {
        statement.text_bytes = u64::from(length) - 1;
        send_bytes(header, statement.text, statement.text_bytes);
    } else {
        statement.text_bytes = send_string(header, statement.text);
    }
}

/// `void EndCommand(const QueryCompletion *qc, CommandDest dest, …)`; before version 13 with the tag as a string.
/// It ends an execution; a query may consist of several commands.
#[uprobe]
fn postgres_completed(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(statement) = Statement::known(pid_tgid) else {
        return;
    };
    if statement.flags & Statement::TEXT_SENT == 0 || ended() {
        return;
    }
    let is_whole = statement.command == EXECUTE;
    let mut header = statement.header(pid_tgid, if is_whole { STEP_END } else { STEP_COMPLETED });
    add_text_of(statement, &mut header);
    send::<LEAST_PAYLOAD>(&header, context.arg(0).unwrap_or(0), COMPLETION_BYTES as u32);
    if is_whole {
        statement.began_ns = 0;
        statement.flags = 0;
    }
}

/// `void pq_endmessage(StringInfo buf)`: an answer is sent; only errors matter.
#[uprobe]
fn postgres_answer(context: ProbeContext) {
    let buffer: u64 = context.arg(0).unwrap_or(0);
    if user::<u32>(buffer + CURSOR) != Some(b'E' as u32) || ended() {
        return;
    }
    let pid_tgid = bpf_get_current_pid_tgid();
    let Some(statement) = Statement::known(pid_tgid) else {
        return;
    };
    if statement.began_ns == 0 || statement.flags & Statement::FAILED != 0 {
        return;
    }
    statement.flags |= Statement::FAILED;
    // What could not be parsed or bound is shown for its error; a text that is not even in the right encoding, as the
    // client sent it.
    if statement.text == 0 && statement.command == QUERY {
        statement.text = user(statement.object).unwrap_or(0);
    }
    if statement.flags & Statement::TEXT_SENT == 0 && statement.text != 0 {
        send_text(statement, pid_tgid);
    }
    let data: u64 = user(buffer).unwrap_or(0);
    let length: u32 = user(buffer + LENGTH).unwrap_or(0);
    let header = statement.header(pid_tgid, STEP_ERROR);
    let most = ERROR_BYTES as u32;
    send::<ERROR_BYTES>(&header, data, if length > most { most } else { length });
}

/// `void ReadyForQuery(CommandDest dest)`
#[uprobe]
fn postgres_ready(_context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if let Some(statement) = Statement::known(pid_tgid) {
        end(statement, pid_tgid);
    }
}

/// Reports that the last message was handled.
#[inline(always)]
fn end(statement: &mut Statement, pid_tgid: u64) {
    if statement.began_ns == 0 {
        return;
    }
    if statement.flags & (Statement::TEXT_SENT | Statement::FAILED) != 0 && !ended() {
        let mut header = statement.header(pid_tgid, STEP_END);
        add_text_of(statement, &mut header);
        send::<LEAST_PAYLOAD>(&header, 0, 0);
    }
    statement.began_ns = 0;
    statement.flags = 0;
}

/// Says how much text there was.
#[inline(always)]
fn add_text_of(statement: &Statement, header: &mut Header) {
    header.total = statement.text_bytes & !CUT;
    if statement.flags & Statement::TEXT_SENT == 0 {
        header.flags |= NO_TEXT;
    } else if statement.text_bytes & CUT != 0 {
        header.flags |= TEXT_CUT;
    }
}

/// `void InitPostgres(const char *in_dbname, Oid dboid, const char *username, …)`
#[uprobe]
fn postgres_session(context: ProbeContext) {
    let pid_tgid = bpf_get_current_pid_tgid();
    if stopped() || !wanted((pid_tgid >> 32) as u32) {
        return;
    }
    let database: u64 = context.arg(0).unwrap_or(0);
    let name: u64 = context.arg(2).unwrap_or(0);
    if name == 0 {
        return;
    }
    if let Some(statement) = Statement::current(pid_tgid) {
        statement.kind = KIND_POSTGRES;
        send_names(&statement.header(pid_tgid, STEP_SESSION), name, database);
    }
}
