//! Asks the kernel about a socket of this process.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Bytes written to a TCP socket that the other host has not acknowledged (`SIOCOUTQ`, tcp(7)).
/// Still known after the connection has failed.
///
/// # Errors
///
/// The kernel's error for a descriptor that is not such a socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open while it is borrowed, and the request stores one int.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn what_the_other_side_cannot_take_is_unacknowledged() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        sender.write_all(b"x").unwrap();
        receiver.read_exact(&mut [0]).unwrap();
        assert_eq!(unacknowledged(sender.as_fd()).unwrap(), 0);
        sender.set_nonblocking(true).unwrap();
        while sender.write(&[0; 4096]).is_ok() {}
        let before = unacknowledged(sender.as_fd()).unwrap();
        assert!(before > 0, "more was taken than the receiver has room for");
        // With unread data the connection is reset.
        drop(receiver);
        assert!(unacknowledged(sender.as_fd()).unwrap() > 0);
        assert!(unacknowledged(listener.as_fd()).is_err());
    }
}
