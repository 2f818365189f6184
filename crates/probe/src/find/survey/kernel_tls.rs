//! Which sockets leave TLS to the kernel, asked of the kernel itself (`sock_diag(7)`).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{FromRawFd as _, OwnedFd};

/// `TCP_ULP` of a socket whose records the kernel encrypts or decrypts (`net/tls`).
const KERNEL_TLS: &[u8] = b"tls";

/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER_BYTES: usize = 16;
const MESSAGE_ERROR: u16 = 2;
const MESSAGE_DONE: u16 = 3;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`, and `NLM_F_DUMP`: all sockets.
const REQUEST_ALL: u16 = 0x301;
/// `struct inet_diag_sockid`.
const SOCKET_ID_BYTES: usize = 48;
/// `struct inet_diag_msg`, which ends with the inode.
const ANSWER_BYTES: usize = 72;
const INODE_OFFSET: usize = 68;
/// The kernel adds the protocol above TCP where this extension is asked for.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_ULP_INFO: u16 = 19;
const INET_ULP_INFO_NAME: u16 = 1;
/// All states but `TCP_LISTEN`.
const CONNECTED_STATES: u32 = 0xFFF & !(1 << 10);
const BUFFER_BYTES: usize = 64 * 1024;

/// Inodes of the sockets in this program's network namespace that use kernel TLS.
pub(super) fn sockets() -> io::Result<HashSet<u64>> {
    let mut inodes = HashSet::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        ask(family, &mut inodes)?;
    }
    Ok(inodes)
}

fn ask(family: i32, inodes: &mut HashSet<u64>) -> io::Result<()> {
    let mut socket = diagnostics()?;
    socket.write_all(&request(family))?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = socket.read(&mut buffer)?;
        if length == 0 || add(&buffer[..length], KERNEL_TLS, inodes)? == Progress::Done {
            return Ok(());
        }
    }
}

fn diagnostics() -> io::Result<File> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: it takes plain numbers; a descriptor that it returns is new and nobody else's.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    let socket = unsafe {
        match libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_SOCK_DIAG) {
            -1 => return Err(io::Error::last_os_error()),
            descriptor => OwnedFd::from_raw_fd(descriptor),
        }
    };
    Ok(File::from(socket))
}

/// `struct inet_diag_req_v2` for all connections of TCP.
fn request(family: i32) -> Vec<u8> {
    let extensions = 1 << (INET_DIAG_INFO - 1);
    let length = HEADER_BYTES + 8 + SOCKET_ID_BYTES;
    let mut request = Vec::with_capacity(length);
    request.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend(REQUEST_ALL.to_ne_bytes());
    request.extend([0; 8]);
    let bytes = [family, libc::IPPROTO_TCP, extensions, 0];
    request.extend(bytes.map(|number| u8::try_from(number).unwrap_or_default()));
    request.extend(CONNECTED_STATES.to_ne_bytes());
    request.resize(length, 0);
    request
}

#[derive(Debug, PartialEq, Eq)]
enum Progress {
    More,
    Done,
}

/// Adds the inodes of the sockets in one answer that have `protocol` above TCP.
fn add(mut answer: &[u8], protocol: &[u8], inodes: &mut HashSet<u64>) -> io::Result<Progress> {
    while let Some((length, kind)) = number(answer, 0).zip(short(answer, 4)) {
        let length = length as usize;
        let message = answer.get(HEADER_BYTES..length);
        let message = message.ok_or(io::ErrorKind::InvalidData)?;
        match kind {
            MESSAGE_DONE => return Ok(Progress::Done),
            MESSAGE_ERROR => {
                let code = number(message, 0).unwrap_or_default().cast_signed();
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            _ if has(message, protocol) => {
                inodes.extend(number(message, INODE_OFFSET).map(u64::from));
            }
            _ => {}
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Progress::More)
}

fn has(socket: &[u8], protocol: &[u8]) -> bool {
    let attributes = socket.get(ANSWER_BYTES..).unwrap_or_default();
    let name =
        attribute(attributes, INET_DIAG_ULP_INFO).and_then(|above| attribute(above, INET_ULP_INFO_NAME));
    name.and_then(|name| name.split(|&byte| byte == 0).next()) == Some(protocol)
}

/// The content of the first attribute of a kind (`struct nlattr`).
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    const FLAGS: u16 = 0xC000;
    loop {
        let length = usize::from(short(attributes, 0)?);
        let content = attributes.get(4..length)?;
        if short(attributes, 2)? & !FLAGS == wanted {
            return Some(content);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn short(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer of Linux 6.18 about a socket of MPTCP, which is a protocol above TCP, too.
    fn recorded() -> Vec<u8> {
        let text: String = include_str!("mptcp_socket.hex").split_whitespace().collect();
        let digits = text.as_bytes().chunks(2);
        let byte = |digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap();
        digits.map(byte).collect()
    }

    const INODE: u64 = 4_393_218;

    /// The recorded socket, with kernel TLS above TCP.
    fn with_kernel_tls() -> Vec<u8> {
        let mut answer = recorded();
        let name = memchr::memmem::find(&answer, b"mptcp\0").unwrap();
        answer[name..name + 6].copy_from_slice(b"tls\0\0\0");
        answer
    }

    fn found(answer: &[u8], protocol: &[u8]) -> Vec<u64> {
        let mut inodes = HashSet::new();
        assert_eq!(add(answer, protocol, &mut inodes).unwrap(), Progress::More);
        inodes.into_iter().collect()
    }

    #[test]
    fn the_protocol_above_tcp_is_read() {
        assert_eq!(found(&recorded(), b"mptcp"), [INODE]);
        assert_eq!(found(&recorded(), KERNEL_TLS), [0; 0]);
        assert_eq!(found(&with_kernel_tls(), KERNEL_TLS), [INODE]);
        let both = [recorded(), with_kernel_tls()].concat();
        assert_eq!(found(&both, KERNEL_TLS), [INODE]);
    }

    #[test]
    fn the_end_and_errors_are_recognized() {
        let message = |kind: u8, content: [u8; 4]| {
            let header = [20, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            [&header[..], &content].concat()
        };
        let mut inodes = HashSet::new();
        let end = message(3, [0; 4]);
        assert_eq!(add(&end, KERNEL_TLS, &mut inodes).unwrap(), Progress::Done);
        let refused = message(2, (-libc::EPERM).to_ne_bytes());
        let error = add(&refused, KERNEL_TLS, &mut inodes).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn what_is_cut_anywhere_is_no_socket() {
        let answer = with_kernel_tls();
        for length in 0..answer.len() {
            let mut inodes = HashSet::new();
            let _ = add(&answer[..length], KERNEL_TLS, &mut inodes);
            assert!(inodes.is_empty(), "{length}");
        }
        let nothing = [0; HEADER_BYTES];
        assert!(add(&nothing, KERNEL_TLS, &mut HashSet::new()).is_err());
    }

    /// Anybody may ask, and a plain connection is none of them.
    #[test]
    fn the_kernel_is_asked() {
        use std::os::unix::fs::MetadataExt as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inode = File::from(OwnedFd::from(stream)).metadata().unwrap().ino();
        assert!(!sockets().unwrap().contains(&inode));
    }
}
