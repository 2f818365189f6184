//! Joins the kernel's records of a statement to one fact.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use ecapture_ebpf::record::DecodeError;
use ecapture_ebpf::sql::{
    self, HAS_RESULT, Header, KIND_POSTGRES, NAME_BYTES, NO_ROW_COUNTED, NO_TEXT, ROWS_UNKNOWN,
    STEP_COMPLETED, STEP_END, STEP_ERROR, STEP_EXIT, STEP_PARAMETERS, STEP_SESSION, STEP_TEXT,
    STEP_VALUE_APART, TEXT_CUT,
};
use ecapture_protocols::redact::{self, Redaction};
use ecapture_protocols::{
    CapturedEvent, Comm, Fact, Missing, Observed, Process, SqlError, SqlOutcome, SqlParameter, SqlQuery,
    SqlRequest, SqlServer,
};

use super::postgres::{self, Portals, Session};
use super::values::Values;
use crate::limits;
use crate::modules::{Join, Joined};

/// `COM_STMT_EXECUTE` of MariaDB
const EXECUTE: u32 = 23;

/// Statements that have not ended, and what is known of connections.
#[derive(Debug)]
pub(super) struct Statements {
    redaction: Redaction,
    /// Statements that are complete and were not handed over: a record completes one at most, but two at the limits.
    complete: VecDeque<Observed>,
    open: HashMap<(u32, u32), Open>,
    sessions: HashMap<u32, Session>,
    portals: HashMap<u32, Portals>,
    values: Values,
    /// Bytes in `open` and `portals`.
    held: usize,
    /// Bytes of texts and values that were beyond the limits.
    beyond: u64,
}

/// A statement whose end has not been read.
#[derive(Debug)]
struct Open {
    first: Header,
    text: Vec<u8>,
    /// Bytes of the text up to the end of the last part.
    reached: u64,
    missing: Vec<Missing>,
    /// The client's message with values.
    message: Vec<u8>,
    message_reached: u64,
    message_total: u64,
    session: Session,
    error: Option<SqlError>,
    rows: Option<u64>,
}

impl Statements {
    /// What is masked in statements is said by `redaction`.
    pub(super) fn new(redaction: Redaction) -> Self {
        Self {
            redaction,
            complete: VecDeque::new(),
            open: HashMap::new(),
            sessions: HashMap::new(),
            portals: HashMap::new(),
            values: Values::default(),
            held: 0,
            beyond: 0,
        }
    }

    fn record(&mut self, header: &Header, payload: &[u8]) {
        let key = (header.pid, header.tid);
        if header.step == STEP_EXIT {
            self.thread_ended(key);
            return;
        }
        if header.step == STEP_VALUE_APART {
            self.values.apart(header.pid, header.connection, payload);
            return;
        }
        if header.kind == KIND_POSTGRES && header.step == STEP_SESSION {
            self.begin_session(header.pid, Session::of_names(names(payload)));
            return;
        }
        if self
            .open
            .get(&key)
            .is_some_and(|open| open.first.statement != header.statement)
        {
            self.close(key, None);
        }
        if self.open.len() >= limits::STATEMENTS && !self.open.contains_key(&key) {
            let oldest = self.open.iter().min_by_key(|(_, open)| open.first.statement);
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.close(oldest, None);
            }
        }
        let room = limits::STATEMENT_HELD_BYTES.saturating_sub(self.held);
        let open = self.open.entry(key).or_insert_with(|| Open::new(header));
        let before = open.held();
        self.beyond += open.take(header, payload, room) as u64;
        self.held += open.held().saturating_sub(before);
        if header.step == STEP_PARAMETERS && header.kind == KIND_POSTGRES {
            self.parameters(key, header);
        }
        if header.step == STEP_END {
            self.close(key, Some(header));
        }
    }

    /// A thread has ended, and with it what it was executing; of PostgreSQL a connection.
    fn thread_ended(&mut self, key: (u32, u32)) {
        self.close(key, None);
        if key.0 == key.1 {
            self.sessions.remove(&key.0);
            if let Some(portals) = self.portals.remove(&key.0) {
                self.held = self.held.saturating_sub(portals.held());
            }
        }
    }

    fn begin_session(&mut self, pid: u32, session: Session) {
        if self.sessions.len() >= limits::SQL_SESSIONS && !self.sessions.contains_key(&pid) {
            self.sessions.clear();
        }
        self.sessions.insert(pid, session);
    }

    /// Keeps the values of a portal when their message is complete.
    fn parameters(&mut self, key: (u32, u32), header: &Header) {
        let Some(open) = self.open.get_mut(&key) else {
            return;
        };
        if header.command != u32::from(b'B') || open.message_reached < header.total {
            return;
        }
        let message = std::mem::take(&mut open.message);
        self.held = self.held.saturating_sub(message.len());
        if self.portals.len() >= limits::SQL_SESSIONS && !self.portals.contains_key(&key.0) {
            let dropped: usize = self.portals.values().map(Portals::held).sum();
            self.portals.clear();
            self.held = self.held.saturating_sub(dropped);
        }
        let portals = self.portals.entry(key.0).or_default();
        let before = portals.held();
        portals.bind(Bytes::from(message));
        self.held = (self.held + portals.held()).saturating_sub(before);
    }

    /// Makes a fact of what was read of a statement. `end` is the record of its end, if there is one.
    fn close(&mut self, key: (u32, u32), end: Option<&Header>) {
        let Some(mut open) = self.open.remove(&key) else {
            return;
        };
        self.held = self.held.saturating_sub(open.held());
        let first = open.first;
        let server = server_of(&first);
        let session = match server {
            SqlServer::MySql => open.session.clone(),
            SqlServer::Postgres => self.session(first.pid),
        };
        let mut request = request_of(&first);
        let failed = open.error.is_some();
        // They are shown if they fail; otherwise what they are for is.
        if !failed
            && !matches!(
                request,
                SqlRequest::Query | SqlRequest::Execute | SqlRequest::Call
            )
        {
            return;
        }
        let mut parameters = Vec::new();
        match (server, request) {
            (SqlServer::MySql, SqlRequest::Execute) => parameters = self.values_of(&mut open),
            (SqlServer::Postgres, SqlRequest::Execute) => {
                if let Some(portals) = self.portals.get_mut(&key.0) {
                    let (values, is_again) = portals.execute(&open.message);
                    parameters = values;
                    if is_again {
                        request = SqlRequest::Fetch;
                    }
                }
            }
            _ => {}
        }
        let mut query = open.query(end, request, session, parameters);
        redact::query(&mut query, self.redaction);
        let ended = end.map_or(first.timestamp_ns, |end| end.timestamp_ns);
        self.complete.push_back(Observed {
            timestamp_ns: ended,
            process: Process {
                pid: first.pid,
                tid: first.tid,
                uid: Some(first.uid),
                comm: Comm::new(first.comm),
            },
            container_id: None,
            program: None,
            fact: Fact::Sql(Box::new(query)),
        });
    }

    /// The values that MariaDB's client gave to the parameters of a statement; none if they are not known.
    fn values_of(&mut self, open: &mut Open) -> Vec<SqlParameter> {
        let message = std::mem::take(&mut open.message);
        let is_whole = message.len() as u64 == open.message_total && open.missing.is_empty();
        let first = &open.first;
        if !is_whole || first.connection == 0 || first.command != EXECUTE {
            return Vec::new();
        }
        let count = redact::placeholders(&open.text);
        self.values
            .executed(first.pid, first.connection, Bytes::from(message), count)
    }

    /// A connection that is older than the capture is known by the title of its process.
    fn session(&mut self, pid: u32) -> Session {
        if !self.sessions.contains_key(&pid) {
            self.begin_session(pid, postgres::session_of_process(pid));
        }
        self.sessions.get(&pid).cloned().unwrap_or_default()
    }
}

impl Join for Statements {
    fn join(&mut self, record: &[u8]) -> Result<Joined, DecodeError> {
        let (header, payload) = sql::decode(record)?;
        let before = self.beyond;
        self.record(&header, payload);
        Ok(Joined {
            event: self.complete.pop_front().map(event),
            bytes: payload.len() as u64,
            beyond: self.beyond - before,
        })
    }

    fn finish(&mut self) -> Vec<CapturedEvent> {
        let keys: Vec<_> = self.open.keys().copied().collect();
        for key in keys {
            self.close(key, None);
        }
        let mut complete: Vec<_> = self.complete.drain(..).collect();
        complete.sort_by_key(|observed| observed.timestamp_ns);
        complete.into_iter().map(event).collect()
    }
}

fn event(observed: Observed) -> CapturedEvent {
    CapturedEvent::Observed(Box::new(observed))
}

impl Open {
    fn new(header: &Header) -> Self {
        Self {
            first: *header,
            text: Vec::new(),
            reached: 0,
            missing: Vec::new(),
            message: Vec::new(),
            message_reached: 0,
            message_total: 0,
            session: Session::default(),
            error: None,
            rows: None,
        }
    }

    fn held(&self) -> usize {
        self.text.len() + self.message.len()
    }

    /// Takes a record, with at most `room` bytes of text. Returns the number of bytes that were beyond the limits.
    fn take(&mut self, header: &Header, payload: &[u8], room: usize) -> usize {
        match header.step {
            STEP_SESSION => self.session = Session::of_names(names(payload)),
            STEP_TEXT => return self.take_text(header, payload, room),
            STEP_PARAMETERS => return self.take_values(header, payload, room),
            STEP_ERROR => self.error = Some(error(header, payload)),
            STEP_COMPLETED | STEP_END if !payload.is_empty() => {
                if let Some(rows) = postgres::rows(payload) {
                    self.rows = Some(self.rows.unwrap_or(0).saturating_add(rows));
                }
            }
            _ => {}
        }
        0
    }

    fn take_values(&mut self, header: &Header, payload: &[u8], room: usize) -> usize {
        self.message_total = header.total;
        let most = room.min(limits::STATEMENT_BYTES.saturating_sub(self.message.len()));
        if header.offset != self.message_reached || payload.len() > most {
            // Values behind a gap cannot be separated.
            self.message.clear();
            return payload.len().saturating_sub(most);
        }
        self.message.extend_from_slice(payload);
        self.message_reached = header.offset + payload.len() as u64;
        0
    }

    fn take_text(&mut self, header: &Header, payload: &[u8], room: usize) -> usize {
        if header.offset < self.reached {
            return 0;
        }
        self.note_missing(header.offset);
        let kept = payload
            .len()
            .min(room)
            .min(limits::STATEMENT_BYTES.saturating_sub(self.text.len()));
        self.text.extend_from_slice(&payload[..kept]);
        self.reached = header.offset + kept as u64;
        self.note_missing(header.offset + payload.len() as u64);
        payload.len() - kept
    }

    /// The text between what was reached and `position` is missing.
    fn note_missing(&mut self, position: u64) {
        if position <= self.reached {
            return;
        }
        let bytes = position - self.reached;
        let at = self.text.len() as u64;
        let is_last = self.missing.len() >= limits::MISSING_PARTS;
        match self.missing.last_mut() {
            Some(last) if last.at == at || is_last => {
                last.bytes = last.bytes.map(|known| known.saturating_add(bytes));
            }
            _ => self.missing.push(Missing {
                at,
                bytes: Some(bytes),
            }),
        }
        self.reached = position;
    }

    fn query(
        mut self,
        end: Option<&Header>,
        request: SqlRequest,
        session: Session,
        parameters: Vec<SqlParameter>,
    ) -> SqlQuery {
        let server = server_of(&self.first);
        if let Some(end) = end {
            if end.flags & NO_TEXT == 0 {
                self.note_missing(end.total);
            }
            // What was executed has a text, which a server without the usual symbols does not give.
            let is_unread = end.flags & NO_TEXT != 0 && request == SqlRequest::Execute;
            if is_unread || end.flags & TEXT_CUT != 0 {
                self.missing.push(Missing {
                    at: self.text.len() as u64,
                    bytes: None,
                });
            }
        } else if self.first.total > 0 {
            self.note_missing(self.first.total);
        }
        SqlQuery {
            server,
            request,
            text_bytes: self.reached,
            missing: self.missing,
            parameters,
            connection: (self.first.connection != 0).then_some(self.first.connection),
            user: session.user,
            database: session.database,
            duration_ns: end.map(|end| end.timestamp_ns.saturating_sub(self.first.statement)),
            outcome: outcome(server, end, self.error),
            rows: self
                .rows
                .or_else(|| end.and_then(|end| rows_of_mariadb(end, &self.text))),
            returned: end.filter(|_| server == SqlServer::MySql).map(|end| end.returned),
            redacted: false,
            text: Bytes::from(self.text),
        }
    }
}

/// MariaDB's count of the rows that were changed or returned. It counts none in the results of many statements that are
/// not queries, so 0 is only known of those that are.
fn rows_of_mariadb(end: &Header, text: &[u8]) -> Option<u64> {
    const COUNTED: [&str; 7] = ["select", "with", "values", "table", "insert", "replace", "delete"];
    let has = |flag| end.flags & flag != 0;
    let is_known = has(HAS_RESULT)
        && !has(ROWS_UNKNOWN)
        && end.error == 0
        && (!has(NO_ROW_COUNTED) || redact::begins_with(text, &COUNTED));
    (is_known && end.kind != KIND_POSTGRES).then_some(end.rows)
}

fn outcome(server: SqlServer, end: Option<&Header>, error: Option<SqlError>) -> SqlOutcome {
    match (error, end) {
        (Some(error), _) => SqlOutcome::Failed(error),
        (None, Some(end)) if end.error != 0 => SqlOutcome::Failed(SqlError {
            code: Arc::from(end.error.to_string()),
            message: Bytes::new(),
        }),
        (None, Some(end)) if server == SqlServer::Postgres || end.flags & HAS_RESULT != 0 => {
            SqlOutcome::Succeeded
        }
        (None, _) => SqlOutcome::Unknown,
    }
}

fn error(header: &Header, payload: &[u8]) -> SqlError {
    if header.kind == KIND_POSTGRES {
        return postgres::error(payload);
    }
    SqlError {
        code: Arc::from(header.error.to_string()),
        message: Bytes::copy_from_slice(until_nul(payload)),
    }
}

fn server_of(header: &Header) -> SqlServer {
    if header.kind == KIND_POSTGRES {
        SqlServer::Postgres
    } else {
        SqlServer::MySql
    }
}

fn request_of(header: &Header) -> SqlRequest {
    if header.kind == KIND_POSTGRES {
        return postgres::request(header.command);
    }
    // `enum_server_command`
    match header.command {
        3 => SqlRequest::Query,
        22 => SqlRequest::Prepare,
        EXECUTE | 250 => SqlRequest::Execute,
        _ => SqlRequest::Other,
    }
}

/// The user and the database of a record of `STEP_SESSION`.
fn names(payload: &[u8]) -> [Option<Arc<str>>; 2] {
    let name = |at: usize| {
        let bytes = payload.get(at..)?;
        let name = until_nul(&bytes[..bytes.len().min(NAME_BYTES)]);
        (!name.is_empty()).then(|| Arc::from(String::from_utf8_lossy(name)))
    };
    [name(0), name(NAME_BYTES)]
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

#[cfg(test)]
mod tests {
    use ecapture_ebpf::sql::KIND_MYSQL;

    use super::*;

    fn header(step: u32, statement: u64) -> Header {
        Header {
            kind: KIND_MYSQL,
            payload_length: 0,
            timestamp_ns: statement + 5,
            pid: 10,
            tid: 11,
            uid: 12,
            step,
            comm: *b"mariadbd\0\0\0\0\0\0\0\0",
            statement,
            connection: 7,
            offset: 0,
            total: 0,
            rows: 0,
            error: 0,
            command: 3,
            flags: 0,
            returned: 0,
        }
    }

    fn text(statement: u64, offset: u64, total: u64) -> Header {
        Header {
            offset,
            total,
            ..header(STEP_TEXT, statement)
        }
    }

    fn end(statement: u64, total: u64) -> Header {
        Header {
            total,
            flags: HAS_RESULT,
            rows: 3,
            ..header(STEP_END, statement)
        }
    }

    fn queries(records: &[(Header, &[u8])]) -> (Vec<SqlQuery>, Statements) {
        let mut statements = Statements::new(Redaction::Nothing);
        for (header, payload) in records {
            statements.record(header, payload);
        }
        let complete: Vec<_> = statements.complete.drain(..).collect();
        (complete.into_iter().map(query).collect(), statements)
    }

    fn query(observed: Observed) -> SqlQuery {
        match observed.fact {
            Fact::Sql(query) => *query,
            other => panic!("{other:?}"),
        }
    }

    fn session(user: &str, database: &str) -> Vec<u8> {
        let mut names = vec![0; 2 * NAME_BYTES];
        names[..user.len()].copy_from_slice(user.as_bytes());
        names[NAME_BYTES..NAME_BYTES + database.len()].copy_from_slice(database.as_bytes());
        names
    }

    #[test]
    fn the_parts_of_a_text_are_joined() {
        let names = session("bob", "shop");
        let (queries, statements) = queries(&[
            (header(STEP_SESSION, 1), &names),
            (text(1, 0, 8), b"SELECT"),
            (text(1, 6, 8), b" 1"),
            (end(1, 8), b""),
        ]);
        let [query] = &queries[..] else {
            panic!("{queries:?}")
        };
        assert_eq!((&query.text[..], query.text_bytes), (&b"SELECT 1"[..], 8));
        assert_eq!(query.user.as_deref(), Some("bob"));
        assert_eq!(query.database.as_deref(), Some("shop"));
        assert_eq!((query.duration_ns, query.rows), (Some(5), Some(3)));
        assert_eq!(query.outcome, SqlOutcome::Succeeded);
        assert_eq!((query.missing.len(), query.returned), (0, Some(0)));
        assert_eq!((statements.held, statements.open.len()), (0, 0));
    }

    #[test]
    fn every_record_may_be_missing() {
        // The middle, the end of the text, all of the text.
        let (lost, _) = queries(&[
            (text(1, 0, 9), b"abc"),
            (text(1, 6, 9), b"ghi"),
            (end(1, 9), b""),
            (text(2, 0, 9), b"abc"),
            (end(2, 9), b""),
            (end(3, 9), b""),
        ]);
        let missing: Vec<_> = lost
            .iter()
            .map(|query| (&query.text[..], query.text_bytes, query.missing.clone()))
            .collect();
        let gap = |at, bytes| {
            vec![Missing {
                at,
                bytes: Some(bytes),
            }]
        };
        assert_eq!(
            missing,
            [
                (&b"abcghi"[..], 9, gap(3, 3)),
                (b"abc", 9, gap(3, 6)),
                (b"", 9, gap(0, 9))
            ]
        );
        // The end itself: the next statement of the thread shows it.
        let (unfinished, mut statements) = queries(&[(text(1, 0, 3), b"abc"), (text(2, 0, 3), b"def")]);
        let [query] = &unfinished[..] else {
            panic!("{unfinished:?}")
        };
        assert_eq!((&query.text[..], query.duration_ns), (&b"abc"[..], None));
        assert_eq!(query.outcome, SqlOutcome::Unknown);
        assert_eq!(statements.finish().len(), 1);
        assert_eq!(statements.held, 0);
    }

    #[test]
    fn a_text_is_kept_within_its_limit() {
        let chunk = vec![b'x'; 1 << 20];
        let mut statements = Statements::new(Redaction::Nothing);
        let total = (limits::STATEMENT_BYTES + chunk.len()) as u64;
        let mut offset = 0;
        while offset < total {
            statements.record(&text(1, offset, total), &chunk);
            offset += chunk.len() as u64;
        }
        statements.record(&end(1, total), b"");
        let query = query(statements.complete.pop_front().unwrap());
        assert_eq!(query.text.len(), limits::STATEMENT_BYTES);
        assert_eq!(query.text_bytes, total);
        assert_eq!(query.missing[0].bytes, Some(chunk.len() as u64));
        assert_eq!(statements.beyond, chunk.len() as u64);
    }

    #[test]
    fn a_prepared_statement_is_shown_when_it_is_executed_or_has_failed() {
        let prepare = |step, statement, error| Header {
            command: 22,
            error,
            total: 1,
            ..header(step, statement)
        };
        let (shown, _) = queries(&[
            (prepare(STEP_TEXT, 1, 0), b"a"),
            (prepare(STEP_END, 1, 0), b""),
            (prepare(STEP_TEXT, 2, 0), b"b"),
            (prepare(STEP_ERROR, 2, 1064), b"no\0more"),
            (prepare(STEP_END, 2, 1064), b""),
        ]);
        let [query] = &shown[..] else { panic!("{shown:?}") };
        assert_eq!(query.request, SqlRequest::Prepare);
        let error = query.outcome.error().unwrap();
        assert_eq!((&*error.code, &error.message[..]), ("1064", &b"no"[..]));
    }

    #[test]
    fn a_text_that_the_server_does_not_give_is_missing() {
        let ended = Header {
            command: EXECUTE,
            flags: NO_TEXT,
            ..end(1, 0)
        };
        let (shown, _) = queries(&[(ended, b"")]);
        let [query] = &shown[..] else { panic!("{shown:?}") };
        assert_eq!(query.request, SqlRequest::Execute);
        assert_eq!(query.missing, [Missing { at: 0, bytes: None }]);
    }

    #[test]
    fn threads_are_kept_apart_and_their_statements_end_with_them() {
        let other = Header {
            tid: 99,
            ..text(1, 0, 1)
        };
        let (none, mut statements) = queries(&[(text(1, 0, 1), b"a"), (other, b"b")]);
        assert_eq!(none.len(), 0);
        statements.record(&header(STEP_EXIT, 1), b"");
        assert_eq!(statements.complete.len(), 1, "one of two threads");
        assert_eq!(statements.finish().len(), 2);
        assert_eq!(statements.held, 0);
    }
}
