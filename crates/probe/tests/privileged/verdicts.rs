//! The kernel rejects only packets that user space would reject, and nearly all of those.
//!
//! Programs are put where a capture has its own, and frames are sent through a pair of interfaces. The counters say
//! what the kernel made of each frame where it was sent, with its VLAN tags in it, and where it was received, with the
//! first tag beside it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use aya::maps::{Array, Map, MapData, MapInfo, PerCpuHashMap, PerCpuValues};
use ecapture_ebpf::limits::{EXPRESSION_STEPS_UNROLLED, EXPRESSIONS as ROOM};
use ecapture_probe::{Capture, CaptureConfig, Interfaces, PacketConfig, Processes, compile_filter};
use ecapture_protocols::packet::{Filter, Instruction};
use ecapture_protocols::pcapng::LinkType;

use crate::frames::{EXPRESSIONS, frames};
use crate::packets::Pair;
use crate::random::Random;
use crate::support::{config, output, peers, wait_until};

const SNAP_LENGTH: u32 = 262_144;
/// `struct InterfaceCounters` as words: `received`, `rejected`, `snap_length`, `expression`.
const WORDS: usize = 12;
const RECEIVED: usize = 0;
const REJECTED: usize = 6;
const SNAP: usize = 8;
const EXPRESSION: usize = 9;
const SIDES: [&str; 2] = ["ecap-a", "ecap-b"];

/// A capture at both interfaces that nobody reads.
struct Kernel {
    _capture: Capture,
    _pair: Pair,
    programs: Array<MapData, u64>,
    counters: PerCpuHashMap<MapData, u32, [u32; WORDS]>,
    interfaces: [u32; 2],
    socket: Socket,
}

/// How many packets the kernel rejected, and of the others how many user space would reject.
#[derive(Default)]
struct Shares {
    rejected: u64,
    left: u64,
}

impl Kernel {
    fn start() -> Self {
        let pair = Pair;
        let ip = |line: &str| output(Command::new("ip").args(line.split(' ')));
        ip("link add ecap-a type veth peer name ecap-b");
        for side in SIDES {
            // The kernel sends packets of its own there. One without IPv6 has no such file.
            let switch = format!("/proc/sys/net/ipv6/conf/{side}/disable_ipv6");
            if Path::new(&switch).exists() {
                fs::write(switch, "1").unwrap();
            }
            ip(&format!("link set {side} up"));
        }
        let capture = Capture::load(&CaptureConfig {
            packets: Some(PacketConfig {
                interfaces: Interfaces::Named(SIDES.map(str::to_owned).to_vec()),
                filter: Some("tcp port 1".to_owned()),
                ..PacketConfig::default()
            }),
            ..config(Processes::All)
        });
        let capture = capture.unwrap();
        let mut maps = own_maps();
        let interfaces = SIDES.map(|name| {
            let index = fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap();
            index.trim().parse().unwrap()
        });
        let mut map = |name| MapData::from_id(maps.remove(name).unwrap()).unwrap();
        Self {
            _capture: capture,
            _pair: pair,
            programs: Array::try_from(Map::Array(map("EXPRESSIONS"))).unwrap(),
            counters: PerCpuHashMap::try_from(Map::PerCpuHashMap(map("INTERFACES"))).unwrap(),
            interfaces,
            socket: Socket::bound_to(interfaces[0]),
        }
    }

    /// Puts a program where the capture has its own.
    fn install(&mut self, filter: &Filter, snap_length: u32) {
        assert!(filter.instructions().len() < ROOM as usize);
        for (index, one) in (0..).zip(filter.instructions()) {
            let mut bytes = [0; 8];
            bytes[..2].copy_from_slice(&one.code.to_ne_bytes());
            bytes[2..4].copy_from_slice(&[one.if_true, one.if_false]);
            bytes[4..].copy_from_slice(&one.operand.to_ne_bytes());
            let value = u64::from_ne_bytes(bytes);
            self.programs.set(index, value, 0).unwrap();
        }
        for interface in self.interfaces {
            let mut values = self.counters.get(&interface, 0).unwrap().to_vec();
            for value in &mut values {
                value[SNAP] = snap_length;
                value[EXPRESSION] = 1;
            }
            let values = PerCpuValues::try_from(values).unwrap();
            self.counters.insert(interface, values, 0).unwrap();
        }
    }

    fn counter(&self, side: usize, word: usize) -> u64 {
        let values = self.counters.get(&self.interfaces[side], 0).unwrap();
        values
            .iter()
            .map(|value| u64::from(value[word]) | u64::from(value[word + 1]) << 32)
            .sum()
    }

    /// What the kernel makes of a frame at both sides: true if it is rejected.
    fn verdicts(&self, frame: &[u8]) -> [bool; 2] {
        let before = [0, 1].map(|side| [RECEIVED, REJECTED].map(|word| self.counter(side, word)));
        self.socket.send(frame);
        [0, 1].map(|side| {
            let [received, rejected] = before[side];
            wait_until(|| self.counter(side, RECEIVED) > received);
            assert_eq!(self.counter(side, RECEIVED), received + 1, "only ours pass");
            self.counter(side, REJECTED) > rejected
        })
    }

    /// Runs a program over frames. No frame may be rejected that user space accepts.
    fn compare(&mut self, filter: &Filter, snap_length: u32, frames: &[Vec<u8>], what: &str) -> Shares {
        self.install(filter, snap_length);
        let mut shares = Shares::default();
        for frame in frames {
            let length = u32::try_from(frame.len()).unwrap();
            let sides = [(length.min(snap_length), length), as_received(frame, snap_length)];
            for (rejected, (captured, length)) in self.verdicts(frame).into_iter().zip(sides) {
                let accepts = filter.accepts(&frame[..captured as usize], length);
                assert!(!(rejected && accepts), "{what}: {frame:02x?} cut to {captured}");
                shares.rejected += u64::from(rejected);
                shares.left += u64::from(!rejected && !accepts);
            }
        }
        shares
    }
}

/// The kernel takes this tag out of a received packet.
fn is_tagged(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x81, 0x00] | [0x88, 0xA8])
}

/// The captured bytes and the length of a received frame, after its tag was put back.
fn as_received(frame: &[u8], snap_length: u32) -> (u32, u32) {
    let length = u32::try_from(frame.len()).unwrap();
    let beside = if is_tagged(frame) { 4 } else { 0 };
    let captured = (length - beside).min(snap_length);
    // Into less than both addresses no tag is put.
    if captured < 12 {
        (captured, length - beside)
    } else {
        (captured + beside, length)
    }
}

/// The maps that this process has open, by name.
fn own_maps() -> HashMap<String, u32> {
    let mut maps = HashMap::new();
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        let Ok(lines) = fs::read_to_string(entry.unwrap().path()) else {
            continue;
        };
        if let Some(id) = lines.lines().find_map(|line| line.strip_prefix("map_id:")) {
            let id = id.trim().parse().unwrap();
            let info = MapInfo::from_id(id).unwrap();
            maps.insert(info.name_as_str().unwrap().to_owned(), id);
        }
    }
    maps
}

/// Sends frames as they are.
struct Socket(std::os::fd::OwnedFd);

#[expect(unsafe_code, reason = "the standard library has no packet sockets")]
impl Socket {
    fn bound_to(interface: u32) -> Self {
        use std::os::fd::{AsRawFd as _, FromRawFd as _};
        // SAFETY: an address without pointers, all zeros is one.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET.try_into().unwrap();
        address.sll_ifindex = interface.try_into().unwrap();
        let length = size_of_val(&address).try_into().unwrap();
        // SAFETY: the new descriptor is ours; the address is alive during the call.
        unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(socket >= 0, "{}", std::io::Error::last_os_error());
            let socket = std::os::fd::OwnedFd::from_raw_fd(socket);
            let bound = libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length);
            assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
            Self(socket)
        }
    }

    fn send(&self, frame: &[u8]) {
        use std::os::fd::AsRawFd as _;
        // SAFETY: the frame is alive during the call.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(
            usize::try_from(sent),
            Ok(frame.len()),
            "{}",
            std::io::Error::last_os_error()
        );
    }
}

/// Frames of random bytes, and some of `frames` with a byte changed or the end cut off.
fn odd_frames(random: &mut Random, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut odd = Vec::new();
    for _ in 0..100 {
        let mut frame = vec![0; 20 + random.below(200)];
        frame.fill_with(|| u8::try_from(random.below(256)).unwrap());
        odd.push(frame);
        let mut changed = frames[random.below(frames.len())].clone();
        let at = random.below(changed.len());
        changed[at] = u8::try_from(random.below(256)).unwrap();
        odd.push(changed);
        let mut cut = frames[random.below(frames.len())].clone();
        cut.truncate(20 + random.below(60));
        odd.push(cut);
    }
    // The kernel drops a received packet that ends within its tag.
    odd.retain(|frame| frame.len() >= 20);
    odd
}

/// A valid program of up to 30 instructions, without a loop.
fn program(random: &mut Random) -> Filter {
    const LOADS: [u16; 14] = [
        0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, 0x01, 0x61, 0x81, 0xB1, 0x02,
    ];
    loop {
        let count = 2 + random.below(29);
        let mut instructions = Vec::new();
        for number in 0..count {
            let rest = count - number - 1;
            let code = match random.below(10) {
                _ if rest == 0 => [0x06, 0x16][random.below(2)],
                0..=4 => LOADS[random.below(LOADS.len())],
                5 => [0x03, 0x07, 0x87][random.below(3)],
                6 => 0x04 | u16::try_from(random.below(11) << 4 | random.below(2) << 3).unwrap(),
                7 | 8 => 0x05 | u16::try_from(random.below(5) << 4 | random.below(2) << 3).unwrap(),
                _ => u16::try_from(random.below(0x10000)).unwrap(),
            };
            let operand = match random.below(20) {
                0 => random.below(1 << 32),
                1 => (1 << 32) - 1 - random.below(20),
                2..=6 => random.below(rest.clamp(1, 16)),
                _ => random.below(64),
            };
            let skip = |random: &mut Random| u8::try_from(random.below(rest.clamp(1, 8))).unwrap();
            instructions.push(Instruction {
                code,
                if_true: skip(random),
                if_false: skip(random),
                operand: u32::try_from(operand).unwrap(),
            });
        }
        let is_loop = |one: &Instruction| one.code & 0xF7 == 0x05 && one.operand > 64;
        if !instructions.iter().any(is_loop)
            && let Ok(filter) = Filter::new(instructions)
        {
            return filter;
        }
    }
}

#[test]
fn the_kernel_rejects_what_libpcaps_expressions_reject() {
    let Some(_peers) = peers(&["ip"]) else {
        return;
    };
    let mut kernel = Kernel::start();
    let mut frames = frames();
    frames.extend(odd_frames(&mut Random::new(1), &frames));
    frames.retain(|frame| frame.len() >= 20);
    let mut total = Shares::default();
    for expression in EXPRESSIONS {
        let filter = compile_filter(expression, LinkType::ETHERNET, SNAP_LENGTH).unwrap();
        for snap_length in [SNAP_LENGTH, 60, 13] {
            let shares = kernel.compare(&filter, snap_length, &frames, expression);
            total.rejected += shares.rejected;
            total.left += shares.left;
            println!(
                "{expression:?} of {snap_length} bytes: {} rejected, {} left to user space",
                shares.rejected, shares.left
            );
        }
    }
    assert!(total.rejected > 10_000 && total.left * 100 < total.rejected);
}

#[test]
fn the_kernel_rejects_what_any_program_rejects() {
    let Some(_peers) = peers(&["ip"]) else {
        return;
    };
    let mut kernel = Kernel::start();
    let mut random = Random::new(2);
    let mut frames = odd_frames(&mut random, &frames());
    frames.retain(|frame| !is_tagged(frame));
    let mut total = Shares::default();
    for number in 0..200 {
        let filter = program(&mut random);
        assert!(filter.instructions().len() <= EXPRESSION_STEPS_UNROLLED as usize);
        let snap_length = [SNAP_LENGTH, 100, 30][number % 3];
        let shares = kernel.compare(&filter, snap_length, &frames, &format!("{filter:?}"));
        assert_eq!(shares.left, 0, "without tags all is certain: {filter:?}");
        total.rejected += shares.rejected;
    }
    println!("{} packets rejected", total.rejected);
    let sent = 2 * 200 * frames.len() as u64;
    assert!(
        (sent / 10..sent * 9 / 10).contains(&total.rejected),
        "{} of {sent}",
        total.rejected
    );
}

#[test]
fn any_program_sees_the_tag_beside_a_packet() {
    let Some(_peers) = peers(&["ip"]) else {
        return;
    };
    let mut kernel = Kernel::start();
    let mut random = Random::new(3);
    let mut frames = odd_frames(&mut random, &frames());
    frames.retain(|frame| is_tagged(frame));
    let mut total = Shares::default();
    for number in 0..300 {
        let filter = program(&mut random);
        let snap_length = [SNAP_LENGTH, 30, 11][number % 3];
        let shares = kernel.compare(&filter, snap_length, &frames, &format!("{filter:?}"));
        total.rejected += shares.rejected;
        total.left += shares.left;
    }
    println!("{} rejected, {} left to user space", total.rejected, total.left);
    // Words that are only partly in the tag.
    assert!(total.left > 0 && total.left * 20 < total.rejected);
}
