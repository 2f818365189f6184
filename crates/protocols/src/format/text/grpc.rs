use crate::format::text::page::Page;
use crate::message::GrpcMessage;

pub(super) fn write(_message: &GrpcMessage, _page: &mut Page<'_>) {}
