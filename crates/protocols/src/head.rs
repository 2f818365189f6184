//! The lines of an HTTP/1 head as it was captured.

use crate::text::trim_white_space;

/// The parts of a request line (RFC 9112 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RequestLine<'a> {
    pub(crate) method: &'a [u8],
    pub(crate) path: Option<&'a [u8]>,
    pub(crate) authority: Option<&'a [u8]>,
    pub(crate) scheme: Option<&'a [u8]>,
}

impl<'a> RequestLine<'a> {
    /// Parses the start line of a request. The authority of an origin-form target is that of the
    /// Host field, if there is exactly one.
    pub(crate) fn parse(start_line: &'a [u8], fields: &Lines<'a>) -> Option<Self> {
        Self::with_host(start_line, || fields.host())
    }

    /// As [`parse`](Self::parse), with a function that returns the value of the Host field.
    pub(crate) fn with_host(start_line: &'a [u8], host: impl FnOnce() -> Option<&'a [u8]>) -> Option<Self> {
        let (method, target) = split_request_line(start_line)?;
        if method == b"CONNECT" {
            return Some(Self {
                method,
                authority: Some(target),
                ..Self::default()
            });
        }
        if let Some((scheme, rest)) = split_scheme(target) {
            let path = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?'))
                .unwrap_or(rest.len());
            let (authority, path) = rest.split_at(path);
            return Some(Self {
                method,
                path: Some(if path.is_empty() { b"/" } else { path }),
                authority: Some(authority),
                scheme: Some(scheme),
            });
        }
        Some(Self {
            method,
            path: Some(target),
            authority: host(),
            scheme: None,
        })
    }
}

/// Splits a head into its start line and its fields.
pub(crate) fn split_head(head: &[u8]) -> (&[u8], Lines<'_>) {
    // A request line may follow empty lines (RFC 9112 §2.2).
    let blank = head
        .iter()
        .take_while(|byte| matches!(byte, b'\r' | b'\n'))
        .count();
    let head = &head[blank..];
    let end = memchr::memchr(b'\n', head).map_or(head.len(), |end| end + 1);
    let (start_line, fields) = head.split_at(end);
    (without_line_end(start_line), Lines(fields))
}

/// Splits a line into the name up to the colon, with any white space before the colon, and the
/// value without the white space around it (RFC 9110 §5.5). A line without a colon is a name
/// without a value.
pub(crate) fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => (&line[..colon], trim_white_space(&line[colon + 1..])),
        None => (line, &[]),
    }
}

/// The lines of a field section up to its empty line. Folded lines (RFC 9112 §5.2) are one item,
/// with the fold in it; a bare LF ends a line too.
#[derive(Debug, Clone)]
pub(crate) struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    /// Splits a field section.
    pub(crate) const fn of(section: &'a [u8]) -> Self {
        Self(section)
    }

    /// Returns the value of the Host field, if there is exactly one. Most lines are passed by their
    /// first byte.
    fn host(&self) -> Option<&'a [u8]> {
        let mut found = None;
        let mut start = 0;
        let ends = memchr::memchr_iter(b'\n', self.0).chain([self.0.len()]);
        for end in ends {
            let rest = &self.0[start..];
            start = end + 1;
            match rest {
                [b'H' | b'h', ..] => {
                    let (name, value) = Self(rest).next().map(split_field)?;
                    if name.eq_ignore_ascii_case(b"host") && found.replace(value).is_some() {
                        return None;
                    }
                }
                [b'\n', ..] | [b'\r', b'\n', ..] => break,
                _ => {}
            }
        }
        found
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let folds = |end: &usize| matches!(self.0.get(end + 1), Some(b' ' | b'\t'));
        let end = memchr::memchr_iter(b'\n', self.0).find(|end| !folds(end));
        let (line, rest) = self.0.split_at(end.map_or(self.0.len(), |end| end + 1));
        self.0 = rest;
        let line = without_line_end(line);
        if line.is_empty() {
            self.0 = &[];
            return None;
        }
        Some(line)
    }
}

fn without_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Returns the method of a request line.
pub(crate) fn method(start_line: &[u8]) -> Option<&[u8]> {
    split_request_line(start_line).map(|(method, _)| method)
}

/// Splits a request line into method and target. Everything between the first space and the version
/// is the target, even if it contains spaces.
fn split_request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    let (method, rest) = (&line[..space], trim_white_space(&line[space..]));
    let target = match memchr::memrchr(b' ', rest) {
        Some(space) if rest[space + 1..].starts_with(b"HTTP/") => trim_white_space(&rest[..space]),
        _ => rest,
    };
    (!method.is_empty() && !target.is_empty()).then_some((method, target))
}

/// Splits an absolute-form target into its scheme and the text after `://`.
fn split_scheme(target: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', target)?;
    let rest = target[colon..].strip_prefix(b"://")?;
    let scheme = &target[..colon];
    let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.iter().all(is_scheme).then_some((scheme, rest))
}
