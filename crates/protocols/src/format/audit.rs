//! Who captured what, when and with which settings: the start of every file that a run writes.
//!
//! All formats write the same JSON object, in one line and as ASCII-safe as every JSON that is written here:
//!
//! ```text
//! {"program":"ecapture 0.1.0","time":"2026-11-28T14:20:05.123456789Z","uid":0,"user":"root","login":"alice",
//!  "host":"web1","pid":4711,"command":"ecapture tls -o jsonl:events.jsonl","privacy":"full","redacted":false}
//! ```

use super::json_lines::object::Object;
use super::time;
use crate::privacy::{Level, mask_urls};
use crate::redact;

/// The start of a text: [`Audit::write_mark`] writes it, and no captured line of a file has it.
pub(super) const MARK: &[u8] = b"[ecapture: audit ";

/// One run, as far as one of its files is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The program with its version.
    pub program: &'static str,
    /// When the run began, in nanoseconds since 1970.
    pub time_ns: i64,
    /// The user who runs the program (real user id).
    pub user: User,
    /// The user who logged in, who may have become another one since.
    pub login: Option<User>,
    /// The user who called `sudo`, by its environment.
    pub sudo_user: Option<String>,
    /// Name of this host.
    pub host: Option<String>,
    /// Process id of the program.
    pub pid: u32,
    /// The command line, without the secrets in it ([`command_line`]).
    pub command: String,
    /// How much of each message is shown.
    pub privacy: Level,
    /// Secrets are masked.
    pub redacted: bool,
    /// The filter expression that selects messages.
    pub filter: Option<String>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub id: u32,
    /// Its name, if it has one.
    pub name: Option<String>,
}

impl Audit {
    /// Appends the JSON object.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.string("program", self.program);
        let time = object.member("time");
        time.push(b'"');
        time::push(self.time_ns, time);
        time.push(b'"');
        object.number("uid", self.user.id);
        let login = self.login.as_ref();
        if let Some(login) = login {
            object.number("login_uid", login.id);
        }
        let texts = [
            ("user", &self.user.name),
            ("login", &login.and_then(|login| login.name.clone())),
            ("sudo_user", &self.sudo_user),
            ("host", &self.host),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                object.string(name, text);
            }
        }
        object.number("pid", self.pid);
        object.string("command", &self.command);
        object.string("privacy", self.privacy.as_str());
        object.boolean("redacted", self.redacted);
        if let Some(filter) = &self.filter {
            object.string("filter", filter);
        }
    }

    /// Appends a line of JSON Lines, of the kind `audit`.
    pub(super) fn write_line(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        object.number("v", 1_u64);
        object.string("kind", "audit");
        self.write(object.member("audit"));
        drop(object);
        out.push(b'\n');
    }

    /// Appends a line of text, which begins with [`MARK`].
    pub(super) fn write_mark(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MARK);
        self.write(out);
        out.extend_from_slice(b"]\n");
    }

    /// Returns the comment of a capture of packets.
    pub(super) fn comment(&self) -> String {
        let mut text = b"audit ".to_vec();
        self.write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Puts a backslash before the lines of `out` from `start` on that look like an audit line.
pub(super) fn protect_mark(out: &mut Vec<u8>, start: usize) {
    // Hardly any text has one.
    if memchr::memmem::find(&out[start..], MARK).is_none() {
        return;
    }
    let text = out.split_off(start);
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(MARK) {
            out.push(b'\\');
        }
        out.extend_from_slice(line);
    }
}

/// Joins the words of a command line as a shell would read them, and masks the secrets that are known as such:
/// passwords, tokens, credentials and secret parameters of URLs.
pub fn command_line<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    // What is behind `--` is the command line of another program.
    let mut lines = vec![String::new()];
    for word in words {
        if word == "--" && lines.len() == 1 {
            lines.push(String::new());
        } else if let Some(line) = lines.last_mut() {
            push_word(&masked_word(word), line);
        }
    }
    let lines = lines.iter().map(|line| masked(line));
    lines.collect::<Vec<_>>().join(" -- ")
}

/// Masks the secrets of URLs, and of a word that is a command line itself, as that of `sh -c`.
fn masked_word(word: &str) -> String {
    let urls = mask_urls(word.as_bytes()).map(|masked| String::from_utf8_lossy(&masked).into_owned());
    let word = urls.unwrap_or_else(|| word.to_owned());
    if word.contains(char::is_whitespace) {
        masked(&word)
    } else {
        word
    }
}

fn masked(line: &str) -> String {
    redact::command_line(line.as_bytes()).map_or_else(
        || line.to_owned(),
        |masked| String::from_utf8_lossy(&masked).into_owned(),
    )
}

fn push_word(word: &str, line: &mut String) {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"%+,-./:=@_".contains(&byte);
    if !line.is_empty() {
        line.push(' ');
    }
    if !word.is_empty() && word.bytes().all(is_plain) {
        line.push_str(word);
        return;
    }
    line.push('\'');
    line.push_str(&word.replace('\'', r"'\''"));
    line.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_command_line_are_masked() {
        for (words, expected) in [
            (&["ecapture", "tls", "-p", "5"][..], "ecapture tls -p 5"),
            (
                &["ecapture", "tls", "--listen-token", "hunter2hunter2"],
                "ecapture tls --listen-token ***",
            ),
            (
                &["ecapture", "tls", "--listen-token=hunter2hunter2"],
                "ecapture tls --listen-token=***",
            ),
            (
                &["ecapture", "-o", "otlp:http://h/v1?token=hunter2&x=1"],
                "ecapture -o 'otlp:http://h/v1?token=***&x=1'",
            ),
            (
                &["ecapture", "tls", "--", "curl", "-u", "me:hunter2", "https://h/"],
                "ecapture tls -- curl -u me:*** https://h/",
            ),
            (
                &[
                    "ecapture",
                    "tls",
                    "--",
                    "curl",
                    "-H",
                    "Authorization: Bearer hunter2",
                ],
                "ecapture tls -- curl -H 'Authorization: ***'",
            ),
            (
                &[
                    "ecapture",
                    "tls",
                    "--",
                    "sh",
                    "-c",
                    "curl --user me:hunter2 https://u:hunter2@h/",
                ],
                "ecapture tls -- sh -c 'curl --user me:*** https://***@h/'",
            ),
            (
                &["ecapture", "--filter", "a == 'b'", ""],
                r"ecapture --filter 'a == '\''b'\''' ''",
            ),
        ] {
            let line = command_line(words.iter().copied());
            assert!(!line.contains("hunter2"), "{line}");
            assert_eq!(line, expected);
        }
    }

    #[test]
    fn no_captured_line_is_an_audit_line() {
        let mut out = b"[ecapture: audit {}]\nx".to_vec();
        let start = out.len() - 1;
        out.extend_from_slice(b"\n[ecapture: audit {}]\n [ecapture: audit {}]\n[ecapture: 3 bytes lost]\n");
        protect_mark(&mut out, start);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "[ecapture: audit {}]\nx\n\\[ecapture: audit {}]\n [ecapture: audit {}]\n[ecapture: 3 bytes lost]\n"
        );
    }

    #[test]
    fn an_audit_is_one_line_in_every_form() {
        let audit = Audit {
            program: "ecapture 1",
            time_ns: 1_000_000_001,
            user: User {
                id: 0,
                name: Some("root".into()),
            },
            login: Some(User { id: 1000, name: None }),
            sudo_user: Some("a\nb".into()),
            host: None,
            pid: 7,
            command: "ecapture tls\u{202e}".into(),
            privacy: Level::Metadata,
            redacted: true,
            filter: None,
        };
        let mut out = Vec::new();
        audit.write_line(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            concat!(
                r#"{"v":1,"kind":"audit","audit":{"program":"ecapture 1","time":"1970-01-01T00:00:01.000000001Z","#,
                r#""uid":0,"login_uid":1000,"user":"root","sudo_user":"a\nb","pid":7,"command":"ecapture tls\u202e","#,
                r#""privacy":"metadata","redacted":true}}"#,
                "\n"
            )
        );
        for form in [Audit::write_mark, Audit::write] {
            let mut out = Vec::new();
            form(&audit, &mut out);
            assert!(!out.trim_ascii_end().contains(&b'\n'));
        }
    }
}
