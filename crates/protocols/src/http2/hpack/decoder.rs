//! Header blocks to fields (RFC 7541 §3 and §6).

use bytes::{Bytes, BytesMut};

use crate::http2::hpack::primitive::{Cursor, Literal};
use crate::http2::hpack::table::{DynamicTable, Entry};
use crate::http2::hpack::{huffman, static_table};
use crate::limits::Limits;
use crate::message::{BlockError, Field};
use crate::privacy::concealed;

/// Table size before any setting or size update (RFC 9113 §6.5.2).
const DEFAULT_TABLE_BYTES: usize = 4096;

/// Decodes the header blocks of one direction of one connection, in wire order.
///
/// Holds at most [`Limits::hpack_table_bytes`] as RFC 7541 §4.1 counts them; entries own their bytes,
/// so a captured chunk is never kept alive by one header.
#[derive(Debug)]
pub struct Decoder {
    table: DynamicTable,
    table_cap: usize,
    list_limit: usize,
    /// The table equals the sender's, because nothing was missed.
    complete: bool,
    /// Number of bytes by which all lists together may still exceed [`LIST_RATIO`] times their
    /// blocks.
    lists_left: usize,
    /// Values that are no metadata are replaced.
    conceals: bool,
}

/// Bytes of a list for each byte of its block, on average over a connection. A long cookie that is
/// repeated by a reference of one byte reaches some hundreds.
const LIST_RATIO: usize = 1024;

impl Decoder {
    /// Creates a decoder. `start_seen` is true if the connection is decoded from its first byte, so
    /// that the sender's table is known to be empty and of the default size. Otherwise its size is
    /// unknown, and the limit is assumed.
    pub fn new(limits: &Limits, start_seen: bool) -> Self {
        let cap = limits.hpack_table_bytes;
        Self {
            table: DynamicTable::new(if start_seen {
                DEFAULT_TABLE_BYTES.min(cap)
            } else {
                cap
            }),
            table_cap: cap,
            list_limit: limits.hpack_list_bytes,
            complete: start_seen && cap >= DEFAULT_TABLE_BYTES,
            lists_left: limits.hpack_list_bytes,
            conceals: false,
        }
    }

    /// Replaces the values that are no metadata, from now on: they are in no table and in no list.
    pub(crate) const fn conceal(&mut self) {
        self.conceals = true;
    }

    /// Notes that insertions were missed: the entries of the table no longer have the sender's
    /// indices.
    pub fn forget(&mut self) {
        self.complete = false;
        self.table.clear();
        self.table.resize(self.table_cap);
    }

    /// Returns the size of the dynamic table, as RFC 7541 §4.1 counts it.
    pub fn table_bytes(&self) -> usize {
        self.table.size()
    }

    /// Returns the memory held, which for short entries is several times what the RFC counts.
    pub fn memory_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    /// Appends the fields of one complete block to `fields`, in wire order. Plain literals are
    /// slices of `block`. After an error, the fields appended so far are correct.
    pub fn decode(&mut self, block: &Bytes, fields: &mut Vec<Field>) -> Result<(), BlockError> {
        let allowed = self
            .lists_left
            .saturating_add(block.len().saturating_mul(LIST_RATIO));
        let list_limit = self.list_limit.min(allowed);
        let mut pass = Pass {
            table: &mut self.table,
            table_cap: self.table_cap,
            cursor: Cursor { block, position: 0 },
            block,
            arena: BytesMut::new(),
            list_left: list_limit,
            complete: &mut self.complete,
            begun: false,
            conceals: self.conceals,
            error: None,
            fields,
        };
        let whole = pass.run();
        let error = pass.error;
        let listed = list_limit - pass.list_left;
        self.lists_left = (allowed - listed).min(self.list_limit);
        if whole.is_none() {
            self.forget();
            return Err(BlockError::Damaged);
        }
        error.map_or(Ok(()), Err)
    }
}

/// One pass over one block.
struct Pass<'a> {
    table: &'a mut DynamicTable,
    table_cap: usize,
    cursor: Cursor<'a>,
    block: &'a Bytes,
    /// Buffer for decoded Huffman strings; one allocation serves the whole block.
    arena: BytesMut,
    list_left: usize,
    complete: &'a mut bool,
    /// A field of the block has been decoded.
    begun: bool,
    conceals: bool,
    error: Option<BlockError>,
    fields: &'a mut Vec<Field>,
}

impl Pass<'_> {
    /// Decodes the block; `None` if it is damaged.
    fn run(&mut self) -> Option<()> {
        while let Some(first) = self.cursor.peek() {
            match first {
                0x80.. => self.indexed()?,
                0x40.. => self.literal(6, true, false)?,
                0x20..0x40 => self.resize()?,
                0x10.. => self.literal(4, false, true)?,
                _ => self.literal(4, false, false)?,
            }
            self.begun |= !(0x20..0x40).contains(&first);
        }
        Some(())
    }

    /// §6.1.
    fn indexed(&mut self) -> Option<()> {
        let index = self.cursor.integer(7).filter(|&index| index != 0)?;
        let Entry { name, value } = self.lookup(index);
        self.emit(name, value, false);
        Some(())
    }

    /// §6.2.
    fn literal(&mut self, prefix_bits: u32, insert: bool, sensitive: bool) -> Option<()> {
        let index = self.cursor.integer(prefix_bits)?;
        let mut name = if index == 0 {
            let literal = self.cursor.literal()?;
            self.text(literal)
        } else {
            self.lookup(index).name
        };
        let literal = self.cursor.literal()?;
        let mut value = self.text(literal);
        if self.conceals {
            // Slices would keep the whole block.
            name = name.as_ref().map(own);
            value = value.map(|value| concealed(name.as_deref(), &value));
        }
        if insert {
            // A name from a table is static or already owned by an entry.
            let name = if index == 0 {
                name.as_ref().map(own)
            } else {
                name.clone()
            };
            let value = value.as_ref().map(own);
            self.table.insert(Entry { name, value });
        }
        self.emit(name, value, sensitive);
        Some(())
    }

    /// §6.3. A size beyond the limit is reduced to it: entries are then evicted too early, which
    /// makes later references unknown, not wrong.
    fn resize(&mut self) -> Option<()> {
        if self.begun {
            self.error = self.error.or(Some(BlockError::SizeUpdate));
        }
        let size = self.cursor.integer(5)?;
        *self.complete &= size <= self.table_cap;
        self.table.resize(size.min(self.table_cap));
        Some(())
    }

    fn lookup(&mut self, index: usize) -> Entry {
        if let Some((name, value)) = static_table::entry(index) {
            return Entry {
                name: Some(Bytes::from_static(name)),
                value: Some(Bytes::from_static(value)),
            };
        }
        let unknown = Entry {
            name: None,
            value: None,
        };
        let found = self.table.entry(index - static_table::LENGTH - 1).cloned();
        if found.is_none() && *self.complete {
            self.error = self.error.or(Some(BlockError::Index));
        }
        found.unwrap_or(unknown)
    }

    fn text(&mut self, literal: Literal) -> Option<Bytes> {
        if !literal.huffman {
            return Some(self.block.slice(literal.start..literal.end));
        }
        if self.arena.capacity() == 0 {
            self.arena
                .reserve(huffman::decoded_bound(self.block.len() - literal.start));
        }
        let decoded = huffman::decode(&self.block[literal.start..literal.end], &mut self.arena);
        let text = self.arena.split().freeze();
        if decoded.is_none() {
            self.error = self.error.or(Some(BlockError::Huffman));
        }
        decoded.map(|()| text)
    }

    fn emit(&mut self, name: Option<Bytes>, value: Option<Bytes>, sensitive: bool) {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        // Each field counts 32 more, as in SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 §6.5.2).
        let Some(left) = self.list_left.checked_sub(length(&name) + length(&value) + 32) else {
            self.list_left = 0;
            self.error = Some(BlockError::ListLimit);
            return;
        };
        self.list_left = left;
        self.fields.push(Field {
            name,
            value,
            sensitive,
        });
    }
}

/// Copies `text`, so that a long-lived entry does not keep a whole block alive.
fn own(text: &Bytes) -> Bytes {
    Bytes::copy_from_slice(text)
}

/// Returns true if `block` has the form of a complete header block. References are not checked.
pub(crate) fn reads_as_block(block: &[u8]) -> bool {
    let mut cursor = Cursor { block, position: 0 };
    let mut read = || -> Option<()> {
        while let Some(first) = cursor.peek() {
            let prefix_bits = match first {
                0x80.. => {
                    cursor.integer(7).filter(|&index| index != 0)?;
                    continue;
                }
                0x40.. => 6,
                0x20.. => {
                    cursor.integer(5)?;
                    continue;
                }
                _ => 4,
            };
            if cursor.integer(prefix_bits)? == 0 {
                cursor.literal()?;
            }
            cursor.literal()?;
        }
        Some(())
    };
    read().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A literal that is inserted into the table.
    fn inserted(name: &str, value: &str) -> Vec<u8> {
        let length = |text: &str| u8::try_from(text.len()).unwrap();
        let mut block = vec![0x40, length(name)];
        block.extend_from_slice(name.as_bytes());
        block.push(length(value));
        block.extend_from_slice(value.as_bytes());
        block
    }

    fn decoded(decoder: &mut Decoder, block: Vec<u8>) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        decoder.decode(&block.into(), &mut fields).unwrap();
        let text = |part: Option<Bytes>| String::from_utf8(part.unwrap().to_vec()).unwrap();
        fields
            .into_iter()
            .map(|field| (text(field.name), text(field.value)))
            .collect()
    }

    #[test]
    fn concealed_values_are_in_no_table_and_keep_its_indices() {
        let block = [
            inserted("cookie", "a=canary"),
            inserted(":path", "/p?q=canary"),
            inserted("content-length", "5"),
            inserted("grpc-encoding", "gzip"),
        ]
        .concat();
        let mut plain = Decoder::new(&Limits::default(), true);
        decoded(&mut plain, block.clone());
        let mut decoder = Decoder::new(&Limits::default(), true);
        decoder.conceal();
        let first = decoded(&mut decoder, block);
        // From the newest to the oldest entry.
        let mut again = decoded(&mut decoder, vec![0xBE, 0xBF, 0xC0, 0xC1]);
        again.reverse();
        assert_eq!(first, again);
        let values: Vec<&str> = first.iter().map(|(_, value)| &**value).collect();
        assert_eq!(values, ["********", "/p?********", "5", "gzip"]);
        assert_eq!(decoder.table_bytes(), plain.table_bytes());
        assert!(!format!("{decoder:?}").contains("canary"));
    }
}
