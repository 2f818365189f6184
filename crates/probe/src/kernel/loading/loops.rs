//! Kernels without `bpf_loop` (before Linux 5.17) do not know addresses of functions in code either (before
//! 5.13), and count fewer functions than the object's information lists when one is referred to by address.
//! Their verifier never comes to that code, because the configuration keeps it away, but the loader does.

use object::elf::{FileHeader64, R_BPF_64_64, SHF_EXECINSTR};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, pod};

/// No instruction has this offset, so nobody finds the relocation any more.
const NOWHERE: u64 = u64::MAX;
/// `struct Elf64_Rel`: the offset comes first.
const OFFSET_BYTES: usize = 8;

/// Takes the addresses of functions out of the code of an object: each stays 0. Returns how many there
/// were; `None` when the object cannot be read.
pub(super) fn remove_function_addresses(object: &mut [u8]) -> Option<usize> {
    let positions = function_addresses(object)?;
    for &position in &positions {
        object
            .get_mut(position..position + OFFSET_BYTES)?
            .copy_from_slice(&NOWHERE.to_le_bytes());
    }
    Some(positions.len())
}

/// Where the relocations of code that refer to code by a 64-bit address are in the file.
fn function_addresses(object: &[u8]) -> Option<Vec<usize>> {
    let header = FileHeader64::<Endianness>::parse(object).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, object).ok()?;
    let is_code = |index| {
        let section = sections.section(index).ok()?;
        Some(section.sh_flags(endian) & u64::from(SHF_EXECINSTR) != 0)
    };
    let mut positions = Vec::new();
    for section in sections.iter() {
        let Some((relocations, symbol_table)) = section.rel(endian, object).ok()? else {
            continue;
        };
        if is_code(section.info_link(endian)) != Some(true) {
            continue;
        }
        let symbols = sections
            .symbol_table_by_index(endian, object, symbol_table)
            .ok()?;
        for (index, relocation) in relocations.iter().enumerate() {
            let symbol = symbols
                .symbol(object::SymbolIndex(relocation.r_sym(endian) as usize))
                .ok()?;
            let target = symbols
                .symbol_section(endian, symbol, object::SymbolIndex(0))
                .ok()?;
            if relocation.r_type(endian) == R_BPF_64_64 && target.and_then(is_code) == Some(true) {
                let start = usize::try_from(section.sh_offset(endian)).ok()?;
                positions.push(start + index * pod::bytes_of(relocation).len());
            }
        }
    }
    Some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_callback_of_the_object_is_found_once() {
        let mut object = crate::kernel::object::bytes().unwrap().into_owned();
        let found = function_addresses(&object).unwrap();
        assert_eq!(
            found.len(),
            18,
            "one for each program with a loop, one for rustls's parts, and those of shells, statements and packets"
        );
        assert_eq!(remove_function_addresses(&mut object), Some(found.len()));
        for position in found {
            assert_eq!(object[position..position + 8], [0xFF; 8]);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(remove_function_addresses(&mut [0; 100]), None);
    }
}
