//! Function addresses of a Go program, stripped or not, from its line table (`.gopclntab`, Go's
//! `runtime/symtab.go` and `internal/abi`, versions 1.18 and later).

use crate::elf::Function;

/// Magic numbers of Go 1.18 and of 1.20 and later; both have the same layout.
const MAGICS: [u32; 2] = [0xFFFF_FFF0, 0xFFFF_FFF1];
const POINTER_BYTES: u8 = 8;

/// The functions of `names` that the table knows. `text` is the address that the table's
/// offsets count from when it does not say so itself (Go 1.26 and later).
pub(crate) fn functions(table: &[u8], text: u64, names: &[&'static str]) -> Vec<(&'static str, Function)> {
    Table::parse(table, text)
        .map(|table| table.find(names))
        .unwrap_or_default()
}

struct Table<'table> {
    bytes: &'table [u8],
    text: u64,
    count: usize,
    names: usize,
    functions: usize,
}

impl<'table> Table<'table> {
    fn parse(bytes: &'table [u8], text: u64) -> Option<Self> {
        if !MAGICS.contains(&half(bytes, 0)?) || *bytes.get(7)? != POINTER_BYTES {
            return None;
        }
        let word = |index: usize| word(bytes, 8 + 8 * index);
        let place = |index: usize| usize::try_from(word(index)?).ok();
        let stated = word(2)?;
        Some(Self {
            bytes,
            text: if stated == 0 { text } else { stated },
            count: place(0)?,
            names: place(3)?,
            functions: place(7)?,
        })
    }

    fn find(&self, names: &[&'static str]) -> Vec<(&'static str, Function)> {
        let entries = (0..self.count).map_while(|index| self.entry(index));
        let found = entries.filter_map(|(start, end, name)| {
            let &name = names.iter().find(|wanted| name == wanted.as_bytes())?;
            let address = self.text.checked_add(u64::from(start))?;
            let size = u64::from(end.checked_sub(start)?);
            Some((name, Function { address, size }))
        });
        found.collect()
    }

    /// Start, end (the next one's start) and name of one function.
    fn entry(&self, index: usize) -> Option<(u32, u32, &'table [u8])> {
        let place = self.functions.checked_add(index.checked_mul(8)?)?;
        let information = self
            .functions
            .checked_add(half(self.bytes, place + 4)? as usize)?;
        let name = self
            .names
            .checked_add(half(self.bytes, information + 4)? as usize)?;
        let rest = self.bytes.get(name..)?;
        let name = rest.split(|&byte| byte == 0).next()?;
        Some((half(self.bytes, place)?, half(self.bytes, place + 8)?, name))
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
