//! Packets, where traffic control sees them: after the driver has received them and before the queue of the device
//! that sends them. Every packet goes on unchanged.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use ecapture_ebpf::limits::PACKET_PAYLOADS;
use ecapture_ebpf::packet::{EGRESS, INGRESS, InterfaceCounters, KIND_PACKET, PacketHeader};

use super::expression::rejects;
use super::filter::ended;
use super::maps::{INTERFACES, PACKETS, config};

/// A record as reserved in the ring.
#[repr(C)]
struct Slot<const PAYLOAD: usize> {
    header: PacketHeader,
    payload: [u8; PAYLOAD],
}

/// Received packets.
#[classifier]
fn packet_ingress(context: TcContext) -> i32 {
    capture(&context, INGRESS);
    TC_ACT_UNSPEC
}

/// Sent packets.
#[classifier]
fn packet_egress(context: TcContext) -> i32 {
    capture(&context, EGRESS);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn capture(context: &TcContext, direction: u32) {
    if ended() {
        return;
    }
    let packet = context.skb.skb;
    // SAFETY: the kernel passes a valid packet, and lets programs read these fields.
    let (interface, length) = unsafe { ((*packet).ifindex, (*packet).len) };
    let Some(counters) = INTERFACES.get_ptr_mut(interface) else {
        return;
    };
    // SAFETY: the map lookup succeeded; the entry belongs to this CPU.
    let counters = unsafe { &mut *counters };
    counters.received += 1;
    let captured = if length < counters.snap_length {
        length
    } else {
        counters.snap_length
    };
    // SAFETY: as above; the helpers have no preconditions.
    let mut header = unsafe {
        let is_tagged = (*packet).vlan_present != 0;
        PacketHeader {
            kind: KIND_PACKET,
            interface,
            timestamp_ns: 0,
            // This also numbers the socket, so its owner is reported even if the packet is rejected.
            cookie: if direction == EGRESS {
                bpf_get_socket_cookie(packet.cast())
            } else {
                0
            },
            length,
            captured,
            vlan_tci: if is_tagged { (*packet).vlan_tci as u16 } else { 0 },
            vlan_protocol: if is_tagged { (*packet).vlan_proto as u16 } else { 0 },
            direction,
        }
    };
    if rejects(packet, &header, counters) {
        counters.rejected += 1;
        return;
    }
    // SAFETY: the helper has no preconditions.
    header.timestamp_ns = unsafe { bpf_ktime_get_ns() };
    send_sized(context, &header, counters);
}

/// The verifier must know the size of each record.
#[inline(always)]
fn send_sized(context: &TcContext, header: &PacketHeader, counters: &mut InterfaceCounters) {
    let captured = header.captured as usize;
    if captured <= PACKET_PAYLOADS[0] {
        send::<{ PACKET_PAYLOADS[0] }>(context, header, counters);
    } else if captured <= PACKET_PAYLOADS[1] {
        send::<{ PACKET_PAYLOADS[1] }>(context, header, counters);
    } else if captured <= PACKET_PAYLOADS[2] {
        send::<{ PACKET_PAYLOADS[2] }>(context, header, counters);
    } else if captured <= PACKET_PAYLOADS[3] {
        send::<{ PACKET_PAYLOADS[3] }>(context, header, counters);
    } else if captured <= PACKET_PAYLOADS[4] {
        send::<{ PACKET_PAYLOADS[4] }>(context, header, counters);
    } else if captured <= PACKET_PAYLOADS[5] {
        send::<{ PACKET_PAYLOADS[5] }>(context, header, counters);
    } else if captured <= PACKET_PAYLOADS[6] {
        send::<{ PACKET_PAYLOADS[6] }>(context, header, counters);
    } else {
        send::<{ PACKET_PAYLOADS[7] }>(context, header, counters);
    }
}

#[inline(always)]
fn send<const PAYLOAD: usize>(context: &TcContext, header: &PacketHeader, counters: &mut InterfaceCounters) {
    let Some(length) = within(header.captured, PAYLOAD as u32) else {
        counters.unreadable += 1;
        return;
    };
    let Some(mut slot) = PACKETS.reserve::<Slot<PAYLOAD>>(0) else {
        counters.dropped += 1;
        return;
    };
    let record = slot.as_mut_ptr();
    // SAFETY: the slot is ours until it is submitted, and has room for `length` bytes.
    let failed = unsafe {
        bpf_skb_load_bytes(
            context.skb.skb.cast(),
            0,
            (&raw mut (*record).payload).cast(),
            length,
        )
    };
    if failed != 0 {
        slot.discard(u64::from(BPF_RB_NO_WAKEUP));
        counters.unreadable += 1;
        return;
    }
    // SAFETY: as above.
    unsafe {
        (&raw mut (*record).header).write(*header);
        (*record).header.captured = length;
    }
    slot.submit(wake_flag());
}

/// Returns `length` as a number that the verifier knows to be in `1..=most`. One comparison of what is 1 less gives both
/// bounds: before Linux 6.8 the verifier learns nothing from a comparison with 0. It is hidden from the compiler, which
/// knows its result.
#[inline(always)]
fn within(length: u32, most: u32) -> Option<u32> {
    let mut less = u64::from(length).wrapping_sub(1);
    // SAFETY: changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) less) };
    if less >= u64::from(most) {
        return None;
    }
    Some(less as u32 + 1)
}

/// The reader looks at the ring at its own pace, and is woken when much is in it.
#[inline(always)]
pub(super) fn wake_flag() -> u64 {
    if PACKETS.query(0) >= u64::from(config!(packet_wake_bytes)) {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}
