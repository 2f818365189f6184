//! HTTP/1 messages: the head as on the wire, the content decoded.

use crate::format::text::body;
use crate::format::text::page::Page;
use crate::message::{Http1Message, Part};

pub(super) fn write(message: &Http1Message, page: &mut Page<'_>) {
    page.bytes(&message.head);
    body::write(&message.body, message.part, page);
    if !message.trailers.is_empty() {
        page.end_line();
        page.bytes(&message.trailers);
    }
    for anomaly in &message.anomalies {
        page.mark(format_args!("{anomaly}"));
    }
    match message.part {
        Part::First | Part::Continued { final_part: false } => body::mark_progress(&message.body, page),
        Part::Whole => body::mark_end(&message.body, page),
        Part::Continued { final_part: true } => {
            body::mark_whole(&message.body, page);
            body::mark_end(&message.body, page);
        }
    }
}
