//! WebSocket messages and control frames, one block each.

use std::borrow::Cow;

use crate::format::text::body;
use crate::format::text::page::Page;
use crate::message::{Body, Part, WebSocketMessage};

const CLOSE: u8 = 8;

pub(super) fn write(message: &WebSocketMessage, page: &mut Page<'_>) {
    page.text(format_args!(
        "\nWebSocket Message\t=>\t{}\n",
        name(message.opcode)
    ));
    if let Some(stream) = message.stream {
        page.text(format_args!("WebSocket StreamID\t=>\t{stream}\n"));
    }
    page.text(format_args!("WebSocket Length\t=>\t{}\n", message.data.len()));
    let mut data = message.data.clone();
    if let (CLOSE, Some(code)) = (message.opcode, data.first_chunk::<2>().copied()) {
        page.text(format_args!(
            "WebSocket Close\t=>\t{}\n",
            u16::from_be_bytes(code)
        ));
        data = data.slice(code.len()..);
    }
    let part = match message.opcode {
        0 => Part::Continued {
            final_part: message.complete,
        },
        _ => Part::Whole,
    };
    let content = Body {
        data,
        complete: message.complete && message.error.is_none(),
        ..Body::default()
    };
    body::write(&content, part, page);
    page.end_line();
    if !message.complete {
        page.mark(format_args!(
            "message incomplete, {} bytes so far",
            message.data.len()
        ));
    }
    if let Some(error) = message.error {
        page.mark(format_args!("{error}"));
    }
}

fn name(opcode: u8) -> Cow<'static, str> {
    Cow::Borrowed(match opcode {
        0 => "CONTINUATION",
        1 => "TEXT",
        2 => "BINARY",
        CLOSE => "CLOSE",
        9 => "PING",
        10 => "PONG",
        _ => return Cow::Owned(format!("RESERVED {opcode}")),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::BodyError;

    fn written(message: &WebSocketMessage) -> String {
        let mut out = Vec::new();
        let mut page = Page::new(&mut out, false);
        write(message, &mut page);
        page.close();
        String::from_utf8(out).unwrap()
    }

    fn message(opcode: u8, data: &'static [u8]) -> WebSocketMessage {
        WebSocketMessage {
            opcode,
            data: Bytes::from_static(data),
            compressed: false,
            frames: 1,
            wire_len: 0,
            payload_len: data.len() as u64,
            complete: true,
            stream: None,
            error: None,
        }
    }

    #[test]
    fn text_close_and_binary() {
        assert_eq!(
            written(&message(1, b"Hello from client")),
            "\nWebSocket Message\t=>\tTEXT\nWebSocket Length\t=>\t17\nHello from client\n"
        );
        assert_eq!(
            written(&message(8, b"\x03\xe8bye")),
            "\nWebSocket Message\t=>\tCLOSE\nWebSocket Length\t=>\t5\nWebSocket Close\t=>\t1000\nbye\n"
        );
        let binary = written(&message(2, b"\0\x01\xff"));
        assert!(binary.contains("00000000  00 01 ff"), "{binary}");
        assert!(binary.contains("binary, 3 bytes"), "{binary}");
        assert_eq!(
            written(&message(9, b"")),
            "\nWebSocket Message\t=>\tPING\nWebSocket Length\t=>\t0\n"
        );
    }

    #[test]
    fn missing_bytes_are_marked() {
        let mut part = message(1, "h\u{e9}".as_bytes());
        part.data = part.data.slice(..2);
        part.complete = false;
        part.stream = Some(7);
        part.error = Some(BodyError::Gap);
        let mut out = Vec::new();
        let mut page = Page::new(&mut out, false);
        write(&part, &mut page);
        page.close();
        assert_eq!(
            out,
            b"\nWebSocket Message\t=>\tTEXT\nWebSocket StreamID\t=>\t7\nWebSocket Length\t=>\t2\nh\xc3\n\
              [ecapture: message incomplete, 2 bytes so far]\n[ecapture: gap in the body]\n"
        );
    }
}
