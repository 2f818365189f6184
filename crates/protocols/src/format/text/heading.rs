//! The line above a record.
//!
//! ```text
//! PID:1234, Comm:curl, Src:10.0.0.2:40000, Dest:93.184.216.34:443,       Heading::Original
//! 2026-11-28T14:20:05.123456+01:00 -> PID:1234, Comm:curl, …             the same with a time
//! 14:20:05.123456 curl[1234] -> 93.184.216.34:443                        Heading::Terminal
//! 14:20:05.123456 10.0.0.2:40000 -> 93.184.216.34:443                    the same of packets
//! 14:20:05.123456 curl[1234] -> 127.0.0.1:443, nginx[812] (+0.210 ms)    the same of both ends
//! ```
//!
//! `->` precedes what the process sent, `<-` what it received.

use std::io::Write as _;

use crate::event::{Direction, Origin, StreamOrigin};
use crate::format::{MessageEnd, time};
use crate::text::printable;
use crate::write::{push_address, push_hexadecimal, push_number};

/// The line above a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heading {
    /// The original's line.
    #[default]
    Original,
    /// Time, process, direction and peer, for people at a terminal.
    Terminal,
}

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WallClock {
    /// Wall clock minus kernel monotonic clock, in nanoseconds. Without it times are those of the kernel's
    /// clock: hours, minutes and seconds since the host was started.
    pub offset_ns: Option<i64>,
    /// Local time minus UTC, in seconds.
    pub utc_offset_s: i32,
}

/// Appends the original's line. With `timed` it begins with the time and the direction.
pub(super) fn write_original(origin: &Origin, timed: Option<(WallClock, u64)>, out: &mut Vec<u8>) {
    if let Some((clock, timestamp_ns)) = timed {
        write_time(clock, timestamp_ns, true, out);
        if let Some(stream) = &origin.stream {
            out.extend_from_slice(arrow(stream.direction));
            out.push(b' ');
        }
    }
    out.extend_from_slice(b"PID:");
    push_number(origin.process.pid.into(), out);
    out.extend_from_slice(b", Comm:");
    origin.process.comm.push_shown(out);
    if let Some(program) = other_name(origin) {
        out.extend_from_slice(b", Program:");
        out.extend_from_slice(printable(program).as_bytes());
    }
    if let Some(stream) = &origin.stream {
        write_addresses(stream, out);
    }
    out.push(b',');
}

/// Appends the line for a terminal. `dated` says whether the time has a date.
pub(in crate::format) fn write_terminal(
    origin: &Origin,
    clock: WallClock,
    timestamp_ns: u64,
    dated: bool,
    out: &mut Vec<u8>,
) {
    write_time(clock, timestamp_ns, dated, out);
    if let Some(program) = other_name(origin) {
        out.extend_from_slice(printable(program).as_bytes());
        out.push(b'/');
    }
    write_process(origin, out);
    if let Some(stream) = &origin.stream {
        out.push(b' ');
        out.extend_from_slice(arrow(stream.direction));
        out.push(b' ');
        write_peer(stream, out);
    }
}

/// Appends the process of the other end to the line above a message of both ends, and how much later, or earlier, its first
/// byte was there.
pub(super) fn write_other_end(heading: Heading, shown: &MessageEnd, other: &MessageEnd, out: &mut Vec<u8>) {
    let process = other.process;
    match heading {
        Heading::Original => {
            out.extend_from_slice(b" PID:");
            push_number(process.pid.into(), out);
            out.extend_from_slice(b", Comm:");
            process.comm.push_shown(out);
            out.extend_from_slice(b", ");
        }
        Heading::Terminal => {
            out.extend_from_slice(b", ");
            process.comm.push_shown(out);
            out.push(b'[');
            push_number(process.pid.into(), out);
            out.extend_from_slice(b"] (");
        }
    }
    let sign = if other.first_ns < shown.first_ns { '-' } else { '+' };
    let microseconds = other.first_ns.abs_diff(shown.first_ns) / 1000;
    // Writing to a vector cannot fail.
    let _ = write!(out, "{sign}{}.{:03} ms", microseconds / 1000, microseconds % 1000);
    out.push(match heading {
        Heading::Original => b',',
        Heading::Terminal => b')',
    });
}

/// Appends name and number of the process. Packets come from none: then it is the address of its end.
fn write_process(origin: &Origin, out: &mut Vec<u8>) {
    let socket = origin.stream.as_ref().and_then(|stream| stream.socket);
    let own = socket.and_then(|socket| socket.endpoints(Direction::Write));
    if let (0, Some((own, _))) = (origin.process.pid, own) {
        push_address(own, out);
        return;
    }
    origin.process.comm.push_shown(out);
    out.push(b'[');
    push_number(origin.process.pid.into(), out);
    out.push(b']');
}

/// Returns true if `line` begins with a time as these lines do.
pub(super) fn begins_with_time(line: &str) -> bool {
    let time = line.split([' ', '\t']).next().unwrap_or_default();
    // After a date.
    let time = time.rsplit('T').next().unwrap_or_default();
    let bytes = time.as_bytes();
    let Some(start) = bytes.iter().position(|byte| !byte.is_ascii_digit()) else {
        return false;
    };
    let shape = |index: usize, byte: &u8| match index {
        0 | 3 => *byte == b':',
        6 => *byte == b'.',
        _ => byte.is_ascii_digit(),
    };
    let rest = &bytes[start..];
    start >= 2
        && rest.len() >= 13
        && rest[..13]
            .iter()
            .enumerate()
            .all(|(index, byte)| shape(index, byte))
}

/// Appends the time and a space. Without a wall clock there is no date.
pub(super) fn write_time(clock: WallClock, timestamp_ns: u64, dated: bool, out: &mut Vec<u8>) {
    match clock
        .offset_ns
        .map(|offset| offset.saturating_add_unsigned(timestamp_ns))
    {
        Some(nanoseconds) if dated => time::push_local(nanoseconds, clock.utc_offset_s, out),
        Some(nanoseconds) => time::push_time_of_day(nanoseconds, clock.utc_offset_s, out),
        None => time::push_clock(i64::try_from(timestamp_ns).unwrap_or(i64::MAX), out),
    }
    out.push(b' ');
}

const fn arrow(direction: Direction) -> &'static [u8] {
    match direction {
        Direction::Write => b"->",
        Direction::Read => b"<-",
    }
}

/// Appends the other end of the connection, or both ends if it is unknown which one is the
/// process's own.
fn write_peer(stream: &StreamOrigin, out: &mut Vec<u8>) {
    let Some(socket) = &stream.socket else {
        out.extend_from_slice(b"unknown");
        if stream.session != 0 {
            out.extend_from_slice(b", session ");
            push_hexadecimal(stream.session, out);
        }
        return;
    };
    match (socket.endpoints(stream.direction), stream.direction) {
        (Some((_, peer)), Direction::Write) | (Some((peer, _)), Direction::Read) => push_address(peer, out),
        (None, _) => {
            push_address(socket.tuple.source, out);
            out.extend_from_slice(b" or ");
            push_address(socket.tuple.destination, out);
        }
    }
}

/// Appends the addresses, or otherwise what distinguishes the streams of one process.
fn write_addresses(stream: &StreamOrigin, out: &mut Vec<u8>) {
    match stream.socket.map(|socket| socket.tuple) {
        Some(tuple) => {
            out.extend_from_slice(b", Src:");
            push_address(tuple.source, out);
            out.extend_from_slice(b", Dest:");
            push_address(tuple.destination, out);
        }
        // The original has no sessions, so its recordings are printed as the original prints them.
        None if stream.session == 0 => out.extend_from_slice(b", Src::0, Dest::0"),
        None => {
            out.extend_from_slice(b", Src:unknown, Dest:unknown, Session:");
            push_hexadecimal(stream.session, out);
        }
    }
}

/// Returns the program's name if it differs from that of the thread: threads are named after their
/// program unless they set a name of their own.
fn other_name(origin: &Origin) -> Option<&str> {
    let program = origin.program.as_deref()?;
    let is_same = program.as_bytes().starts_with(origin.process.comm.as_bytes());
    (!is_same).then_some(program)
}
