//! The cost of the programs for the kernel's verifier: it is most of a capture's start, and older
//! verifiers need more for the same program.

use std::fs;

use ecapture_probe::{Capture, CaptureConfig, Hooks, Interfaces, PacketConfig, Processes};

use crate::support::{config, peers};

/// The kernel refuses a program at a million (`BPF_COMPLEXITY_LIMIT_INSNS`). 30,000 take it some 50 ms.
const MOST_INSTRUCTIONS: u64 = 40_000;

/// The kernel refuses a program whose frames together take more than 512 bytes (`MAX_BPF_STACK`).
const MOST_STACK: u64 = 480;

#[test]
fn no_program_takes_the_verifier_long() {
    let Some(_peers) = peers(&["openssl"]) else {
        return;
    };
    let _with_system_calls = Capture::load(&CaptureConfig {
        hooks: Hooks {
            system_calls: true,
            ..Hooks::default()
        },
        ..config(Processes::All)
    })
    .unwrap();
    let _without = Capture::load(&config(Processes::All)).unwrap();
    let _with_live_filters = Capture::load(&CaptureConfig {
        live: true,
        ..config(Processes::All)
    })
    .unwrap();
    let _with_packets = Capture::load(&CaptureConfig {
        packets: Some(PacketConfig {
            interfaces: Interfaces::Named(vec!["lo".to_owned()]),
            filter: Some("tcp port 1".to_owned()),
            ..PacketConfig::default()
        }),
        ..config(Processes::All)
    })
    .unwrap();
    let _without_content = Capture::load(&CaptureConfig {
        without_content: true,
        ..config(Processes::All)
    })
    .unwrap();
    let verified: Vec<u64> = fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .filter_map(|descriptor| fs::read_to_string(descriptor.ok()?.path()).ok())
        .filter_map(|lines| verified_instructions(&lines))
        .collect();
    assert!(verified.len() > 30, "the programs are among {verified:?}");
    assert!(
        verified.iter().all(|&count| count < MOST_INSTRUCTIONS),
        "{verified:?}"
    );
}

#[test]
fn every_program_leaves_some_stack() {
    let Some(_peers) = peers(&["openssl"]) else {
        return;
    };
    for without_content in [false, true] {
        let checks = ecapture_probe::check_programs(ecapture_probe::Modules::ALL, without_content).unwrap();
        let stacks: Vec<_> = checks
            .iter()
            .map(|check| (check.program, check.outcome.as_ref().unwrap().unwrap().stack))
            .collect();
        assert!(stacks.len() > 30, "{stacks:?}");
        assert!(stacks.iter().all(|&(_, stack)| stack <= MOST_STACK), "{stacks:?}");
    }
}

fn verified_instructions(lines: &str) -> Option<u64> {
    let count = lines
        .lines()
        .find_map(|line| line.strip_prefix("verified_insns:"))?;
    count.trim().parse().ok()
}
