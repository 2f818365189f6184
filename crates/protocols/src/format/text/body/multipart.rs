//! Multipart content with a binary part (RFC 2046 §5.1): heads and text parts are shown as they
//! are, binary parts by their size.

use memchr::memmem;

use super::readable;
use crate::format::text::page::Page;
use crate::text::is_text;

/// Longest boundary (RFC 2046 §5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// Writes `data` part by part. Returns false if it is not multipart content.
pub(super) fn write(data: &[u8], content_type: Option<&[u8]>, page: &mut Page<'_>) -> bool {
    let Some(boundary) = content_type.and_then(boundary) else {
        return false;
    };
    let delimiter = [b"--", boundary].concat();
    let finder = memmem::Finder::new(&delimiter);
    let Some(first) = finder.find(data) else {
        return false;
    };
    write_content(&data[..first], page);
    let mut rest = &data[first..];
    while !rest.is_empty() {
        let end = finder
            .find(&rest[delimiter.len()..])
            .map_or(rest.len(), |end| end + delimiter.len());
        write_part(&rest[..end], page);
        rest = &rest[end..];
    }
    true
}

/// Writes one part: delimiter, head, content, and the line end before the next delimiter.
fn write_part(part: &[u8], page: &mut Page<'_>) {
    let head = memmem::find(part, b"\r\n\r\n").map_or(part.len(), |end| end + 4);
    write_content(&part[..head], page);
    let content = part[head..].strip_suffix(b"\r\n").unwrap_or(&part[head..]);
    write_content(content, page);
    page.bytes(&part[head + content.len()..]);
}

fn write_content(content: &[u8], page: &mut Page<'_>) {
    if is_text(content) {
        page.bytes(content);
    } else if let Some(text) = readable::text(content) {
        page.bytes(text.as_bytes());
    } else {
        page.text(format_args!("({} bytes of binary data)", content.len()));
    }
}

/// Returns the `boundary` parameter of a multipart type.
fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let class = content_type.get(..b"multipart/".len())?;
    if !class.eq_ignore_ascii_case(b"multipart/") {
        return None;
    }
    let parameters = content_type.split(|&byte| byte == b';').skip(1);
    let value = parameters.map(<[u8]>::trim_ascii).find_map(|parameter| {
        let (name, value) = parameter.split_at_checked(b"boundary=".len())?;
        name.eq_ignore_ascii_case(b"boundary=").then_some(value)
    })?;
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    let boundary = unquoted.unwrap_or(value);
    (1..=LONGEST_BOUNDARY)
        .contains(&boundary.len())
        .then_some(boundary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_parts_are_shown_and_binary_ones_counted() {
        let data = [
            &b"--x\r\nA: b\r\n\r\ntext\r\n--x\r\nC: d\r\n\r\n"[..],
            &[0xFF; 100],
            b"\r\n--x--\r\n",
        ]
        .concat();
        let mut out = Vec::new();
        let mut page = Page::new(&mut out, false);
        assert!(write(
            &data,
            Some(b"multipart/form-data; boundary=\"x\""),
            &mut page
        ));
        page.close();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "--x\r\nA: b\r\n\r\ntext\r\n--x\r\nC: d\r\n\r\n(100 bytes of binary data)\r\n--x--\r\n"
        );
    }

    #[test]
    fn boundaries() {
        assert_eq!(boundary(b"Multipart/mixed; a=b; Boundary=x y"), Some(&b"x y"[..]));
        assert_eq!(boundary(b"text/plain; boundary=x"), None);
        assert_eq!(boundary(b"multipart/mixed"), None);
    }
}
