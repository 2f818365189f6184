//! What a message is, whatever its protocol.

use super::{Content, Field, Http1Kind, Http2Kind, Message, Part};

impl Message {
    /// Returns true for a request.
    pub fn is_request(&self) -> bool {
        match &self.content {
            Content::Http1(message) => message.kind == Http1Kind::Request,
            Content::Http2(message) => message.kind == Http2Kind::Request,
            _ => false,
        }
    }

    /// Returns the memory that its content takes, about.
    pub fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.content {
                Content::Http1(message) => {
                    message.head.len() + message.body.data.len() + message.trailers.len()
                }
                Content::Http2(message) => {
                    let fields = message.fields.iter().chain(&message.trailers);
                    message.body.data.len() + fields.map(Field::listed_bytes).sum::<usize>()
                }
                _ => 0,
            }
    }

    /// Returns its bytes on the wire, as far as they are known of one message: without HTTP/2 headers.
    pub fn wire_bytes(&self) -> u64 {
        match &self.content {
            Content::Http1(message) => message.head.len() as u64 + message.body.wire_len,
            Content::Http2(message) => message.body.wire_len,
            _ => 0,
        }
    }

    /// Returns true if it is the end of a request or response, and no byte of its body is missing.
    pub fn is_complete(&self) -> bool {
        let (body, part) = match &self.content {
            Content::Http1(message) => (&message.body, message.part),
            Content::Http2(message) => (&message.body, message.part),
            _ => return false,
        };
        body.complete && matches!(part, Part::Whole | Part::Continued { final_part: true })
    }

    /// Returns the status code of a response.
    pub fn status(&self) -> Option<u16> {
        match &self.content {
            Content::Http1(message) => match message.kind {
                Http1Kind::Response { status } => Some(status),
                Http1Kind::Request => None,
            },
            Content::Http2(message) => {
                let is_status = |field: &&Field| field.name.as_deref() == Some(b":status");
                let field = message.fields.iter().find(is_status)?;
                str::from_utf8(field.value.as_deref()?).ok()?.parse().ok()
            }
            _ => None,
        }
    }
}
