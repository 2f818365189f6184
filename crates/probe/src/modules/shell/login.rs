//! Who sits at a shell: what `/proc` says of its login.

use std::sync::Arc;

use ecapture_protocols::Login;

use crate::{limits, proc};

/// What is known of a process that runs now.
pub(super) fn of(pid: u32) -> Login {
    Login {
        parent: proc::parent(pid),
        user: proc::login_user(pid),
        terminal: proc::terminal(pid).map(terminal),
        client: client(pid),
    }
}

/// Where a process is now, for a shell that does not say it itself.
pub(super) fn directory(pid: u32) -> Option<Arc<str>> {
    let directory = proc::working_directory(pid).ok()?;
    Some(Arc::from(directory.to_string_lossy()))
}

/// The name of a terminal by its device number (kernel documentation, `admin-guide/devices.txt`).
fn terminal((major, minor): (u32, u32)) -> Arc<str> {
    Arc::from(match (major, minor) {
        (136..=143, _) => format!("/dev/pts/{}", (major - 136) * 256 + minor),
        (4, 0..=63) => format!("/dev/tty{minor}"),
        (4, _) => format!("/dev/ttyS{}", minor - 64),
        (5, 1) => "/dev/console".to_owned(),
        _ => format!("{major}:{minor}"),
    })
}

/// The client of an ssh login, by the environment that sshd gave to the first process of the session: those that
/// follow can set what they like.
fn client(pid: u32) -> Option<Arc<str>> {
    let ancestors = std::iter::successors(Some(pid), |pid| proc::parent(*pid).filter(|parent| *parent > 1));
    let clients = ancestors.take(limits::ANCESTORS).filter_map(|pid| {
        let environment = proc::environment(pid, limits::ENVIRONMENT_BYTES).ok()?;
        ssh_client(&environment)
    });
    clients.last().map(Arc::from)
}

/// Address and port of the client in `SSH_CONNECTION=ADDRESS PORT ADDRESS PORT` (sshd(8)).
fn ssh_client(environment: &[u8]) -> Option<String> {
    let mut variables = environment.split(|byte| *byte == 0);
    let connection = variables.find_map(|variable| variable.strip_prefix(b"SSH_CONNECTION="))?;
    let mut words = std::str::from_utf8(connection).ok()?.split(' ');
    let (address, port) = (words.next()?, words.next()?.parse().ok()?);
    let address = address.split('%').next()?.parse().ok()?;
    Some(std::net::SocketAddr::new(address, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_is_in_the_environment() {
        let client = |value: &str| ssh_client(format!("A=1\0SSH_CONNECTION={value}\0B=2\0").as_bytes());
        assert_eq!(
            client("10.0.0.9 51000 10.0.0.1 22").as_deref(),
            Some("10.0.0.9:51000")
        );
        assert_eq!(
            client("fe80::1%eth0 51000 fe80::2 22").as_deref(),
            Some("[fe80::1]:51000")
        );
        for value in ["", "10.0.0.9", "x 5 y 6", "10.0.0.9 99999 10.0.0.1 22"] {
            assert_eq!(client(value), None, "{value}");
        }
        assert_eq!(ssh_client(b"XSSH_CONNECTION=10.0.0.9 1 2 3\0"), None);
    }

    #[test]
    fn terminals_have_their_names() {
        for (device, name) in [
            ((136, 3), "/dev/pts/3"),
            ((137, 1), "/dev/pts/257"),
            ((4, 2), "/dev/tty2"),
            ((4, 64), "/dev/ttyS0"),
            ((5, 1), "/dev/console"),
            ((204, 64), "204:64"),
        ] {
            assert_eq!(&*terminal(device), name);
        }
    }
}
