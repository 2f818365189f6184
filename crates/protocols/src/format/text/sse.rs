use crate::format::text::page::Page;
use crate::message::ServerSentEvent;

pub(super) fn write(event: &ServerSentEvent, page: &mut Page<'_>) {
    page.text(format_args!("data: {}\n", event.data));
}
