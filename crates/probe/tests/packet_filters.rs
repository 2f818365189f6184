//! Filter expressions choose the packets that tcpdump chooses, over IPv4, IPv6 and VLAN tags.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/frames.rs"]
mod frames;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use ecapture_probe::{PacketError, compile_filter};
use ecapture_protocols::pcapng::{InterfaceBlock, LinkType, PacketBlock, SectionBlock, Writer};

use frames::{EXPRESSIONS, frames};

const SNAP_LENGTH: u32 = 262_144;

fn write_capture(path: &std::path::Path, frames: &[Vec<u8>]) {
    let mut out = Vec::new();
    let writer = Writer::default();
    writer.section(&SectionBlock::default(), &mut out);
    let interface = InterfaceBlock {
        link_type: LinkType::ETHERNET,
        snap_length: SNAP_LENGTH,
        name: None,
        description: None,
        filter: None,
        comment: None,
    };
    writer.interface(&interface, &mut out);
    for (number, frame) in frames.iter().enumerate() {
        let packet = PacketBlock {
            interface: 0,
            timestamp_ns: number as u64 * 1_000_000_000,
            original_length: u32::try_from(frame.len()).unwrap(),
            data: frame,
            flags: None,
            drops: None,
            comment: "",
        };
        writer.packet(&packet, &mut out);
    }
    fs::write(path, out).unwrap();
}

/// The numbers of the packets, which are the seconds of their times.
fn chosen_by_tcpdump(path: &std::path::Path, expression: &str) -> BTreeSet<usize> {
    let output = Command::new("tcpdump")
        .args(["-ttnr"])
        .arg(path)
        .arg(expression)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{expression}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Lines about what is in a packet begin with a tab.
    let times = text
        .lines()
        .filter_map(|line| line.split_once('.'))
        .filter(|(time, _)| !time.starts_with('\t'));
    times.filter_map(|(seconds, _)| seconds.parse().ok()).collect()
}

#[test]
fn expressions_choose_the_packets_that_tcpdump_chooses() {
    if Command::new("tcpdump").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none(),
            "tcpdump is not installed"
        );
        println!("SKIPPED: tcpdump is not installed; `tests/run` installs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("all.pcapng");
    let frames = frames();
    write_capture(&path, &frames);
    for expression in EXPRESSIONS {
        let filter = compile_filter(expression, LinkType::ETHERNET, SNAP_LENGTH).unwrap();
        let accepted = |frame: &[u8]| filter.accepts(frame, u32::try_from(frame.len()).unwrap());
        let numbered = frames.iter().enumerate();
        let ours: BTreeSet<_> = numbered
            .filter(|(_, frame)| accepted(frame))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(ours, chosen_by_tcpdump(&path, expression), "{expression}");
        assert!(
            !ours.is_empty() && ours.len() < frames.len(),
            "{expression} chooses {}",
            ours.len()
        );
    }
}

#[test]
fn a_wrong_expression_is_refused_with_libpcaps_words() {
    for expression in ["tcp prt 443", "host", "port 99999"] {
        match compile_filter(expression, LinkType::ETHERNET, SNAP_LENGTH) {
            Err(error @ PacketError::Expression { .. }) => {
                let error = error.to_string();
                assert!(
                    error.contains(expression) && error.contains("pcap-filter(7)"),
                    "{error}"
                );
            }
            Err(PacketError::NoLibpcap) => return,
            other => panic!("{expression}: {other:?}"),
        }
    }
}
