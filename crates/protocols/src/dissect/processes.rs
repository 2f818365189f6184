//! The processes that our own captures name in the comments of packets: `from pid 7 (curl) to pid 9 (nginx)`.

use crate::event::{Comm, Process};

/// Sender and receiver, where they are named.
pub(super) fn processes(comment: &[u8]) -> [Option<Process>; 2] {
    let comment = std::str::from_utf8(comment).unwrap_or_default();
    let (from, to) = match comment.split_once(") to pid ") {
        Some((from, to)) => (from.strip_prefix("from pid "), Some(to)),
        None => (comment.strip_prefix("from pid "), comment.strip_prefix("to pid ")),
    };
    [from, to].map(|text| process(text?))
}

/// `7 (curl)`, and whatever follows; the closing parenthesis may be cut.
fn process(text: &str) -> Option<Process> {
    let (pid, comm) = text.split_once(" (")?;
    // What follows the process begins with a semicolon.
    let comm = comm.split_once("); ").map_or(comm, |(comm, _)| comm);
    let pid = pid.parse().ok()?;
    Some(Process {
        pid,
        tid: pid,
        uid: None,
        comm: Comm::from(comm.strip_suffix(')').unwrap_or(comm)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read_as_they_are_written() {
        let read = |comment: &str| {
            processes(comment.as_bytes())
                .map(|process| process.map(|Process { pid, comm, .. }| format!("{pid} {comm}")))
        };
        let named = |from: Option<&str>, to: Option<&str>| [from, to].map(|name| name.map(str::to_owned));
        assert_eq!(read("from pid 7 (curl)"), named(Some("7 curl"), None));
        assert_eq!(read("to pid 9 (a (b))"), named(None, Some("9 a (b)")));
        assert_eq!(
            read("from pid 7 (curl) to pid 9 (nginx)"),
            named(Some("7 curl"), Some("9 nginx"))
        );
        assert_eq!(
            read("to pid 7 (curl); 10 bytes are missing before this"),
            named(None, Some("7 curl"))
        );
        for other in ["", "a comment", "from pid x (y)", "from pid 99999999999 (y)"] {
            assert_eq!(read(other), named(None, None), "{other}");
        }
    }
}
