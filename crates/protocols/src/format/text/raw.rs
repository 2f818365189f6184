//! Bytes of no known protocol: text as it is, with single odd bytes escaped; anything else as a
//! complete dump. With `--hex` the dump itself is dumped, as in the original.

use crate::format::text::body::readable;
use crate::format::text::hex;
use crate::format::text::page::Page;
use crate::message::Raw;
use crate::text::is_text;

pub(super) fn write(raw: &Raw, page: &mut Page<'_>) {
    if is_text(&raw.data) {
        page.bytes(&raw.data);
    } else if let Some(text) = readable::escaped(&raw.data) {
        page.bytes(text.as_bytes());
    } else {
        hex::dump(&raw.data, page.out());
    }
}
