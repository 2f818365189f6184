//! The host's interfaces: which there are, which one leads to the default route, and when others appear.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use ecapture_protocols::pcapng::LinkType;

/// `IFF_UP`
const UP: u32 = 1;
/// `ARPHRD_LOOPBACK`
const LOOPBACK: u32 = 772;
/// `RTMGRP_LINK`
const LINK_GROUP: u32 = 1;

/// An interface of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostInterface {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) is_up: bool,
    /// `ARPHRD_…`
    kind: u32,
}

impl HostInterface {
    /// Packets to it come back to it: sent and received they would be captured twice.
    pub(super) const fn is_loopback(&self) -> bool {
        self.kind == LOOPBACK
    }

    /// What its packets begin with, `None` for kinds of interfaces whose headers are not known.
    pub(super) const fn link_type(&self) -> Option<LinkType> {
        match self.kind {
            // ARPHRD_ETHER, ARPHRD_LOOPBACK.
            1 | LOOPBACK => Some(LinkType::ETHERNET),
            // ARPHRD_PPP, ARPHRD_RAWIP, ARPHRD_TUNNEL, ARPHRD_TUNNEL6, ARPHRD_SIT, ARPHRD_IPGRE, ARPHRD_IP6GRE,
            // ARPHRD_VOID, ARPHRD_NONE: traffic control sees no header before that of IP.
            512 | 519 | 768 | 769 | 776 | 778 | 823 | 0xFFFE | 0xFFFF => Some(LinkType::RAW),
            _ => None,
        }
    }
}

/// All interfaces, in the order of their numbers.
pub(super) fn all() -> io::Result<Vec<HostInterface>> {
    let mut found = Vec::new();
    for (index, name) in names()? {
        // It may have gone in the meantime.
        let Some((is_up, kind)) = flags(&name) else {
            continue;
        };
        found.push(HostInterface {
            index,
            name,
            is_up,
            kind,
        });
    }
    Ok(found)
}

/// Those of this thread's network namespace. `/sys/class/net` may be that of another one.
#[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
fn names() -> io::Result<Vec<(u32, String)>> {
    let mut names = Vec::new();
    // SAFETY: the list ends with an entry without a name; it is freed once.
    unsafe {
        let list = libc::if_nameindex();
        if list.is_null() {
            return Err(io::Error::last_os_error());
        }
        let mut entry = list;
        while (*entry).if_index != 0 && !(*entry).if_name.is_null() {
            let name = CStr::from_ptr((*entry).if_name);
            names.push(((*entry).if_index, name.to_string_lossy().into_owned()));
            entry = entry.add(1);
        }
        libc::if_freenameindex(list);
    }
    Ok(names)
}

/// Whether an interface is up, and its kind (`SIOCGIFFLAGS`, `SIOCGIFHWADDR`).
#[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
fn flags(name: &str) -> Option<(bool, u32)> {
    // SAFETY: the request is plain memory, and the kernel writes into it what it is asked for.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        if socket < 0 {
            return None;
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        if name.len() >= request.ifr_name.len() {
            return None;
        }
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = libc::c_char::from_ne_bytes([from]);
        }
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) != 0 {
            return None;
        }
        let is_up = u32::from(request.ifr_ifru.ifru_flags.cast_unsigned()) & UP != 0;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR as _, &raw mut request) != 0 {
            return None;
        }
        Some((is_up, u32::from(request.ifr_ifru.ifru_hwaddr.sa_family)))
    }
}

/// The interface of the default route, of IPv4 or else IPv6.
pub(super) fn of_default_route() -> Option<String> {
    let read = |path: &str| fs::read_to_string(Path::new(path)).unwrap_or_default();
    default_route_v4(&read("/proc/self/net/route"))
        .or_else(|| default_route_v6(&read("/proc/self/net/ipv6_route")))
}

/// `Iface Destination Gateway Flags RefCnt Use Metric Mask …`
fn default_route_v4(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [name, destination, _, _, _, _, metric, mask, ..] = fields[..] else {
            return None;
        };
        let is_default = destination == "00000000" && mask == "00000000";
        is_default.then(|| Some((metric.parse::<u64>().ok()?, name)))?
    });
    routes.min().map(|(_, name)| name.to_owned())
}

/// Destination, its prefix length, source, its prefix length, next hop, metric, counters, flags, interface.
fn default_route_v6(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, prefix, _, _, _, metric, _, _, _, name] = fields[..] else {
            return None;
        };
        let is_default = prefix == "00" && destination.bytes().all(|digit| digit == b'0') && name != "lo";
        is_default.then(|| Some((u64::from_str_radix(metric, 16).ok()?, name)))?
    });
    routes.min().map(|(_, name)| name.to_owned())
}

/// Reports changes of interfaces.
#[derive(Debug)]
pub(super) struct Changes(OwnedFd);

impl Changes {
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    pub(super) fn new() -> io::Result<Self> {
        // SAFETY: the descriptor that is returned is new, and the address is one of netlink.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let socket = libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE);
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(socket);
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or(0);
            address.nl_groups = LINK_GROUP;
            let length = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or(0);
            match libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) {
                0 => Ok(Self(socket)),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Returns true if something has changed since the last call, or may have.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    pub(super) fn any(&self) -> bool {
        let mut message = [0u8; 4096];
        let mut any = false;
        loop {
            // SAFETY: the kernel writes at most as many bytes as there is room for.
            let read = unsafe {
                let (buffer, room) = (message.as_mut_ptr().cast(), message.len());
                libc::recv(self.0.as_raw_fd(), buffer, room, 0)
            };
            if read < 0 {
                // Messages that found no room are changes, too.
                return any || io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS);
            }
            any = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_smallest_metric_counts() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        assert_eq!(default_route_v4(table).as_deref(), Some("eth0"));
        assert_eq!(default_route_v4("Iface\n"), None);
        let zeros = "0".repeat(32);
        let table = format!(
            "{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo\n\
             {zeros} 00 {zeros} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth1\n"
        );
        assert_eq!(default_route_v6(&table).as_deref(), Some("eth1"));
    }

    #[test]
    fn the_loopback_interface_is_found() {
        let all = all().unwrap();
        let lo = all.iter().find(|interface| interface.name == "lo").unwrap();
        assert!(lo.is_loopback());
        assert_eq!(lo.link_type(), Some(LinkType::ETHERNET));
    }
}
