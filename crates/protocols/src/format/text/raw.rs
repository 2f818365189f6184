//! Bytes of no known protocol: text as it is, anything else dumped whole.

use crate::format::text::page::Page;
use crate::format::text::{body, hex};
use crate::message::Raw;

pub(super) fn write(raw: &Raw, page: &mut Page<'_>) {
    if page.whole_binary() || body::is_text(&raw.data) {
        page.bytes(&raw.data);
    } else {
        hex::dump(&raw.data, page.out());
    }
}
