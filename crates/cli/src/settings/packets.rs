//! `-m pcap`: the interfaces, the packets, and the file.

use ecapture_probe::{DEFAULT_RING_BYTES, Interfaces, PacketConfig, compile_filter};
use ecapture_protocols::pcapng::LinkType;

use super::filters;
use super::outputs::OutputSettings;
use crate::args::{CaptureArgs, GlobalArgs};
use crate::usage::UsageError;

/// Where packets go unless `-w` says otherwise: the original's file.
const DEFAULT_FILE: &str = "save.pcapng";
/// As of tcpdump.
const SNAP_LENGTH: u32 = 262_144;
/// Bytes of the shortest snap length: the headers of Ethernet, IPv4 and TCP.
const SHORTEST_SNAP_LENGTH: u32 = 64;

/// What a capturing command is to bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Plaintext.
    Text,
    /// The secrets of handshakes.
    KeyLog,
    /// Packets, and the keys that decrypt them.
    Packets,
}

impl Mode {
    /// Reads `--model`.
    pub(crate) fn read(capture: &CaptureArgs) -> Result<Self, UsageError> {
        match capture.model.to_ascii_lowercase().as_str() {
            "text" | "" => Ok(Self::Text),
            "pcap" | "pcapng" => Ok(Self::Packets),
            "key" | "keylog" => Ok(Self::KeyLog),
            _ => Err(UsageError::Value {
                flag: "--model",
                expected: "text, keylog or pcap",
                observed: capture.model.clone(),
            }),
        }
    }
}

/// Refuses `-m pcap` and `-m keylog` with a command that has neither.
pub(crate) fn refuse(capture: &CaptureArgs) -> Result<(), UsageError> {
    match Mode::read(capture)? {
        Mode::Text => Ok(()),
        Mode::KeyLog => Err(UsageError::Outputs {
            flag: "--model",
            problem: "this command writes no key log".to_owned(),
            instead: "write `ecapture tls -m keylog -k FILE`".to_owned(),
        }),
        Mode::Packets => Err(UsageError::Outputs {
            flag: "--model",
            problem: "this command captures no packets".to_owned(),
            instead: "write `ecapture tls -m pcap -w FILE`".to_owned(),
        }),
    }
}

/// Returns the words before `--` that select plaintext: in other modes they do not.
pub(crate) fn selecting_words(capture: &CaptureArgs) -> Result<&[String], UsageError> {
    Ok(match Mode::read(capture)? {
        Mode::Text => &capture.words,
        Mode::KeyLog | Mode::Packets => &[],
    })
}

/// Resolves what concerns packets; `None` in another mode. A ring larger than the usual one is as large for packets.
pub(super) fn resolve(
    global: &GlobalArgs,
    capture: &CaptureArgs,
    ring_bytes: u32,
) -> Result<Option<PacketConfig>, UsageError> {
    let packets = &capture.packets;
    if Mode::read(capture)? != Mode::Packets {
        let flags = [
            (packets.pcapfile.is_some(), "--pcapfile"),
            (!packets.ifname.is_empty(), "--ifname"),
            (packets.snaplen.is_some(), "--snaplen"),
        ];
        if let Some((_, flag)) = flags.into_iter().find(|(is_given, _)| *is_given) {
            return Err(UsageError::Outputs {
                flag,
                problem: "it belongs to -m pcap".to_owned(),
                instead: "add -m pcap, or leave it out".to_owned(),
            });
        }
        return filters::of_words(&capture.words).map(|_| None);
    }
    let filter = Some(capture.words.join(" ")).filter(|words| !words.trim().is_empty());
    if let Some(expression) = &filter {
        let compiled = compile_filter(expression, LinkType::ETHERNET, SNAP_LENGTH);
        compiled.map_err(|error| UsageError::Packets(error.to_string()))?;
    }
    let has_processes = !global.pid.is_empty() && global.pid.iter().any(|pid| pid != "0");
    let has_user = global.uid.as_deref().is_some_and(|uid| uid != "0");
    let has_cgroup = capture
        .cgroup_path
        .as_ref()
        .is_some_and(|path| !path.as_os_str().is_empty());
    Ok(Some(PacketConfig {
        interfaces: interfaces(&packets.ifname),
        snap_length: snap_length(packets.snaplen)?,
        filter,
        of_processes: has_processes || has_user || has_cgroup || !capture.command.is_empty(),
        ring_bytes: ring_bytes.max(DEFAULT_RING_BYTES),
        without_tcx: capture.inject.iter().any(|failure| failure == "clsact"),
    }))
}

fn interfaces(names: &[String]) -> Interfaces {
    if names.is_empty() {
        Interfaces::DefaultRoute
    } else if names.iter().any(|name| name == "any") {
        Interfaces::Any
    } else {
        Interfaces::Named(names.to_vec())
    }
}

/// As with tcpdump, 0 is the longest.
fn snap_length(wanted: Option<u32>) -> Result<u32, UsageError> {
    match wanted {
        None | Some(0) => Ok(SNAP_LENGTH),
        Some(bytes) if (SHORTEST_SNAP_LENGTH..=SNAP_LENGTH).contains(&bytes) => Ok(bytes),
        Some(bytes) => Err(UsageError::Value {
            flag: "--snaplen",
            expected: "64 to 262144 bytes, or 0 for the most",
            observed: bytes.to_string(),
        }),
    }
}

/// The outputs of a capturing command: with `-m pcap` the packets, beside what `-o` asks for.
pub(crate) fn outputs(global: &GlobalArgs, capture: &CaptureArgs) -> Result<OutputSettings, UsageError> {
    let output = OutputSettings::resolve(global)?;
    if Mode::read(capture)? != Mode::Packets {
        return Ok(output);
    }
    let file = capture.packets.pcapfile.as_deref().unwrap_or(DEFAULT_FILE);
    output.with_packets(file, !global.output.is_empty())
}
