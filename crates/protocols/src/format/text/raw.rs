//! Bytes of no known protocol: text as it is, anything else dumped whole. With `--hex` the
//! dump is dumped once more, as the original does.

use crate::format::text::hex;
use crate::format::text::page::Page;
use crate::message::Raw;
use crate::text::is_text;

pub(super) fn write(raw: &Raw, page: &mut Page<'_>) {
    if is_text(&raw.data) {
        page.bytes(&raw.data);
    } else {
        hex::dump(&raw.data, page.out());
    }
}
