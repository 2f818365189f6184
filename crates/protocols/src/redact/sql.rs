//! Literals and passwords in statements.

use super::tokens::{Kind, Token, Tokens};
use super::{Dialect, MASK, Mask, credentials, has_word, names_secret};

/// How deep texts in dollar quotes are read: functions inside functions.
const DEPTH: u32 = 3;

/// A text in which something was masked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Masked {
    /// The text with its masks; `None` if nothing had to be masked.
    pub text: Option<Vec<u8>>,
    /// The value of a parameter is a password.
    pub parameters: bool,
}

/// Masks all strings and numbers of a statement.
pub fn literals(text: &[u8], dialect: Dialect) -> Masked {
    let mut mask = Mask::default();
    for token in Tokens::of(text, dialect) {
        if matches!(
            token.kind,
            Kind::String { .. } | Kind::Dollars { .. } | Kind::Number
        ) {
            mask.hide(text, token.range);
        }
    }
    Masked {
        text: mask.finish(text),
        parameters: true,
    }
}

/// Masks what is known to be a password: behind `IDENTIFIED BY`, `PASSWORD` and names that end in `password`; and
/// in strings the passwords of URLs and of connection strings.
pub fn passwords(text: &[u8], dialect: Dialect) -> Masked {
    passwords_at(text, dialect, DEPTH)
}

/// Masks what an error message quotes of its statement.
pub fn message(text: &[u8]) -> Option<Vec<u8>> {
    let mut mask = Mask::default();
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(|byte| matches!(byte, b'\'' | b'"')) {
        let open = at + found;
        // What is quoted may itself have quotes, so everything up to the last one is masked.
        let quote = text[open];
        let close = memchr::memrchr(quote, text).unwrap_or(open);
        if close > open {
            mask.hide(text, open + 1..close);
        }
        at = close + 1;
    }
    mask.finish(text)
}

/// What the tokens so far say of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Nothing,
    /// Behind `IDENTIFIED`: `BY`, `AS` and `USING` come before the password.
    Identified,
    /// Behind `PASSWORD`, or what may be between it and its value.
    Password {
        identified: bool,
    },
    /// Behind `PASSWORD FOR`: a user, then `=`.
    PasswordFor,
    /// Behind a value that was masked: strings side by side are one string.
    Value {
        identified: bool,
    },
}

fn passwords_at(text: &[u8], dialect: Dialect, depth: u32) -> Masked {
    let mut mask = Mask::default();
    let mut parameters = false;
    let mut state = State::Nothing;
    let mut has_text_of_statement = None;
    for token in Tokens::of(text, dialect) {
        let word = &text[token.range.clone()];
        let is_first_execute = *has_text_of_statement.get_or_insert_with(|| {
            [&b"prepare"[..], b"execute"]
                .iter()
                .any(|first| word.eq_ignore_ascii_case(first))
        });
        let expects = matches!(state, State::Password { .. });
        match token.kind {
            Kind::Parameter if expects => parameters = true,
            Kind::Number if expects => mask.hide(text, token.range.clone()),
            Kind::String { .. } | Kind::Dollars { .. } if expects || matches!(state, State::Value { .. }) => {
                mask.hide(text, token.range.clone());
            }
            Kind::String { inner } => {
                let content = &text[inner.0..inner.1];
                if is_first_execute && (has_word(content, b"password") || has_word(content, b"identified")) {
                    mask.hide(text, token.range.clone());
                } else {
                    hide_credentials(text, inner, &mut mask);
                }
            }
            Kind::Dollars { inner } if depth > 0 => {
                let found = passwords_at(&text[inner.0..inner.1], dialect, depth - 1);
                parameters |= found.parameters;
                if let Some(content) = found.text {
                    mask.replace(text, inner.0..inner.1, &content);
                }
            }
            Kind::Dollars { .. } => mask.hide(text, token.range.clone()),
            _ => {}
        }
        state = state.after(&token, word);
    }
    Masked {
        text: mask.finish(text),
        parameters,
    }
}

fn hide_credentials(text: &[u8], inner: (usize, usize), mask: &mut Mask) {
    for range in credentials::in_text(&text[inner.0..inner.1]) {
        mask.hide(text, inner.0 + range.start..inner.0 + range.end);
    }
}

impl State {
    fn after(self, token: &Token, word: &[u8]) -> Self {
        let identified = matches!(
            self,
            Self::Identified | Self::Password { identified: true } | Self::Value { identified: true }
        );
        let rest = if identified {
            Self::Identified
        } else {
            Self::Nothing
        };
        match token.kind {
            Kind::Word | Kind::Name => self.after_word(token, word, identified, rest),
            Kind::Sign(b';') => Self::Nothing,
            Kind::Sign(b'=') if self == Self::PasswordFor => Self::Password { identified },
            Kind::Sign(b'=' | b'(' | b':' | b'@') if matches!(self, Self::Password { .. }) => self,
            _ if self == Self::PasswordFor => self,
            Kind::String { .. } | Kind::Dollars { .. } | Kind::Number | Kind::Parameter
                if matches!(self, Self::Password { .. } | Self::Value { .. }) =>
            {
                Self::Value { identified }
            }
            _ => rest,
        }
    }

    fn after_word(self, token: &Token, word: &[u8], identified: bool, rest: Self) -> Self {
        let is = |other: &[u8]| word.eq_ignore_ascii_case(other);
        let bare = if token.kind == Kind::Name && word.len() >= 2 {
            &word[1..word.len() - 1]
        } else {
            word
        };
        if is(b"identified") {
            return Self::Identified;
        }
        if self == Self::PasswordFor {
            return self;
        }
        if names_secret(bare) {
            return Self::Password { identified };
        }
        if identified && (is(b"by") || is(b"as") || is(b"using") || is(b"replace")) {
            return Self::Password { identified };
        }
        if matches!(self, Self::Password { .. }) {
            if is(b"for") {
                return Self::PasswordFor;
            }
            // `PASSWORD BY`, `E'…'`, `_utf8'…'`, `password LIKE …`
            let may_be_between = [
                &b"by"[..],
                b"as",
                b"to",
                b"like",
                b"in",
                b"is",
                b"e",
                b"n",
                b"x",
                b"b",
                b"u",
            ];
            if may_be_between.iter().any(|between| is(between)) || word.starts_with(b"_") {
                return self;
            }
        }
        rest
    }
}

impl Masked {
    /// The text to show: `text` itself if nothing was masked.
    pub fn shown<'a>(&'a self, text: &'a [u8]) -> &'a [u8] {
        self.text.as_deref().unwrap_or(text)
    }
}

const _: () = assert!(MASK.len() == 3);

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, dialect: Dialect) -> String {
        String::from_utf8(
            passwords(text.as_bytes(), dialect)
                .shown(text.as_bytes())
                .to_vec(),
        )
        .unwrap()
    }

    fn bare(text: &str, dialect: Dialect) -> String {
        String::from_utf8(literals(text.as_bytes(), dialect).shown(text.as_bytes()).to_vec()).unwrap()
    }

    #[test]
    fn passwords_of_mariadb_are_masked_and_nothing_else() {
        for (text, expected) in [
            (
                "CREATE USER 'u'@'%' IDENTIFIED BY 's3\\'cret'",
                "CREATE USER 'u'@'%' IDENTIFIED BY ***",
            ),
            (
                "create user u identified by password '*9A1'; select 'x'",
                "create user u identified by password ***; select 'x'",
            ),
            (
                "ALTER USER u@h IDENTIFIED VIA mysql_native_password USING 'a' OR ed25519 USING PASSWORD(\"b\")",
                "ALTER USER u@h IDENTIFIED VIA mysql_native_password USING *** OR ed25519 USING PASSWORD(***)",
            ),
            (
                "GRANT ALL ON *.* TO u IDENTIFIED BY 'x' REQUIRE SUBJECT 'y'",
                "GRANT ALL ON *.* TO u IDENTIFIED BY *** REQUIRE SUBJECT 'y'",
            ),
            (
                "SET PASSWORD FOR 'bob'@'%' = PASSWORD('x')",
                "SET PASSWORD FOR 'bob'@'%' = PASSWORD(***)",
            ),
            ("SET PASSWORD = 'x'", "SET PASSWORD = ***"),
            (
                "CHANGE MASTER TO MASTER_HOST='h', MASTER_PASSWORD='p', MASTER_PORT=3306",
                "CHANGE MASTER TO MASTER_HOST='h', MASTER_PASSWORD=***, MASTER_PORT=3306",
            ),
            ("SELECT 'a' /* password */, 'b'", "SELECT 'a' /* password */, 'b'"),
            (
                "SELECT password FROM users WHERE name='bob'",
                "SELECT password FROM users WHERE name='bob'",
            ),
            (
                "UPDATE users SET `password` = 'x' WHERE id = 5",
                "UPDATE users SET `password` = *** WHERE id = 5",
            ),
            (
                "/*!50000 ALTER USER u IDENTIFIED BY 'x' */",
                "/*!50000 ALTER USER u IDENTIFIED BY *** */",
            ),
            (
                "PREPARE s FROM 'ALTER USER u IDENTIFIED BY ''x'''",
                "PREPARE s FROM ***",
            ),
            ("SET PASSWORD = 'unterminated", "SET PASSWORD = ***"),
            ("SELECT 1", "SELECT 1"),
        ] {
            assert_eq!(shown(text, Dialect::MySql), expected);
        }
    }

    #[test]
    fn passwords_of_postgres_are_masked_and_nothing_else() {
        for (text, expected) in [
            (
                "ALTER ROLE r WITH PASSWORD 'x' VALID UNTIL 'y'",
                "ALTER ROLE r WITH PASSWORD *** VALID UNTIL 'y'",
            ),
            (
                "CREATE USER u ENCRYPTED PASSWORD E'a\\'b'",
                "CREATE USER u ENCRYPTED PASSWORD E***",
            ),
            ("ALTER USER u PASSWORD 'a'\n'b'", "ALTER USER u PASSWORD ***\n***"),
            (
                "ALTER ROLE r PASSWORD NULL; SELECT 'x'",
                "ALTER ROLE r PASSWORD NULL; SELECT 'x'",
            ),
            (
                "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'bob', password 'secret')",
                "CREATE USER MAPPING FOR u SERVER s OPTIONS (user 'bob', password ***)",
            ),
            (
                "SELECT dblink_connect('host=h password=secret dbname=d')",
                "SELECT dblink_connect('host=h password=*** dbname=d')",
            ),
            (
                "COPY t FROM PROGRAM 'curl https://u:p@h/x'",
                "COPY t FROM PROGRAM 'curl https://u:***@h/x'",
            ),
            (
                "DO $$ BEGIN ALTER ROLE r PASSWORD 'x'; END $$",
                "DO $$ BEGIN ALTER ROLE r PASSWORD ***; END $$",
            ),
            ("ALTER ROLE r PASSWORD $a$it's$a$", "ALTER ROLE r PASSWORD ***"),
            (
                "SELECT \"password\" FROM t WHERE a = 'b'",
                "SELECT \"password\" FROM t WHERE a = 'b'",
            ),
        ] {
            assert_eq!(shown(text, Dialect::Postgres), expected);
        }
        assert!(passwords(b"UPDATE u SET password = $1", Dialect::Postgres).parameters);
        assert!(!passwords(b"UPDATE u SET name = $1", Dialect::Postgres).parameters);
        assert!(passwords(b"SET PASSWORD = ?", Dialect::MySql).parameters);
    }

    #[test]
    fn all_literals_are_masked() {
        for (text, expected) in [
            (
                "SELECT 'a''b', N'c', \"d\\\"e\", 1, -2.5e-3, 0xFF, x'41', t1.c2 FROM `t 3` -- '4'",
                "SELECT ***, N***, ***, ***, -***, ***, x***, t1.c2 FROM `t 3` -- '4'",
            ),
            (
                "INSERT INTO t VALUES (1,'a'),(2,NULL)#3",
                "INSERT INTO t VALUES (***,***),(***,NULL)#3",
            ),
            ("SELECT 5--1", "SELECT ***--***"),
        ] {
            assert_eq!(bare(text, Dialect::MySql), expected);
        }
        for (text, expected) in [
            (
                "SELECT 'a\\', \"c\", E'd\\'e', $1, $$f$$, $x$g$$h$x$ /* /* 1 */ 2 */ + 3",
                "SELECT ***, \"c\", E***, $1, ***, *** /* /* 1 */ 2 */ + ***",
            ),
            ("SELECT $tag$ open", "SELECT ***"),
        ] {
            assert_eq!(bare(text, Dialect::Postgres), expected);
        }
    }

    #[test]
    fn messages_lose_what_they_quote() {
        let text = b"You have an error near 'it's 5' at line 1";
        assert_eq!(message(text).unwrap(), b"You have an error near '***' at line 1");
        assert_eq!(message(b"plain"), None);
        assert_eq!(message(b"don't"), None);
    }
}
