//! Bytes of no known protocol: text as it is, anything else dumped whole. Where the whole output is
//! dumped, the bytes themselves are; the original dumps its dump once more.

use crate::format::text::hex;
use crate::format::text::page::Page;
use crate::message::Raw;
use crate::text::is_text;

pub(super) fn write(raw: &Raw, page: &mut Page<'_>) {
    if page.whole_binary() || is_text(&raw.data) {
        page.bytes(&raw.data);
    } else {
        hex::dump(&raw.data, page.out());
    }
}
