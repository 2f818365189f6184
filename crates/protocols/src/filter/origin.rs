//! The fields of a message's process and connection.

use std::net::{IpAddr, SocketAddr};

use super::field::{Field, FieldName, Kind};
use super::value::Value;
use crate::event::Origin;

/// Calls `take` with each known value of a field of the connection.
pub(super) fn each_of_origin(origin: &Origin, field: &Field, take: &mut dyn FnMut(Value<'_>)) {
    match field.name() {
        FieldName::Address
        | FieldName::AddressDestination
        | FieldName::AddressSource
        | FieldName::Port
        | FieldName::PortDestination
        | FieldName::PortSource => each_end(origin, field, take),
        name => value_of(origin, name).into_iter().for_each(take),
    }
}

fn value_of(origin: &Origin, name: FieldName) -> Option<Value<'_>> {
    let process = &origin.process;
    let connection = || origin.stream.as_ref().map(|stream| stream.connection);
    Some(match name {
        FieldName::Comm => Value::Text(process.comm.as_bytes()),
        FieldName::Pid => Value::Number(process.pid.into()),
        FieldName::Program => Value::Text(origin.program.as_ref()?.as_bytes()),
        FieldName::Uid => Value::Number(process.uid?.into()),
        FieldName::Connection => Value::of_u64(connection()?),
        // Wireshark counts from 0.
        FieldName::TcpStream => Value::of_u64(connection()?.checked_sub(1)?),
        _ => return None,
    })
}

fn each_end(origin: &Origin, field: &Field, take: &mut dyn FnMut(Value<'_>)) {
    let Some((ends, are_in_order)) = ends(origin) else {
        return;
    };
    let chosen = match field.name() {
        FieldName::Address | FieldName::Port => &ends[..],
        _ if !are_in_order => &[],
        FieldName::AddressSource | FieldName::PortSource => &ends[..1],
        _ => &ends[1..],
    };
    for end in chosen {
        let address = end.ip().to_canonical();
        match field.kind() {
            Kind::Ipv4 if address.is_ipv4() => take(Value::Address(address)),
            Kind::Ipv6 if address.is_ipv6() => take(Value::Address(address)),
            Kind::Ipv4 | Kind::Ipv6 => {}
            _ => take(Value::Number(end.port().into())),
        }
    }
}

/// Returns the addresses of both ends, if they are known.
pub(super) fn addresses(origin: &Origin) -> impl Iterator<Item = IpAddr> {
    let ends = ends(origin).map(|(ends, _)| ends);
    ends.into_iter().flatten().map(|end| end.ip().to_canonical())
}

/// Returns both ends, and true if the first one is known to send.
fn ends(origin: &Origin) -> Option<([SocketAddr; 2], bool)> {
    let stream = origin.stream.as_ref()?;
    let socket = stream.socket?;
    Some(match socket.endpoints(stream.direction) {
        Some((source, destination)) => ([source, destination], true),
        None => ([socket.tuple.source, socket.tuple.destination], false),
    })
}
