//! Function addresses of a Go program, stripped or not, from its line table (`.gopclntab`, Go's
//! `runtime/symtab.go` and `internal/abi`, versions 1.16 and later).

use crate::file::elf::{ElfError, Function, Names, at_most};
use crate::limits;

/// Magic number of Go 1.16 and 1.17, whose tables hold addresses.
const OLD_MAGIC: u32 = 0xFFFF_FFFA;
/// Magic numbers of Go 1.18 and of 1.20 and later; both have the same layout, of offsets.
const MAGICS: [u32; 2] = [0xFFFF_FFF0, 0xFFFF_FFF1];
const POINTER_BYTES: u8 = 8;

/// Where in the table the address is from which its offsets count (Go 1.18 to 1.25).
pub(crate) const TEXT_AT: usize = 24;

/// The address that the offsets of `table` count from, when it says so in the file.
pub(crate) fn stated_text(table: &[u8]) -> Option<u64> {
    word(table, TEXT_AT).filter(|&text| text != 0)
}

/// Where in `bytes` such tables may begin: at most a handful of places.
pub(crate) fn beginnings(bytes: &[u8]) -> Vec<usize> {
    let begins = |&place: &usize| {
        let head = &bytes[place..];
        let is_magic = half(head, 0).is_some_and(|magic| magic == OLD_MAGIC || MAGICS.contains(&magic));
        is_magic && matches!(head[4..8], [0, 0, 1 | 4, POINTER_BYTES])
    };
    // The linker aligns the table to more than a word.
    let places = (0..bytes.len().saturating_sub(8)).step_by(8);
    places.filter(begins).take(limits::GO_TABLES).collect()
}

/// The functions of `names` that the table knows. `text` is the address that the table's
/// offsets count from when it does not say so itself (Go 1.26 and later).
pub(crate) fn functions(
    table: &[u8],
    text: u64,
    names: &[&'static str],
) -> Result<Vec<(&'static str, Function)>, ElfError> {
    match Table::parse(table, text) {
        Some(table) => table.find(names),
        None => Ok(Vec::new()),
    }
}

struct Table<'table> {
    bytes: &'table [u8],
    text: u64,
    count: usize,
    names: usize,
    functions: usize,
    layout: Layout,
}

/// The widths of a function's two table fields and of the address in its entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// A word each: an address, and the offset of the function's entry.
    Addresses,
    /// Half a word each, counted from the beginning of the text.
    Offsets,
}

impl<'table> Table<'table> {
    fn parse(bytes: &'table [u8], text: u64) -> Option<Self> {
        let layout = match half(bytes, 0)? {
            OLD_MAGIC => Layout::Addresses,
            magic if MAGICS.contains(&magic) => Layout::Offsets,
            _ => return None,
        };
        if *bytes.get(7)? != POINTER_BYTES {
            return None;
        }
        let word = |index: usize| word(bytes, 8 + 8 * index);
        let place = |index: usize| usize::try_from(word(index)?).ok();
        let (text, names, functions) = match layout {
            Layout::Addresses => (0, 2, 6),
            Layout::Offsets => match word(2)? {
                0 => (text, 3, 7),
                stated => (stated, 3, 7),
            },
        };
        Some(Self {
            bytes,
            text,
            count: place(0)?,
            names: place(names)?,
            functions: place(functions)?,
            layout,
        })
    }

    fn find(&self, names: &[&'static str]) -> Result<Vec<(&'static str, Function)>, ElfError> {
        at_most("functions of Go", self.count as u64, limits::GO_FUNCTIONS as u64)?;
        let entries = (0..self.count).map_while(|index| self.entry(index));
        let mut found = Vec::new();
        let mut texts = Names::of(self.bytes);
        for (start, end, name) in entries {
            let name = texts.at(name)?;
            let Some(&name) = names.iter().find(|wanted| name == wanted.as_bytes()) else {
                continue;
            };
            if let (Some(address), Some(size)) = (self.text.checked_add(start), end.checked_sub(start))
                && found.iter().all(|(other, _)| *other != name)
            {
                found.push((name, Function { address, size }));
            }
        }
        Ok(found)
    }

    /// Start, end (the next one's start) and place of the name of one function.
    fn entry(&self, index: usize) -> Option<(u64, u64, usize)> {
        let width = match self.layout {
            Layout::Addresses => 8,
            Layout::Offsets => 4,
        };
        let field = |place: usize| match self.layout {
            Layout::Addresses => word(self.bytes, place),
            Layout::Offsets => half(self.bytes, place).map(u64::from),
        };
        let place = self.functions.checked_add(index.checked_mul(2 * width)?)?;
        let after = |place: usize, fields: usize| place.checked_add(fields * width);
        let (start, end) = (field(place)?, field(after(place, 2)?)?);
        let information = usize::try_from(field(after(place, 1)?)?).ok()?;
        let information = self.functions.checked_add(information)?;
        let name = half(self.bytes, after(information, 1)?)? as usize;
        Some((start, end, self.names.checked_add(name)?))
    }
}

fn half(bytes: &[u8], position: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(position..)?.first_chunk()?))
}

fn word(bytes: &[u8], position: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*bytes.get(position..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn functions(table: &[u8], text: u64, names: &[&'static str]) -> Vec<(&'static str, Function)> {
        super::functions(table, text, names).unwrap()
    }

    fn sample(text: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(MAGICS[1].to_ne_bytes());
        bytes.extend([0, 0, 1, POINTER_BYTES]);
        let names = b"a.One\0b.(*Two).Three\0".to_vec();
        let functions_at = 72 + names.len() as u64;
        for value in [2, 0, text, 72, 0, 0, 0, functions_at] {
            bytes.extend(value.to_ne_bytes());
        }
        bytes.extend(&names);
        for value in [0x10u32, 20, 0x50, 28, 0x90] {
            bytes.extend(value.to_ne_bytes());
        }
        for value in [0x10u32, 0, 0x50, 6] {
            bytes.extend(value.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_table_is_found_among_other_data() {
        let mut bytes = vec![0xF1; 64];
        bytes.extend(sample(0x1000));
        assert_eq!(beginnings(&bytes), [64]);
        assert_eq!(stated_text(&bytes[64..]), Some(0x1000));
        assert_eq!(stated_text(&sample(0)), None);
        for length in 0..bytes.len() {
            assert!(beginnings(&bytes[..length]).len() <= 1);
        }
        let many: Vec<u8> = (0..100).flat_map(|_| sample(0)[..8].to_vec()).collect();
        assert_eq!(beginnings(&many).len(), limits::GO_TABLES);
    }

    #[test]
    fn functions_are_found_by_name() {
        let names = ["b.(*Two).Three", "absent"];
        let expected = |text: u64| {
            vec![(
                names[0],
                Function {
                    address: text + 0x50,
                    size: 0x40,
                },
            )]
        };
        assert_eq!(functions(&sample(0x40_1000), 7, &names), expected(0x40_1000));
        assert_eq!(functions(&sample(0), 0x1000, &names), expected(0x1000));
    }

    /// As Go 1.17 writes it.
    fn old_sample() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(OLD_MAGIC.to_ne_bytes());
        bytes.extend([0, 0, 1, POINTER_BYTES]);
        let names = b"a.One\0b.(*Two).Three\0\0\0\0".to_vec();
        let functions_at = 64 + names.len() as u64;
        for value in [2, 0, 64, 0, 0, 0, functions_at] {
            bytes.extend(value.to_ne_bytes());
        }
        bytes.extend(&names);
        for value in [0x40_1010u64, 40, 0x40_1050, 56, 0x40_1090] {
            bytes.extend(value.to_ne_bytes());
        }
        for (entry, name) in [(0x40_1010u64, 0u64), (0x40_1050, 6)] {
            bytes.extend(entry.to_ne_bytes());
            bytes.extend(name.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn the_older_table_holds_addresses() {
        let expected = Function {
            address: 0x40_1050,
            size: 0x40,
        };
        let names = ["b.(*Two).Three", "absent"];
        assert_eq!(functions(&old_sample(), 7, &names), [(names[0], expected)]);
        let bytes = old_sample();
        for length in 0..bytes.len() {
            assert!(functions(&bytes[..length], 0, &["a.One"]).len() <= 1);
        }
    }

    #[test]
    fn places_beyond_all_memory_are_no_functions() {
        for (mut bytes, place) in [(sample(1), 64), (old_sample(), 56)] {
            bytes[place..place + 8].fill(0xFF);
            assert_eq!(functions(&bytes, 0, &["a.One"]), []);
        }
    }

    #[test]
    fn more_functions_than_any_program_has_are_refused() {
        let mut bytes = sample(1);
        bytes[8..16].fill(0xFF);
        let error = super::functions(&bytes, 0, &["a.One"]).unwrap_err();
        assert!(error.is_given_up(), "{error}");
    }

    #[test]
    fn a_cut_table_finds_fewer_functions() {
        let bytes = sample(0x1000);
        for length in 0..bytes.len() {
            assert!(functions(&bytes[..length], 0, &["a.One"]).len() <= 1);
        }
    }

    #[test]
    fn another_format_finds_nothing() {
        let mut bytes = sample(0x1000);
        bytes[0] = 0xFB;
        assert!(functions(&bytes, 0, &["a.One"]).is_empty());
    }
}
