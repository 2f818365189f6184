//! What PostgreSQL's messages and processes say.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use ecapture_protocols::{SqlError, SqlParameter, SqlRequest};

use crate::limits;

/// The user and the database of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) user: Option<Arc<str>>,
    pub(super) database: Option<Arc<str>>,
}

impl Session {
    pub(super) fn of_names([user, database]: [Option<Arc<str>>; 2]) -> Self {
        Self { user, database }
    }
}

/// The values that a connection has given to the parameters of its portals.
#[derive(Debug, Default)]
pub(super) struct Portals {
    by_name: HashMap<Bytes, Portal>,
    held: usize,
}

#[derive(Debug)]
struct Portal {
    values: Vec<SqlParameter>,
    bytes: usize,
    executed: bool,
}

impl Portals {
    /// Bytes of its values.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes the message Bind (`B`).
    pub(super) fn bind(&mut self, message: Bytes) {
        let bytes = message.len();
        let Some((name, values)) = bound(message) else {
            return;
        };
        if self.by_name.len() >= limits::SQL_PORTALS && !self.by_name.contains_key(&name) {
            self.by_name.clear();
            self.held = 0;
        }
        let portal = Portal {
            values,
            bytes,
            executed: false,
        };
        self.held += bytes;
        if let Some(replaced) = self.by_name.insert(name, portal) {
            self.held -= replaced.bytes;
        }
    }

    /// Takes the message Execute (`E`). Returns the values, and true if the portal was executed before.
    pub(super) fn execute(&mut self, message: &[u8]) -> (Vec<SqlParameter>, bool) {
        let name = message.split(|&byte| byte == 0).next().unwrap_or_default();
        match self.by_name.get_mut(name) {
            Some(portal) => (
                portal.values.clone(),
                std::mem::replace(&mut portal.executed, true),
            ),
            None => (Vec::new(), false),
        }
    }
}

/// The portal and the values of a Bind message (PostgreSQL's documentation, "Message Formats"). `None` if it is
/// not one: the server refuses it, too.
fn bound(mut message: Bytes) -> Option<(Bytes, Vec<SqlParameter>)> {
    let portal = string(&mut message)?;
    let _statement = string(&mut message)?;
    let formats = count(&mut message)?;
    let mut is_binary = Vec::new();
    for _ in 0..formats {
        is_binary.push(message.try_get_u16().ok()? == 1);
    }
    let values = count(&mut message)?;
    let mut parameters = Vec::new();
    for index in 0..usize::from(values) {
        let length = message.try_get_i32().ok()?;
        let Ok(length) = usize::try_from(length) else {
            parameters.push(SqlParameter::Null);
            continue;
        };
        if length > message.len() {
            return None;
        }
        let value = message.split_to(length);
        // One format is that of all values.
        let format = match is_binary[..] {
            [] => false,
            [all] => all,
            _ => is_binary.get(index).copied().unwrap_or(false),
        };
        parameters.push(if format {
            SqlParameter::Binary(value)
        } else {
            SqlParameter::Text(value)
        });
    }
    Some((portal, parameters))
}

fn string(message: &mut Bytes) -> Option<Bytes> {
    let end = memchr::memchr(0, message)?;
    let text = message.split_to(end);
    message.advance(1);
    Some(text)
}

fn count(message: &mut Bytes) -> Option<u16> {
    message.try_get_u16().ok()
}

/// What a client's message asks for.
pub(super) fn request(message: u32) -> SqlRequest {
    match u8::try_from(message) {
        Ok(b'Q') => SqlRequest::Query,
        Ok(b'P') => SqlRequest::Prepare,
        Ok(b'B') => SqlRequest::Bind,
        Ok(b'E') => SqlRequest::Execute,
        Ok(b'F') => SqlRequest::Call,
        Ok(b'S') => SqlRequest::Sync,
        _ => SqlRequest::Other,
    }
}

/// The fields of an ErrorResponse: each a byte and a string.
pub(super) fn error(payload: &[u8]) -> SqlError {
    let field = |kind: u8| {
        let mut fields = payload.split(|&byte| byte == 0);
        fields.find_map(|field| field.strip_prefix(&[kind]))
    };
    SqlError {
        code: Arc::from(String::from_utf8_lossy(field(b'C').unwrap_or(b"XXXXX"))),
        message: Bytes::copy_from_slice(field(b'M').unwrap_or_default()),
    }
}

/// The number of rows of a completed command: from version 13 on a `QueryCompletion`, whose number of the tag is
/// below 256, with the number of rows at offset 8; before, a tag such as `INSERT 0 5`.
pub(super) fn rows(completion: &[u8]) -> Option<u64> {
    let (tag, rest) = completion.split_first_chunk()?;
    if u32::from_ne_bytes(*tag) < 256 {
        return Some(u64::from_ne_bytes(*rest.get(4..)?.first_chunk()?));
    }
    let tag = completion.split(|&byte| byte == 0).next()?;
    let number = str::from_utf8(tag).ok()?.rsplit(' ').next()?;
    number.parse().ok()
}

/// What the title of a process says, which the server writes: `postgres: 15/main: user database host(port) idle`.
pub(super) fn session_of_process(pid: u32) -> Session {
    let title = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    session_of_title(&title).unwrap_or_default()
}

fn session_of_title(title: &[u8]) -> Option<Session> {
    let title = title.split(|&byte| byte == 0).next()?;
    let title = str::from_utf8(title).ok()?.strip_prefix("postgres: ")?;
    // The name of the cluster, if there is one, ends with a colon.
    let rest = match title.split_once(": ") {
        Some((cluster, rest)) if !cluster.contains(' ') => rest,
        _ => title,
    };
    let mut words = rest.split(' ');
    let (user, database, client) = (words.next()?, words.next()?, words.next()?);
    // Names may have blanks: then the third word is not the client.
    let is_client = client == "[local]" || client.ends_with(')') && client.contains('(');
    is_client.then(|| Session {
        user: Some(Arc::from(user)),
        database: Some(Arc::from(database)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(portal: &str, formats: &[u16], values: &[Option<&[u8]>]) -> Bytes {
        let mut message = Vec::new();
        message.extend(portal.as_bytes());
        message.extend(b"\0statement\0");
        message.extend(u16::try_from(formats.len()).unwrap().to_be_bytes());
        for format in formats {
            message.extend(format.to_be_bytes());
        }
        message.extend(u16::try_from(values.len()).unwrap().to_be_bytes());
        for value in values {
            match value {
                Some(value) => {
                    message.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                    message.extend(*value);
                }
                None => message.extend((-1_i32).to_be_bytes()),
            }
        }
        message.extend(0_u16.to_be_bytes());
        Bytes::from(message)
    }

    #[test]
    fn a_portal_keeps_its_values_until_it_is_bound_again() {
        let mut portals = Portals::default();
        portals.bind(bind("", &[0, 1], &[Some(b"a"), Some(b"\x01"), None]));
        let values = [
            SqlParameter::Text(Bytes::from_static(b"a")),
            SqlParameter::Binary(Bytes::from_static(b"\x01")),
            SqlParameter::Null,
        ];
        assert_eq!(portals.execute(b"\0\0\0\0\0"), (values.to_vec(), false));
        assert_eq!(portals.execute(b"\0\0\0\0\0"), (values.to_vec(), true));
        portals.bind(bind("", &[1], &[Some(b"b")]));
        let value = SqlParameter::Binary(Bytes::from_static(b"b"));
        assert_eq!(portals.execute(b"\0"), (vec![value], false));
        assert_eq!(portals.execute(b"other\0"), (Vec::new(), false));
        assert_eq!(portals.held(), bind("", &[1], &[Some(b"b")]).len());
    }

    #[test]
    fn a_message_that_is_too_short_has_no_values() {
        let message = bind("p", &[0], &[Some(b"abc")]);
        for length in 0..message.len() - 2 {
            assert_eq!(bound(message.slice(..length)), None, "{length}");
        }
    }

    #[test]
    fn rows_are_read_in_both_forms() {
        let mut completion = [0; 64];
        completion[..4].copy_from_slice(&164_u32.to_ne_bytes());
        completion[8..16].copy_from_slice(&5_u64.to_ne_bytes());
        assert_eq!(rows(&completion), Some(5));
        assert_eq!(rows(b"INSERT 0 12\0garbage"), Some(12));
        assert_eq!(rows(b"CREATE TABLE\0 3"), None);
        assert_eq!(rows(b"ab"), None);
    }

    #[test]
    fn an_error_has_a_code_and_a_message() {
        let found = error(b"SERROR\0VERROR\0C42P01\0Mrelation \"x\" does not exist\0P15\0\0");
        assert_eq!(&*found.code, "42P01");
        assert_eq!(&found.message[..], b"relation \"x\" does not exist");
    }

    #[test]
    fn a_title_has_user_and_database() {
        let session = |user: &str, database: &str| {
            Some(Session {
                user: Some(Arc::from(user)),
                database: Some(Arc::from(database)),
            })
        };
        assert_eq!(
            session_of_title(b"postgres: bob shop [local] idle\0\0\0"),
            session("bob", "shop")
        );
        assert_eq!(
            session_of_title(b"postgres: 15/main: bob shop 127.0.0.1(5123) SELECT"),
            session("bob", "shop")
        );
        assert_eq!(session_of_title(b"postgres: two words shop [local] idle"), None);
        assert_eq!(session_of_title(b"postgres: walwriter "), None);
        assert_eq!(session_of_title(b"/usr/bin/psql"), None);
    }
}
