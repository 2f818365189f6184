use crate::format::text::page::Page;
use crate::message::{Http2Frame, Http2Message};

pub(super) fn write_frame(_frame: &Http2Frame, _page: &mut Page<'_>) {}

pub(super) fn write_message(_message: &Http2Message, _page: &mut Page<'_>) {}
