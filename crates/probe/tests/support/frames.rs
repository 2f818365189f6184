//! Packets for filter expressions, and the expressions.

/// Expressions of pcap-filter(7).
pub(crate) const EXPRESSIONS: [&str; 36] = [
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "port 443",
    "tcp port 443",
    "tcp src port 443",
    "tcp dst port 443 or udp dst port 53",
    "udp port 53",
    "host 10.0.0.1",
    "src host 10.0.0.2",
    "dst host 2001:db8::2",
    "host 2001:db8::1 and tcp",
    "net 10.0.0.0/24",
    "ip6 net 2001:db8::/32",
    "not port 443",
    "portrange 50-500",
    "tcp[tcpflags] & tcp-syn != 0",
    "tcp[13] = 18",
    "ip[6:2] & 0x1fff != 0",
    "tcp[((tcp[12] & 0xf0) >> 2)] = 22",
    "vlan",
    "vlan 5",
    "vlan 5 and tcp port 443",
    "vlan and ip6",
    "vlan 5 and vlan 6",
    "vlan 6 and vlan 5 and ip",
    "ether host 02:00:00:00:00:01",
    "ether proto 0x86dd",
    "greater 200",
    "less 60",
    "ip6 protochain 6",
    "len - ip[2:2] = 14 and ip[0] & 0xf = 6",
];

fn ethernet(tags: &[u16], kind: u16, content: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend_from_slice(&[0x81, 0x00]);
        frame.extend_from_slice(&tag.to_be_bytes());
    }
    frame.extend_from_slice(&kind.to_be_bytes());
    frame.extend_from_slice(content);
    frame
}

fn ipv4(protocol: u8, hosts: (u8, u8), fragment: u16, options: usize, content: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
    packet.extend_from_slice(&u16::try_from(header + content.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(&[64, protocol, 0, 0, 10, 0, 0, hosts.0, 10, 0, 0, hosts.1]);
    packet.extend(std::iter::repeat_n(1, options));
    packet.extend_from_slice(content);
    packet
}

/// With a header of destination options before the content if that is asked for.
fn ipv6(protocol: u8, hosts: (u8, u8), options: bool, content: &[u8]) -> Vec<u8> {
    let extension: &[u8] = if options {
        &[protocol, 0, 1, 4, 0, 0, 0, 0]
    } else {
        &[]
    };
    let length = extension.len() + content.len();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
    packet.extend_from_slice(&[if options { 60 } else { protocol }, 64]);
    for host in [hosts.0, hosts.1] {
        packet.extend_from_slice(&[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend_from_slice(extension);
    packet.extend_from_slice(content);
    packet
}

fn tcp(ports: (u16, u16), flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend_from_slice(&ports.0.to_be_bytes());
    segment.extend_from_slice(&ports.1.to_be_bytes());
    segment.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 1, 0, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    segment
}

fn udp(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    datagram.extend_from_slice(&ports.0.to_be_bytes());
    datagram.extend_from_slice(&ports.1.to_be_bytes());
    datagram.extend_from_slice(&u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(payload);
    datagram
}

/// Frames for the expressions: each chooses some and leaves some.
pub(crate) fn frames() -> Vec<Vec<u8>> {
    let hello = [22, 3, 1, 0, 200].into_iter().chain([7; 200]).collect::<Vec<_>>();
    let mut frames = vec![
        ethernet(&[], 0x0806, &[0; 28]),
        // Another protocol than IP.
        ethernet(&[], 0x88CC, &[0; 40]),
        vec![2; 14],
    ];
    for tags in [&[][..], &[5], &[6], &[5, 6], &[6, 5]] {
        for hosts in [(1, 2), (2, 1), (3, 4)] {
            let segments = [
                tcp((40_000, 443), 2, &[]),
                tcp((443, 40_000), 18, &[]),
                tcp((40_000, 443), 24, &hello),
                tcp((40_000, 80), 16, b"GET / HTTP/1.1\r\n\r\n"),
            ];
            for segment in &segments {
                frames.push(ethernet(tags, 0x0800, &ipv4(6, hosts, 0, 0, segment)));
                frames.push(ethernet(tags, 0x0800, &ipv4(6, hosts, 0, 4, segment)));
                frames.push(ethernet(tags, 0x86DD, &ipv6(6, hosts, false, segment)));
                frames.push(ethernet(tags, 0x86DD, &ipv6(6, hosts, true, segment)));
            }
            let query = udp((5353, 53), b"query");
            frames.push(ethernet(tags, 0x0800, &ipv4(17, hosts, 0, 0, &query)));
            frames.push(ethernet(tags, 0x86DD, &ipv6(17, hosts, false, &query)));
            // The first fragment and a later one.
            frames.push(ethernet(tags, 0x0800, &ipv4(17, hosts, 0x2000, 0, &query)));
            frames.push(ethernet(tags, 0x0800, &ipv4(17, hosts, 2, 0, &query)));
            frames.push(ethernet(
                tags,
                0x0800,
                &ipv4(1, hosts, 0, 0, &[8, 0, 0, 0, 0, 0, 0, 0]),
            ));
            frames.push(ethernet(
                tags,
                0x86DD,
                &ipv6(58, hosts, false, &[128, 0, 0, 0, 0, 0, 0, 0]),
            ));
        }
    }
    frames
}
