//! From when the kernel's tables may forget entries.

use aya::maps::{Array, MapData, MapError};
use ecapture_ebpf::table::Table;

use crate::Error;
use crate::modules::Modules;

/// [`Table`] as the value of a map.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct TableValue(Table);

// SAFETY: `Table` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about map values")]
unsafe impl aya::Pod for TableValue {}

/// Number of free entries of a table that the kernel hands to one processor at once (`LOCAL_FREE_TARGET`):
/// others forget entries although these are free.
const KEPT_BY_PROCESSOR: u64 = 128;

/// Reports to the programs how much may be in each table; each has `entries` where that is given.
pub(crate) fn set_room(
    mut rooms: Array<MapData, TableValue>,
    modules: Modules,
    entries: Option<u32>,
) -> Result<(), Error> {
    let processors = aya::util::nr_cpus().unwrap_or(1) as u64;
    for table in modules.tables() {
        let value = TableValue(Table {
            entries: 0,
            room: room(entries.unwrap_or(table.entries).into(), processors),
            overflowed: 0,
        });
        let set = |error: MapError| Error::Load(Box::new(error.into()));
        rooms.set(table.number, value, 0).map_err(set)?;
    }
    Ok(())
}

/// Number of entries of a table that are kept at least, unless there are very many processors.
fn room(size: u64, processors: u64) -> u64 {
    let kept = KEPT_BY_PROCESSOR.saturating_mul(processors);
    size.saturating_sub(kept).max(size / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_processors_keep_for_themselves_is_no_room() {
        assert_eq!(room(16_384, 2), 16_128);
        assert_eq!(room(16_384, 256), 2048);
        assert_eq!(room(64, 2), 8);
    }
}
