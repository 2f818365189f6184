//! Maps of the loaded object.

use aya::Ebpf;
use aya::maps::{Map, MapError};

use crate::Error;

/// A map of the loaded object as `T`.
pub(crate) fn take_map<T>(
    ebpf: &mut Ebpf,
    name: &'static str,
    convert: impl FnOnce(Map) -> Result<T, MapError>,
) -> Result<T, Error> {
    let map = ebpf
        .take_map(name)
        .ok_or(Error::ObjectIncomplete { what: "map", name })?;
    convert(map).map_err(|source| Error::Map { map: name, source })
}
