//! Decodes a file of bytes as one direction of one connection and prints its messages.
//!
//! ```sh
//! printf 'GET / HTTP/1.1\r\nHost: h\r\n\r\n' | cargo run -p ecapture-protocols --example dump -- --json -
//! ```
#![expect(clippy::print_stderr, reason = "how a program tells its user what went wrong")]

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::{env, fs};

use bytes::Bytes;
use ecapture_protocols::format::{JsonLines, Text};
use ecapture_protocols::{
    Comm, Direction, Format, Options, Origin, Output, Process, StreamOrigin, View, stream_decoder,
};

const USAGE: &str = "usage: dump [--json | --hex] FILE   (FILE - is the standard input)";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (view, format): (View, Box<dyn Format>) = match arguments[..] {
        ["--json", _] => (View::Structured { frames: false }, Box::new(JsonLines::default())),
        ["--hex", _] => (
            View::Text,
            Box::new(Text {
                hex: true,
                ..Text::default()
            }),
        ),
        [file] if !file.starts_with("--") => (View::Text, Box::new(Text::default())),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::FAILURE;
        }
    };
    let file = arguments.last().copied().unwrap_or("-");
    match read(file).and_then(|bytes| dump(&bytes.into(), view, &*format)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(file: &str) -> io::Result<Vec<u8>> {
    if file != "-" {
        return fs::read(file);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn dump(bytes: &Bytes, view: View, format: &dyn Format) -> io::Result<()> {
    let options = Options {
        view,
        ..Options::default()
    };
    let mut decoder = stream_decoder(options);
    let mut output = Output::default();
    decoder.feed(bytes, 0, &mut output);
    decoder.close(&mut output);
    let written = format.formatted(&origin(), &output.messages);
    io::stdout().write_all(&written)
}

/// A file has no process; its bytes are treated as written by this one.
fn origin() -> Origin {
    let pid = std::process::id();
    let process = Process {
        pid,
        tid: pid,
        uid: None,
        comm: Comm::from("dump"),
    };
    Origin {
        process,
        container_id: None,
        program: None,
        stream: Some(StreamOrigin {
            connection: 1,
            uuid: format!("{pid}_{pid}_dump_0_1"),
            direction: Direction::Write,
            fd: None,
            session: 0,
            socket: None,
            tls_version: None,
            joined_late: None,
            other_end: false,
        }),
    }
}
