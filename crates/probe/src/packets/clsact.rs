//! Attaching to interfaces on kernels before 6.6, as a filter of the queueing discipline `clsact`.
//!
//! Such a filter outlives the process that added it. Each has a name that says whose it is: what a killed process
//! left is removed at the next start. Filters of others are left alone, and so is a `clsact` that was there before us
//! or that others use.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::interfaces::HostInterface;
use crate::limits;

/// How the names of our filters begin.
const NAME: &str = "ecapture:";
/// Ends the name of a filter whose `clsact` was added with it.
const OWN_DISCIPLINE: &str = ":clsact";

/// `TC_H_CLSACT`, and its sides `TC_H_MIN_INGRESS` and `TC_H_MIN_EGRESS`.
const DISCIPLINE: u32 = 0xFFFF_FFF1;
const INGRESS: u32 = 0xFFFF_FFF2;
const EGRESS: u32 = 0xFFFF_FFF3;
/// `ETH_P_ALL` in network order, with a priority that the kernel chooses: before all filters that are there.
const ALL_PROTOCOLS: u32 = 3u16.to_be() as u32;
/// `TCA_KIND`, `TCA_OPTIONS`
const KIND: u16 = 1;
const OPTIONS: u16 = 2;
/// `TCA_BPF_FD`, `TCA_BPF_NAME`, `TCA_BPF_FLAGS` and `TCA_BPF_FLAG_ACT_DIRECT`
const BPF_FD: u16 = 6;
const BPF_NAME: u16 = 7;
const BPF_FLAGS: u16 = 8;
const DIRECT_ACTION: u32 = 1;
/// Bytes of `struct nlmsghdr` and `struct tcmsg`.
const HEADER: usize = 16;
const MESSAGE: usize = 20;

/// A filter that is removed when it is dropped.
pub(super) struct ClassicFilter {
    index: u32,
    side: u32,
    name: String,
}

/// A filter as the kernel lists it.
struct Listed {
    handle: u32,
    info: u32,
    name: String,
}

impl ClassicFilter {
    /// Adds `program` to one side of an interface.
    pub(super) fn add(index: u32, sent: bool, program: &OwnedFd) -> io::Result<Self> {
        let netlink = Netlink::open()?;
        let is_new = match netlink.request(libc::RTM_NEWQDISC, &discipline(index), CREATE) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => false,
            Err(error) => return Err(named(error, "the queueing discipline clsact", "sch_ingress")),
        };
        let pid = std::process::id();
        let end = if is_new { OWN_DISCIPLINE } else { "" };
        let name = format!("{NAME}{pid}:{}{end}", start_time(pid).unwrap_or(0));
        let side = if sent { EGRESS } else { INGRESS };
        let mut message = Message::new(index, 0, side, ALL_PROTOCOLS);
        message.text(KIND, "bpf");
        message.nested(OPTIONS, |options| {
            options.attribute(BPF_FD, &program.as_raw_fd().to_ne_bytes());
            options.text(BPF_NAME, &name);
            options.attribute(BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
        });
        let filter = Self { index, side, name };
        netlink
            .request(libc::RTM_NEWTFILTER, &message, CREATE)
            .map_err(|error| named(error, "filters of eBPF", "cls_bpf"))?;
        Ok(filter)
    }
}

impl Drop for ClassicFilter {
    fn drop(&mut self) {
        let removed = Netlink::open().and_then(|netlink| {
            netlink.remove(self.index, self.side, |name| name == self.name)?;
            if self.name.ends_with(OWN_DISCIPLINE) {
                netlink.remove_unused_discipline(self.index)?;
            }
            Ok(())
        });
        if let Err(error) = removed {
            tracing::warn!(interface = self.index, %error, "the filter for packets stays; the next start removes it");
        }
    }
}

/// Removes the filters of processes that have ended, as after `kill -9`.
pub(super) fn remove_left(all: &[HostInterface]) {
    let Ok(netlink) = Netlink::open() else { return };
    for HostInterface { index, name, .. } in all {
        let mut own_discipline = false;
        let mut removed = 0;
        for side in [INGRESS, EGRESS] {
            let result = netlink.remove(*index, side, |name| {
                let is_left = is_left(name);
                own_discipline |= is_left && name.ends_with(OWN_DISCIPLINE);
                is_left
            });
            removed += result.unwrap_or(0);
        }
        if own_discipline {
            let _in_use = netlink.remove_unused_discipline(*index);
        }
        if removed > 0 {
            tracing::info!("removed what a killed capture had left at {name}: {removed} filters");
        }
    }
}

/// Returns true if a filter of that name is of a process that has ended.
fn is_left(name: &str) -> bool {
    let Some(owner) = name.strip_prefix(NAME) else {
        return false;
    };
    let mut fields = owner.split(':').map(|field| field.parse::<u64>().ok());
    let (Some(Some(pid)), Some(Some(started))) = (fields.next(), fields.next()) else {
        return false;
    };
    u32::try_from(pid).ok().and_then(start_time) != Some(started)
}

/// When a process started, in ticks since the host did; `None` for a process that has ended.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may contain anything, also parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

/// Says which part of the kernel is missing, where an error means that one is.
fn named(error: io::Error, part: &str, module: &str) -> io::Error {
    match error.raw_os_error() {
        // The kernel knows no such kind, and loaded no module that does.
        Some(libc::ENOENT) => io::Error::new(
            io::ErrorKind::Unsupported,
            format!("this kernel has no {part}; try `modprobe {module}`"),
        ),
        _ => error,
    }
}

fn discipline(index: u32) -> Message {
    let mut message = Message::new(index, 0xFFFF_0000, DISCIPLINE, 0);
    message.text(KIND, "clsact");
    message
}

/// `struct tcmsg` and attributes.
struct Message(Vec<u8>);

impl Message {
    fn new(index: u32, handle: u32, parent: u32, info: u32) -> Self {
        let mut bytes = vec![0; 4];
        for field in [index, handle, parent, info] {
            bytes.extend_from_slice(&field.to_ne_bytes());
        }
        Self(bytes)
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.0.extend_from_slice(value));
    }

    fn text(&mut self, kind: u16, value: &str) {
        let value = CString::new(value).unwrap_or_default();
        self.attribute(kind, value.as_bytes_with_nul());
    }

    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let start = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        content(self);
        let length = u16::try_from(self.0.len() - start).unwrap_or(u16::MAX);
        self.0[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }
}

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;

/// A socket for requests about traffic control.
struct Netlink(OwnedFd);

impl Netlink {
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    fn open() -> io::Result<Self> {
        // SAFETY: it takes plain numbers, and the descriptor that it returns is new.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
            match libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) {
                socket if socket >= 0 => Ok(Self(OwnedFd::from_raw_fd(socket))),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }

    /// Makes a request and waits for its result.
    fn request(&self, kind: u16, message: &Message, flags: i32) -> io::Result<()> {
        self.send(kind, message, flags | libc::NLM_F_ACK)?;
        self.answers(|_, _| {})
    }

    /// Removes the filters at one side of an interface whose names are `wanted`. Returns how many there were.
    fn remove(&self, index: u32, side: u32, mut wanted: impl FnMut(&str) -> bool) -> io::Result<usize> {
        let mut found = self.list(index, side)?;
        found.retain(|filter| wanted(&filter.name));
        for filter in &found {
            let mut message = Message::new(index, filter.handle, side, filter.info);
            message.text(KIND, "bpf");
            self.request(libc::RTM_DELTFILTER, &message, 0)?;
        }
        Ok(found.len())
    }

    fn remove_unused_discipline(&self, index: u32) -> io::Result<()> {
        let is_used = [INGRESS, EGRESS]
            .iter()
            .any(|&side| self.list(index, side).is_ok_and(|list| !list.is_empty()));
        if is_used {
            return Ok(());
        }
        self.request(libc::RTM_DELQDISC, &discipline(index), 0)
    }

    /// All filters at one side of an interface; those without a name have an empty one.
    fn list(&self, index: u32, side: u32) -> io::Result<Vec<Listed>> {
        self.send(
            libc::RTM_GETTFILTER,
            &Message::new(index, 0, side, 0),
            libc::NLM_F_DUMP,
        )?;
        let mut list = Vec::new();
        self.answers(|kind, message| {
            if kind == libc::RTM_NEWTFILTER && list.len() < limits::LISTED_FILTERS {
                list.extend(listed(message));
            }
        })?;
        Ok(list)
    }

    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    fn send(&self, kind: u16, message: &Message, flags: i32) -> io::Result<()> {
        let length = u32::try_from(HEADER + message.0.len()).unwrap_or(u32::MAX);
        let flags = u16::try_from(flags | libc::NLM_F_REQUEST).unwrap_or(0);
        let mut bytes = Vec::with_capacity(length as usize);
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        // Sequence number and sender.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&message.0);
        // SAFETY: the kernel reads as many bytes as there are.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Reads the messages up to the one that ends the answer.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    fn answers(&self, mut take: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut buffer = vec![0u8; 64 * 1024];
        loop {
            // SAFETY: the kernel writes at most as many bytes as there is room for.
            let read = unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
            let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
            let mut rest = &buffer[..read];
            while let Some((kind, message, next)) = first_message(rest) {
                match i32::from(kind) {
                    libc::NLMSG_ERROR => {
                        let code = message.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        return if code == 0 {
                            Ok(())
                        } else {
                            Err(io::Error::from_raw_os_error(-code))
                        };
                    }
                    libc::NLMSG_DONE => return Ok(()),
                    _ => take(kind, message),
                }
                rest = next;
            }
        }
    }
}

/// Kind and content of the first message, and what follows it.
fn first_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let message = bytes.get(HEADER..length)?;
    Some((
        kind,
        message,
        bytes.get(length.next_multiple_of(4)..).unwrap_or_default(),
    ))
}

/// The filter that a message of the kernel's list is about.
fn listed(message: &[u8]) -> Option<Listed> {
    let u32_at = |at: usize| Some(u32::from_ne_bytes(*message.get(at..)?.first_chunk()?));
    // The kernel lists each kind of filter without a handle, too.
    let handle = u32_at(8).filter(|&handle| handle != 0)?;
    let options = attribute(message.get(MESSAGE..)?, OPTIONS).unwrap_or_default();
    let name = attribute(options, BPF_NAME).unwrap_or_default();
    let name = name.strip_suffix(b"\0").unwrap_or(name);
    Some(Listed {
        handle,
        info: u32_at(16)?,
        name: String::from_utf8_lossy(name).into_owned(),
    })
}

fn attribute(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(4..length)?;
        // The upper bits say that a value is nested, or in network order.
        if kind & 0x3FFF == wanted {
            return Some(value);
        }
        bytes = bytes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_filters_of_ended_processes_are_left() {
        let own = std::process::id();
        let started = start_time(own).unwrap();
        assert!(!is_left(&format!("{NAME}{own}:{started}")));
        assert!(!is_left(&format!("{NAME}{own}:{started}{OWN_DISCIPLINE}")));
        assert!(
            is_left(&format!("{NAME}{own}:{}", started + 1)),
            "a later process"
        );
        assert!(is_left(&format!("{NAME}4194304:5{OWN_DISCIPLINE}")));
        for of_others in [
            "",
            "cilium",
            "ecapture",
            "ecapture:",
            "ecapture:x:1",
            "ecapture:1",
        ] {
            assert!(!is_left(of_others), "{of_others}");
        }
    }
}
