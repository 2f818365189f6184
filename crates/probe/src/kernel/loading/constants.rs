//! The constants of the programs: the configuration, and the places where this kernel keeps what they read.

use aya::{Btf, Ebpf, EbpfLoader};
use ecapture_ebpf::config::{
    Config, DISCOVER, EXPRESSION, FILTER_CGROUP, FILTER_PID, FILTER_PID_SET, FILTER_UID, FOLLOW_CHILDREN,
    HAS_COOKIE, HAS_LOOP, KernelOffsets, LIVE_FILTERS, PACKETS, WITHOUT_CONTENT,
};

use crate::Error;
use crate::config::{CaptureConfig, Processes};
use crate::find::discovery::Discovery;
use crate::host::kernel;
use crate::modules::Modules;

/// Number of waiting bytes at which the reader is woken early.
const WAKE_BYTES: u32 = 1024 * 1024;
const PAGE_BYTES: u32 = 4096;

/// [`Config`] as a constant of the object.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct ConfigValue(Config);

// SAFETY: `Config` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about constants")]
unsafe impl aya::Pod for ConfigValue {}

/// Makes the maps of the object, with the configuration as its constants.
pub(super) fn make_maps(
    config: &CaptureConfig,
    offsets: KernelOffsets,
    btf: &Btf,
    object: &[u8],
) -> Result<Ebpf, Error> {
    let constants = ConfigValue(constants(config, offsets));
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .override_global("CONFIG", &constants, true)
        .map_max_entries("EVENTS", ring_bytes(config.ring_bytes))
        .map_max_entries("PACKETS", packet_ring_bytes(config));
    if config.packets.is_none() {
        loader.map_max_entries("OWNERS", 1);
    }
    if config
        .packets
        .as_ref()
        .is_none_or(|packets| packets.filter.is_none())
    {
        loader.map_max_entries("EXPRESSIONS", 1);
    }
    if !leaves_content_out(config) {
        loader
            .map_max_entries("FRAMING", 1)
            .map_max_entries("FOLLOWED", 1);
    }
    // The tables of other modules are in the object, too.
    for table in Modules::ALL.tables() {
        loader.map_max_entries(table.name, 1);
    }
    for table in config.modules.tables() {
        loader.map_max_entries(table.name, config.hooks.table_entries.unwrap_or(table.entries));
    }
    for (map, entries) in config.modules.maps() {
        loader.map_max_entries(map, entries);
    }
    loader.load(object).map_err(|error| Error::Load(Box::new(error)))
}

fn constants(config: &CaptureConfig, offsets: KernelOffsets) -> Config {
    let mut features = config.modules.features();
    if kernel::has_loop() {
        features |= HAS_LOOP;
    }
    let (mut filters, pid) = match config.processes {
        // They are in a map, which is filled later.
        _ if config.live => (0, 0),
        Processes::All => (0, 0),
        Processes::Numbered(pid) => (FILTER_PID, pid),
        // The set forgets a process that has ended: its number may be given to another one.
        Processes::One(pid) => (FILTER_PID | FILTER_PID_SET, pid),
        Processes::Set {
            follow_children: false,
        } => (FILTER_PID_SET, 0),
        Processes::Set {
            follow_children: true,
        } => (FILTER_PID_SET | FOLLOW_CHILDREN, 0),
    };
    if config.live {
        features |= LIVE_FILTERS;
    }
    if config.uid.is_some() && !config.live {
        filters |= FILTER_UID;
    }
    if config.cgroup.is_some() && !config.live {
        filters |= FILTER_CGROUP;
    }
    let wake_bytes = WAKE_BYTES.min(config.ring_bytes / 4);
    if config.discovery != Discovery::Off {
        features |= DISCOVER;
    }
    if leaves_content_out(config) {
        features |= WITHOUT_CONTENT;
    }
    if kernel::has_cookie() {
        features |= HAS_COOKIE;
    }
    if let Some(packets) = &config.packets {
        features |= PACKETS;
        if packets.filter.is_some() {
            features |= EXPRESSION;
        }
    }
    Config {
        filters,
        pid,
        uid: config.uid.unwrap_or(0),
        features,
        ring_bytes: ring_bytes(config.ring_bytes),
        wake_bytes,
        packet_wake_bytes: packet_ring_bytes(config) / 8,
        offsets,
    }
}

/// Whether the programs leave content out: if it is not wanted, and this kernel can.
pub(super) fn leaves_content_out(config: &CaptureConfig) -> bool {
    config.without_content && kernel::can_leave_content_out()
}

/// A power of two of at least a page.
fn ring_bytes(wanted: u32) -> u32 {
    let bytes = wanted.max(PAGE_BYTES).checked_next_power_of_two();
    bytes.unwrap_or(1 << 31)
}

/// A page where no packets are captured.
fn packet_ring_bytes(config: &CaptureConfig) -> u32 {
    let wanted = config.packets.as_ref().map_or(0, |packets| packets.ring_bytes);
    ring_bytes(wanted)
}
