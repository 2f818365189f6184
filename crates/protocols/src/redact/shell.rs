//! Passwords in command lines.

use super::{Dialect, Mask, credentials, names_secret, passwords};

/// Options, without their hyphens, whose argument is a secret, beside names that end as
/// [`names_secret`] says.
const OPTIONS: [&[u8]; 3] = [b"pass", b"auth", b"proxy-user"];
/// Programs whose `-p` has the password directly behind it.
const WITH_PASSWORD: [&[u8]; 10] = [
    b"mysql",
    b"mariadb",
    b"mysqldump",
    b"mariadb-dump",
    b"mysqladmin",
    b"mariadb-admin",
    b"mysqlimport",
    b"mysqlshow",
    b"mysqlslap",
    b"sshpass",
];
/// Programs whose `-u` has `user:password`.
const WITH_USER: [&[u8]; 2] = [b"curl", b"wget"];
/// Options of a program that are looked at to find its name: more words are never names.
const SEPARATORS: &[u8] = b"|;&(){}`\n";

/// Masks what is known to be a password in a command line: `PASSWORD=…`, `--password=…`, `--password …`, `-p…` of
/// the programs of MariaDB, `-u user:…` of curl, `Authorization:` headers, the passwords of URLs, and those in
/// statements in quotes. `None` if there is nothing to mask.
pub fn command_line(line: &[u8]) -> Option<Vec<u8>> {
    let mut mask = Mask::default();
    let mut program: &[u8] = b"";
    let mut expects_program = true;
    let mut secret = Secret::None;
    for word in Words::of(line) {
        if word.separates {
            expects_program = true;
            secret = Secret::None;
            continue;
        }
        let text = &line[word.start..word.end];
        let content = unquoted(text);
        let inner = word.start + (text.len() - content.len()) / 2;
        match std::mem::take(&mut secret) {
            Secret::Whole => {
                mask.hide(line, inner..inner + content.len());
                continue;
            }
            Secret::AfterColon => {
                if let Some(colon) = memchr::memchr(b':', content) {
                    mask.hide(line, inner + colon + 1..inner + content.len());
                }
                continue;
            }
            Secret::None => {}
        }
        if expects_program && !is_assignment(text) && !matches!(content, b"sudo" | b"env" | b"exec" | b"time")
        {
            program = content.rsplit(|&byte| byte == b'/').next().unwrap_or(content);
            expects_program = false;
        }
        secret = option(program, content);
        let starts_attached = content.starts_with(b"-p") && content.len() > 2;
        if starts_attached && WITH_PASSWORD.contains(&program) {
            mask.hide(line, inner + 2..inner + content.len());
            continue;
        }
        let dialect = if program == b"psql" {
            Dialect::Postgres
        } else {
            Dialect::MySql
        };
        if content.len() < text.len()
            && let Some(statement) = passwords(content, dialect).text
        {
            mask.replace(line, inner..inner + content.len(), &statement);
            continue;
        }
        if let Some(value) = header(content) {
            mask.hide(line, inner + value..inner + content.len());
            continue;
        }
        for range in credentials::in_text(text) {
            mask.hide(line, word.start + range.start..word.start + range.end);
        }
    }
    mask.finish(line)
}

/// What of the next word is a secret.
#[derive(Debug, Clone, Copy, Default)]
enum Secret {
    #[default]
    None,
    Whole,
    AfterColon,
}

/// What an option, or a program, says of the word behind it.
fn option(program: &[u8], word: &[u8]) -> Secret {
    if matches!(word, b"-u" | b"--user" | b"-U") && WITH_USER.contains(&program) {
        return Secret::AfterColon;
    }
    if word == b"-p" && program == b"sshpass" {
        return Secret::Whole;
    }
    match word.strip_prefix(b"--") {
        Some(name) if !name.contains(&b'=') && (names_secret(name) || OPTIONS.contains(&name)) => {
            Secret::Whole
        }
        _ => Secret::None,
    }
}

/// Where in a word the value of a header begins that is a credential.
fn header(word: &[u8]) -> Option<usize> {
    const HEADERS: [&[u8]; 4] = [
        b"authorization:",
        b"proxy-authorization:",
        b"x-api-key:",
        b"cookie:",
    ];
    let found = HEADERS
        .iter()
        .find(|name| word.len() > name.len() && word[..name.len()].eq_ignore_ascii_case(name))?;
    let blanks = word[found.len()..]
        .iter()
        .take_while(|byte| byte.is_ascii_whitespace());
    Some(found.len() + blanks.count())
}

fn is_assignment(word: &[u8]) -> bool {
    let name = word.split(|&byte| byte == b'=').next().unwrap_or(word);
    name.len() < word.len()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// A word without the quotes around it.
fn unquoted(word: &[u8]) -> &[u8] {
    match word {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => word,
    }
}

#[derive(Debug)]
struct Word {
    start: usize,
    end: usize,
    /// It is a sign between two commands.
    separates: bool,
}

/// Splits a line into words, with their quotes.
struct Words<'line> {
    line: &'line [u8],
    at: usize,
}

impl<'line> Words<'line> {
    fn of(line: &'line [u8]) -> Self {
        Self { line, at: 0 }
    }
}

impl Iterator for Words<'_> {
    type Item = Word;

    fn next(&mut self) -> Option<Word> {
        while matches!(self.line.get(self.at), Some(b' ' | b'\t' | b'\r')) {
            self.at += 1;
        }
        let start = self.at;
        let first = *self.line.get(start)?;
        if SEPARATORS.contains(&first) {
            self.at += 1;
            return Some(Word {
                start,
                end: self.at,
                separates: true,
            });
        }
        let mut quote = None;
        while let Some(&byte) = self.line.get(self.at) {
            match quote {
                Some(open) => {
                    if byte == open {
                        quote = None;
                    } else if byte == b'\\' && open == b'"' {
                        self.at += 1;
                    }
                }
                None if matches!(byte, b'\'' | b'"') => quote = Some(byte),
                None if byte == b'\\' => self.at += 1,
                None if byte.is_ascii_whitespace() || SEPARATORS.contains(&byte) => break,
                None => {}
            }
            self.at += 1;
        }
        self.at = self.at.min(self.line.len());
        Some(Word {
            start,
            end: self.at,
            separates: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        let masked = command_line(line.as_bytes());
        String::from_utf8(masked.unwrap_or_else(|| line.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn passwords_in_arguments_are_masked_and_nothing_else() {
        for (line, expected) in [
            ("mysql -u root -ps3cret db", "mysql -u root -p*** db"),
            ("mysql -p db", "mysql -p db"),
            (
                "/usr/bin/mariadb-dump -p'a b' x",
                "/usr/bin/mariadb-dump -p'a b' x".replace("'a b'", "***").as_str(),
            ),
            ("mkdir -pv a; ssh -p22 h", "mkdir -pv a; ssh -p22 h"),
            ("sshpass -p secret ssh h", "sshpass -p *** ssh h"),
            (
                "PGPASSWORD=x psql; MYSQL_PWD='a b' mysql",
                "PGPASSWORD=*** psql; MYSQL_PWD='***' mysql",
            ),
            ("export DB_PASSWORD=\"x y\" A=1", "export DB_PASSWORD=\"***\" A=1"),
            (
                "tool --password=x --token y --user z",
                "tool --password=*** --token *** --user z",
            ),
            (
                "curl -u bob:secret https://a:b@h/",
                "curl -u bob:*** https://a:***@h/",
            ),
            (
                "curl -H 'Authorization: Bearer abc' h",
                "curl -H 'Authorization: ***' h",
            ),
            ("sudo mysql -px && echo -px", "sudo mysql -p*** && echo -px"),
            (
                "git clone https://user:tok@h/r.git",
                "git clone https://user:***@h/r.git",
            ),
            ("echo hello", "echo hello"),
            ("mysql -p'open", "mysql -p***"),
            (
                "mariadb -e \"create user u identified by 'x'\"",
                "mariadb -e \"create user u identified by ***\"",
            ),
            (
                "psql -c \"ALTER ROLE u PASSWORD 'x'\"",
                "psql -c \"ALTER ROLE u PASSWORD ***\"",
            ),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }
}
