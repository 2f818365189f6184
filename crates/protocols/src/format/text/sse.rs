//! Server-sent events, one block each.

use crate::format::text::page::Page;
use crate::message::ServerSentEvent;

pub(super) fn write(event: &ServerSentEvent, page: &mut Page<'_>) {
    let name = event.event.as_deref().unwrap_or("message");
    page.text(format_args!("\nServer-Sent Event\t=>\t{name}\n"));
    if let Some(stream) = event.stream {
        page.text(format_args!("Event StreamID\t=>\t{stream}\n"));
    }
    if let Some(id) = &event.id {
        page.text(format_args!("Event ID\t=>\t{id}\n"));
    }
    if let Some(retry) = event.retry {
        page.text(format_args!("Event Retry\t=>\t{retry}\n"));
    }
    page.text(format_args!("Event Length\t=>\t{}\n", event.data.len()));
    page.bytes(event.data.as_bytes());
    page.end_line();
    if event.truncated {
        page.mark(format_args!("event cut at the limit"));
    }
}
