//! Packets of interfaces and whose they are.

use std::collections::BTreeSet;
use std::process::Command;

use ecapture_probe::{CaptureConfig, Interfaces, PacketConfig, PacketFigures, Processes};
use ecapture_protocols::event::{Interface, InterfaceFigures, Packet, PacketFact};
use ecapture_protocols::packet::Headers;
use ecapture_protocols::pcapng::LinkType;
use ecapture_protocols::{CapturedEvent, Fact};

use crate::support::{Captured, capture, capture_late, config, curl, output, peers};

fn packets_of(processes: Processes, interface: &str) -> CaptureConfig {
    CaptureConfig {
        packets: Some(PacketConfig {
            interfaces: match interface {
                "any" => Interfaces::Any,
                name => Interfaces::Named(vec![name.to_owned()]),
            },
            of_processes: processes != Processes::All,
            ..PacketConfig::default()
        }),
        ..config(processes)
    }
}

fn facts<T>(captured: &Captured<T>) -> impl Iterator<Item = &PacketFact> {
    captured.events.iter().filter_map(|event| match event {
        CapturedEvent::Observed(observed) => match &observed.fact {
            Fact::Packets(fact) => Some(fact),
            _ => None,
        },
        _ => None,
    })
}

fn packets<T>(captured: &Captured<T>) -> Vec<&Packet> {
    let packets = facts(captured).filter_map(|fact| match fact {
        PacketFact::Packet(packet) => Some(packet),
        _ => None,
    });
    packets.collect()
}

fn interfaces<T>(captured: &Captured<T>) -> Vec<&Interface> {
    let interfaces = facts(captured).filter_map(|fact| match fact {
        PacketFact::Interface(interface) => Some(interface),
        _ => None,
    });
    interfaces.collect()
}

fn figures<T>(captured: &Captured<T>) -> Vec<&InterfaceFigures> {
    let figures = facts(captured).filter_map(|fact| match fact {
        PacketFact::Figures(figures) => Some(figures),
        _ => None,
    });
    figures.collect()
}

/// Those from or to a port, without the packets that have no ports.
fn with_port<'a>(packets: &[&'a Packet], port: u16) -> Vec<(Headers<'a>, &'a Packet)> {
    let with_headers = packets.iter().filter_map(|packet| {
        let headers = Headers::of(LinkType::ETHERNET, &packet.data)?;
        Some((headers, *packet))
    });
    with_headers
        .filter(|(headers, _)| [headers.flow.source.port(), headers.flow.destination.port()].contains(&port))
        .collect()
}

/// The bytes that went to a port, put together by their sequence numbers.
fn payload(packets: &[(Headers<'_>, &Packet)], port: u16) -> usize {
    let sent = packets
        .iter()
        .filter(|(headers, _)| headers.flow.source.port() == port);
    sent.map(|(headers, _)| headers.payload.len()).sum()
}

fn tc_output(interface: &str) -> String {
    ["ingress", "egress"]
        .map(|side| {
            let listed = Command::new("tc")
                .args(["filter", "show", "dev", interface, side])
                .output();
            String::from_utf8_lossy(&listed.unwrap().stdout).into_owned()
        })
        .concat()
}

#[test]
fn each_packet_of_the_loopback_interface_comes_once_and_with_both_processes() {
    let Some(peers) = peers(&["python3", "openssl", "curl", "tc"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let port: u16 = server.line().parse().unwrap();
    let server_pid = server.pid();
    for without_tcx in [false, true] {
        let mut config = packets_of(Processes::All, "lo");
        config.packets.as_mut().unwrap().without_tcx = without_tcx;
        let captured = capture(&config, move |_| {
            let mut client = curl(&[&format!("https://127.0.0.1:{port}/")]).spawn().unwrap();
            let pid = client.id();
            assert!(client.wait().unwrap().success());
            (pid, tc_output("lo"))
        });
        let (client_pid, listed) = &captured.result;
        assert_eq!(listed.contains("ecapture:"), without_tcx, "{listed}");
        let all = packets(&captured);
        let ours = with_port(&all, port);
        assert!(
            ours.iter()
                .all(|(_, packet)| packet.sent && packet.interface == 0)
        );
        assert_eq!(ours.iter().filter(|(headers, _)| headers.opens).count(), 1);
        for (headers, packet) in &ours {
            let (sender, receiver) = if headers.flow.destination.port() == port {
                (*client_pid, server_pid)
            } else {
                (server_pid, *client_pid)
            };
            let pids = [packet.sender, packet.receiver].map(|process| process.map(|process| process.pid));
            assert_eq!(pids, [Some(sender), Some(receiver)], "{headers:?}");
            assert_eq!(packet.length as usize, packet.data.len());
        }
        assert!(payload(&ours, port) > 1000);
        assert_eq!(interfaces(&captured).len(), 1);
        let [figures] = figures(&captured)[..] else {
            panic!("one interface has one set of figures");
        };
        assert_eq!(figures.dropped, 0);
        assert_eq!(figures.received, all.len() as u64);
        assert_eq!(figures.accepted, all.len() as u64);
        assert!(!tc_output("lo").contains("ecapture"), "it is removed at the end");
    }
}

#[test]
fn packets_of_other_processes_never_appear() {
    let Some(peers) = peers(&["python3", "openssl", "curl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let mut other = peers.server("https_server.py", &["127.0.0.1"]);
    let [port, other_port] = [&mut server, &mut other].map(|server| server.line().parse::<u16>().unwrap());
    let captured = capture(&packets_of(Processes::One(server.pid()), "lo"), move |_| {
        for _ in 0..5 {
            output(&mut curl(&[&format!("https://127.0.0.1:{other_port}/")]));
            output(&mut curl(&[&format!("https://127.0.0.1:{port}/")]));
        }
    });
    let all = packets(&captured);
    let ours = with_port(&all, port);
    assert_eq!(ours.len(), all.len(), "all packets are of the server");
    let opened: BTreeSet<_> = ours
        .iter()
        .filter(|(headers, _)| headers.opens)
        .map(|(headers, _)| headers.flow.source.port())
        .collect();
    assert_eq!(opened.len(), 5, "each connection from its first packet on");
    assert!(payload(&ours, port) > 5000);
}

/// Two interfaces, `ecap-a` and `ecap-b`, that are gone when it is dropped.
pub(crate) struct Pair;

impl Drop for Pair {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["link", "del", "ecap-a"]).status();
    }
}

#[test]
fn interfaces_that_appear_later_are_captured_too() {
    let Some(_peers) = peers(&["ip", "ping"]) else {
        return;
    };
    let captured = capture(&packets_of(Processes::All, "any"), |_| {
        let _pair = Pair;
        for line in [
            "link add ecap-a type veth peer name ecap-b",
            "addr add 198.18.7.1/30 dev ecap-a",
            "link set ecap-b up",
            "link set ecap-a up",
        ] {
            output(Command::new("ip").args(line.split(' ')));
        }
        // Nobody answers.
        let _lost = Command::new("ping")
            .args(["-c", "3", "-i", "0.2", "-W", "1", "198.18.7.2"])
            .output();
    });
    let all = interfaces(&captured);
    let number = |name: &str| all.iter().find(|one| &*one.name == name).map(|one| one.number);
    let (a, b) = (number("ecap-a").unwrap(), number("ecap-b").unwrap());
    let packets = packets(&captured);
    let of = |number, sent| {
        packets
            .iter()
            .filter(|packet| (packet.interface, packet.sent) == (number, sent))
            .map(|packet| &packet.data)
            .collect::<Vec<_>>()
    };
    assert!(!of(a, true).is_empty());
    assert!(
        of(b, false).iter().any(|packet| of(a, true).contains(packet)),
        "what one end sends, the other one receives"
    );
    assert!(all.iter().any(|one| &*one.name == "lo"));
}

#[test]
fn a_full_ring_is_counted_and_filters_select() {
    let Some(peers) = peers(&["python3", "openssl", "curl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let port: u16 = server.line().parse().unwrap();
    let mut config = packets_of(Processes::All, "lo");
    let settings = config.packets.as_mut().unwrap();
    settings.filter = Some(format!("tcp dst port {port}"));
    settings.snap_length = 100;
    settings.ring_bytes = 4096;
    let captured = capture_late(&config, move |handle| {
        for _ in 0..20 {
            output(&mut curl(&[&format!("https://127.0.0.1:{port}/")]));
        }
        handle.clone()
    });
    let all = packets(&captured);
    assert!(all.iter().all(|packet| packet.data.len() <= 100));
    assert!(all.iter().any(|packet| packet.length > 100));
    let ours = with_port(&all, port);
    assert!(
        ours.len() == all.len()
            && ours
                .iter()
                .all(|(headers, _)| headers.flow.destination.port() == port)
    );
    let [of_interface] = figures(&captured)[..] else {
        panic!("one interface has one set of figures");
    };
    let total: PacketFigures = captured.result.tally().packets().unwrap();
    assert!(of_interface.dropped > 0, "{total:?}");
    assert_eq!(total.dropped, of_interface.dropped);
    assert_eq!(
        total.received,
        total.dropped + total.not_matching + total.captured,
        "{total:?}"
    );
    assert_eq!(total.captured, all.len() as u64);
}

/// The kernel rejects the packets that open a connection, and those to the server. They are not seen, but whose the
/// others are is known, and which socket answers.
#[test]
fn packets_that_a_filter_rejects_are_counted_and_cost_no_owners() {
    let Some(peers) = peers(&["python3", "openssl", "curl"]) else {
        return;
    };
    let mut server = peers.server("https_server.py", &["127.0.0.1"]);
    let port: u16 = server.line().parse().unwrap();
    let server_pid = server.pid();
    for processes in [Processes::All, Processes::One(server_pid)] {
        let mut config = packets_of(processes, "lo");
        let settings = config.packets.as_mut().unwrap();
        settings.filter = Some(format!("tcp src port {port} and tcp[tcpflags] & tcp-syn == 0"));
        let captured = capture(&config, move |handle| {
            let mut pids = Vec::new();
            for _ in 0..5 {
                let mut client = curl(&[&format!("https://127.0.0.1:{port}/")]).spawn().unwrap();
                pids.push(client.id());
                assert!(client.wait().unwrap().success());
            }
            (pids, handle.clone())
        });
        let (pids, handle) = &captured.result;
        let all = packets(&captured);
        let ours = with_port(&all, port);
        assert_eq!(ours.len(), all.len());
        assert!(payload(&ours, port) > 5000);
        for (headers, packet) in &ours {
            assert!(!headers.opens && headers.flow.source.port() == port);
            assert_eq!(packet.sender.map(|process| process.pid), Some(server_pid));
            assert!(packet.receiver.is_some_and(|process| pids.contains(&process.pid)));
        }
        let [of_interface] = figures(&captured)[..] else {
            panic!("one interface has one set of figures");
        };
        let total: PacketFigures = handle.tally().packets().unwrap();
        assert!(total.not_matching > 5 * 5, "{total:?}");
        assert_eq!(total.dropped, 0);
        assert_eq!(total.received, total.not_matching + total.captured, "{total:?}");
        assert_eq!(of_interface.received, total.received);
        assert_eq!(of_interface.accepted, total.captured);
    }
}
