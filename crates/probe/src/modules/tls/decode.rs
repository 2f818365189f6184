//! From the kernel's records of TLS to events.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use ecapture_ebpf::limits::CHUNK_PAYLOAD;
use ecapture_ebpf::record::{
    BEFORE_PROBES, DIRECTION_WRITE, DataHeader, DecodeError, FAMILY_V4, FAMILY_V6, NO_OFFSET,
    OPEN_BEFORE_CAPTURE, ROLE_ACCEPTOR, Record, SOCKET_HEURISTIC,
};
use ecapture_protocols::{
    AddressSource, CapturedEvent, Comm, DataEvent, Direction, JoinedLate, Process, Side, Socket, TlsVersion,
    Tuple,
};

/// Copies one record out of the ring.
pub(super) fn event(bytes: &[u8]) -> Result<CapturedEvent, DecodeError> {
    Ok(match Record::decode(bytes)? {
        Record::Data(header, payload) => CapturedEvent::Data(data(&header, payload)),
        Record::Close(record) => return Err(DecodeError::UnknownKind(record.kind)),
    })
}

fn data(header: &DataHeader, payload: &[u8]) -> DataEvent {
    DataEvent {
        timestamp_ns: header.timestamp_ns,
        process: Process {
            pid: header.pid,
            tid: header.tid,
            uid: Some(header.uid),
            comm: Comm::new(header.comm),
        },
        container_id: None,
        program: None,
        direction: if header.direction == DIRECTION_WRITE {
            Direction::Write
        } else {
            Direction::Read
        },
        fd: u32::try_from(header.fd).ok(),
        session: Some(header.session),
        socket: socket(header),
        tls_version: (header.tls_version != 0).then_some(TlsVersion(header.tls_version)),
        stream_offset: (header.stream_offset != NO_OFFSET).then_some(header.stream_offset),
        joined_late: joined_late(header.joined_late),
        payload: payload_of(header, payload),
    }
}

/// What was left out is zeros, so that everything behind it has the same positions and lengths.
fn payload_of(header: &DataHeader, payload: &[u8]) -> Bytes {
    static ZEROS: [u8; CHUNK_PAYLOAD] = [0; CHUNK_PAYLOAD];
    match header.left_out {
        0 => Bytes::copy_from_slice(payload),
        length => Bytes::from_static(&ZEROS[..(length as usize).min(CHUNK_PAYLOAD)]),
    }
}

fn joined_late(lateness: u8) -> Option<JoinedLate> {
    match lateness {
        OPEN_BEFORE_CAPTURE => Some(JoinedLate::OpenBeforeCapture),
        BEFORE_PROBES => Some(JoinedLate::BeforeProbes),
        _ => None,
    }
}

/// The initiator is the source; where it is not known, the local end.
fn socket(header: &DataHeader) -> Option<Socket> {
    let local = address(header.family, &header.local_address, header.local_port)?;
    let remote = address(header.family, &header.remote_address, header.remote_port)?;
    let (tuple, side) = if header.role == ROLE_ACCEPTOR {
        (
            Tuple {
                source: remote,
                destination: local,
            },
            Side::Destination,
        )
    } else {
        (
            Tuple {
                source: local,
                destination: remote,
            },
            Side::Source,
        )
    };
    Some(Socket {
        sock: header.sock,
        tuple,
        local: Some(side),
        address_source: if header.socket_source == SOCKET_HEURISTIC {
            AddressSource::Heuristic
        } else {
            AddressSource::Exact
        },
    })
}

/// An IPv4 address inside an IPv6 socket is shown as what it is.
fn address(family: u16, bytes: &[u8; 16], port: u16) -> Option<SocketAddr> {
    let address = match family {
        FAMILY_V4 => {
            let [a, b, c, d, ..] = *bytes;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        FAMILY_V6 => {
            let address = Ipv6Addr::from(*bytes);
            address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use ecapture_ebpf::record::{
        DIRECTION_READ, KIND_DATA, NO_FD, NOT_JOINED_LATE, ROLE_CONNECTOR, ROLE_UNKNOWN, SOCKET_EXACT,
    };

    use super::*;

    fn header() -> DataHeader {
        DataHeader {
            kind: KIND_DATA,
            payload_length: 2,
            timestamp_ns: 9,
            pid: 1,
            tid: 2,
            uid: 3,
            fd: 7,
            comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
            session: 0x10,
            stream_offset: 100,
            sock: 0x20,
            local_address: [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            remote_address: [10, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            local_port: 443,
            remote_port: 40000,
            family: FAMILY_V4,
            tls_version: 0x0304,
            direction: DIRECTION_READ,
            role: ROLE_ACCEPTOR,
            socket_source: SOCKET_EXACT,
            joined_late: OPEN_BEFORE_CAPTURE,
            left_out: 0,
        }
    }

    #[test]
    fn an_acceptors_peer_is_the_source() {
        let event = data(&header(), b"hi");
        let socket = event.socket.unwrap();
        assert_eq!(socket.tuple.to_string(), "10.0.0.9:40000-127.0.0.1:443");
        assert_eq!(socket.local, Some(Side::Destination));
        assert_eq!(socket.address_source, AddressSource::Exact);
        assert_eq!((event.fd, event.stream_offset), (Some(7), Some(100)));
        assert_eq!(event.joined_late, Some(JoinedLate::OpenBeforeCapture));
        assert_eq!(&event.payload[..], b"hi");
    }

    #[test]
    fn a_connector_and_an_unknown_role_are_the_source() {
        for role in [ROLE_CONNECTOR, ROLE_UNKNOWN] {
            let socket = socket(&DataHeader { role, ..header() }).unwrap();
            assert_eq!(socket.tuple.to_string(), "127.0.0.1:443-10.0.0.9:40000");
            assert_eq!(socket.local, Some(Side::Source));
        }
    }

    #[test]
    fn a_mapped_address_is_shown_as_ipv4() {
        let local_address = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let remote_address = Ipv6Addr::LOCALHOST.octets();
        let header = DataHeader {
            family: FAMILY_V6,
            local_address,
            remote_address,
            ..header()
        };
        let socket = socket(&header).unwrap();
        assert_eq!(socket.tuple.to_string(), "[::1]:40000-127.0.0.1:443");
    }

    #[test]
    fn what_was_left_out_is_zeros() {
        let header = DataHeader {
            payload_length: 0,
            left_out: 3,
            ..header()
        };
        assert_eq!(&data(&header, b"").payload[..], [0; 3]);
        let beyond = DataHeader {
            left_out: u32::MAX,
            ..header
        };
        assert_eq!(data(&beyond, b"").payload.len(), CHUNK_PAYLOAD);
    }

    #[test]
    fn unknown_stays_unknown() {
        let header = DataHeader {
            family: 0,
            fd: NO_FD,
            tls_version: 0,
            stream_offset: NO_OFFSET,
            joined_late: NOT_JOINED_LATE,
            ..header()
        };
        let event = data(&header, b"");
        assert_eq!(event.joined_late, None);
        assert_eq!((event.socket, event.fd, event.tls_version), (None, None, None));
        assert_eq!(event.stream_offset, None);
    }
}
