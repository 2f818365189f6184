//! Bytes of no known protocol: text as it is, with the odd byte escaped, anything else dumped whole. With `--hex` the
//! dump is dumped once more, as the original does.

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
