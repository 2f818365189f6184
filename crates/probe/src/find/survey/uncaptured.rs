//! Finds the processes that have TLS connections but produced no events, and why.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;

use super::{Obstacle, Survey};
use crate::proc;

/// Ports where TLS begins with the first byte: registered ones, then those of Docker, Kubernetes and the usual
/// alternatives to 443.
const TLS_PORTS: [u16; 19] = [
    443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995, 5061, 5671, 6514, 8883, 2376, 6443, 8443, 9443,
];
/// `TCP_ESTABLISHED` of the kernel, as `/proc/net/tcp` shows it.
const ESTABLISHED: &str = "01";

/// A process that has a connection on which TLS is most probably spoken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncapturedProcess {
    /// Id of the process.
    pub pid: u32,
    /// The process's name, `/proc/PID/comm`.
    pub command: String,
    /// One of its connections: local and remote end.
    pub connection: (SocketAddr, SocketAddr),
    /// The reason why it is not captured; `None` when no TLS was found in it.
    pub obstacle: Option<Obstacle>,
}

impl Survey {
    /// Processes that are connected now, produced no events (they are not in `heard`) and cannot be
    /// captured: either this survey says so, or they use a port of TLS and are looked at now. Of
    /// the processes `pids` (of all when there are none) and of one user, where that is wanted. One
    /// that could be captured had nothing to say.
    pub fn uncaptured(&self, heard: &HashSet<u32>, pids: &[u32], uid: Option<u32>) -> Vec<UncapturedProcess> {
        let mut networks = Networks::default();
        let wanted = if pids.is_empty() {
            proc::pids()
        } else {
            pids.to_vec()
        };
        let wanted = wanted.into_iter().filter(|pid| {
            *pid != std::process::id()
                && !heard.contains(pid)
                && uid.is_none_or(|uid| proc::user(*pid) == Some(uid))
        });
        wanted
            .filter_map(|pid| self.uncaptured_process(pid, &networks.connections(pid)))
            .collect()
    }

    fn uncaptured_process(&self, pid: u32, connections: &[Connection]) -> Option<UncapturedProcess> {
        let surveyed = self.findings.iter().any(|finding| finding.pid == pid);
        let connection = connections
            .iter()
            .find(|connection| surveyed || connection.is_tls())?;
        let fresh;
        let survey = if surveyed {
            self
        } else {
            fresh = Self::of([pid]);
            &fresh
        };
        let findings = survey.findings.iter().filter(|finding| finding.pid == pid);
        let mut obstacle = None;
        for finding in findings {
            match &finding.obstacle {
                None | Some(Obstacle::GoWithoutTls) => return None,
                found => obstacle = obstacle.or(found.clone()),
            }
        }
        Some(UncapturedProcess {
            pid,
            command: proc::command(pid).ok()?,
            connection: (connection.local, connection.remote),
            obstacle,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Connection {
    fn is_tls(&self) -> bool {
        [self.local, self.remote]
            .iter()
            .any(|end| TLS_PORTS.contains(&end.port()))
    }
}

/// The established connections of each network namespace, by the socket's inode.
#[derive(Default)]
struct Networks(HashMap<u64, Rc<HashMap<u64, Connection>>>);

impl Networks {
    /// Those of one process; none when it has ended.
    fn connections(&mut self, pid: u32) -> Vec<Connection> {
        let Ok(namespace) = proc::network(pid) else {
            return Vec::new();
        };
        let network = Rc::clone(self.0.entry(namespace).or_insert_with(|| {
            let tables = ["tcp", "tcp6"].map(|name| proc::network_table(pid, name));
            Rc::new(
                tables
                    .iter()
                    .flatten()
                    .flat_map(|table| established(table))
                    .collect(),
            )
        }));
        socket_inodes(pid)
            .filter_map(|inode| network.get(&inode).copied())
            .collect()
    }
}

/// Inodes of the sockets that a process has; none when it has ended.
pub(super) fn socket_inodes(pid: u32) -> impl Iterator<Item = u64> {
    proc::open_files(pid).filter_map(|(_, target)| {
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        inode.parse().ok()
    })
}

/// The established connections of `/proc/net/tcp` or `tcp6`.
fn established(table: &str) -> impl Iterator<Item = (u64, Connection)> {
    table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, local, remote, ESTABLISHED, _, _, _, _, _, inode, ..] = fields[..] else {
            return None;
        };
        let connection = Connection {
            local: address(local)?,
            remote: address(remote)?,
        };
        Some((inode.parse().ok()?, connection))
    })
}

/// `0100007F:01BB`: each 32 bits of the address are a number as the machine stores it.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word = |index: usize| {
        let digits = address.get(8 * index..8 * index + 8)?;
        u32::from_str_radix(digits, 16).ok().map(u32::to_ne_bytes)
    };
    let ip = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            Ipv6Addr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const TABLE: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1 0 100 0 0 10 0
   1: 0100007F:01BB 0200007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 22 1 0 100 0 0 10 0
";

    #[test]
    #[cfg(target_endian = "little")]
    fn established_connections_are_read() {
        let connection = Connection {
            local: "127.0.0.1:443".parse().unwrap(),
            remote: "127.0.0.2:54321".parse().unwrap(),
        };
        assert_eq!(established(TABLE).collect::<Vec<_>>(), [(22, connection)]);
        assert!(connection.is_tls());
        assert_eq!(
            address("00000000000000000000000001000000:1F90"),
            Some("[::1]:8080".parse().unwrap())
        );
        assert_eq!(
            address("0000000000000000FFFF00000100007F:0001"),
            Some("127.0.0.1:1".parse().unwrap())
        );
        for nonsense in ["", "0100007F", "0100007F:G", "01:01BB"] {
            assert_eq!(address(nonsense), None);
        }
    }

    #[test]
    fn connections_of_a_process_are_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection = Connection {
            local: stream.local_addr().unwrap(),
            remote: stream.peer_addr().unwrap(),
        };
        let found = Networks::default().connections(std::process::id());
        assert!(found.contains(&connection), "{found:?}");
        assert!(!connection.is_tls());
    }
}
