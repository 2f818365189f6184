use crate::format::text::page::Page;
use crate::message::WebSocketMessage;

pub(super) fn write(_message: &WebSocketMessage, _page: &mut Page<'_>) {}
