//! Takes functions out of programs that the configuration keeps away from them.
//!
//! Kernels without `bpf_loop` (before Linux 5.17) do not know addresses of functions in code either (before
//! 5.13), and count fewer functions than the object's information lists when one is referred to by address.
//! Their verifier never comes to that code, because the configuration keeps it away, but the loader does.
//! Newer kernels remove such a function, but then their figures are not those of the program as it was loaded.

use object::elf::{FileHeader64, R_BPF_64_64, SHF_EXECINSTR, STT_FUNC};
use object::read::elf::{FileHeader, SectionHeader, Sym};
use object::{Endianness, pod};

/// The end of the name of the function that sends data as it is.
pub(super) const SEND_WHOLE: &str = "programs8delivery10send_chunk";
/// That of the one that leaves content out.
pub(super) const FOLLOW_CONTENT: &str = "programs7content6follow";

/// No instruction has this offset, so nobody finds the relocation any more.
const NOWHERE: u64 = u64::MAX;
/// `struct Elf64_Rel`: the offset comes first.
const OFFSET_BYTES: usize = 8;

/// Bytes of an instruction before its immediate operand.
const OPERAND_AT: usize = 4;

/// Takes the addresses of the functions that are unused, by their mangled names, out of the code of an object: each
/// stays 0. Returns how many there were; `None` when the object cannot be read.
pub(super) fn remove_function_addresses(
    object: &mut [u8],
    is_unused: impl Fn(&[u8]) -> bool,
) -> Option<usize> {
    let positions = function_addresses(object, is_unused)?;
    for &position in &positions {
        object
            .get_mut(position..position + OFFSET_BYTES)?
            .copy_from_slice(&NOWHERE.to_le_bytes());
    }
    Some(positions.len())
}

/// Where the relocations of code that refer to one of these functions by a 64-bit address are in the file.
fn function_addresses(object: &[u8], is_meant: impl Fn(&[u8]) -> bool) -> Option<Vec<usize>> {
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
            let Some(target) = target.filter(|&target| is_code(target) == Some(true)) else {
                continue;
            };
            if relocation.r_type(endian) != R_BPF_64_64 {
                continue;
            }
            // The symbol is that of the section; the place in it is in the instruction.
            let code = sections
                .section(section.info_link(endian))
                .ok()?
                .data(endian, object)
                .ok()?;
            let operand = usize::try_from(relocation.r_offset.get(endian)).ok()? + OPERAND_AT;
            let operand = code.get(operand..operand + size_of::<u32>())?.try_into().ok()?;
            let place = symbol.st_value(endian) + u64::from(u32::from_le_bytes(operand));
            let function = symbols.iter().find(|symbol| {
                symbol.st_type() == STT_FUNC
                    && symbol.st_value(endian) == place
                    && usize::from(symbol.st_shndx(endian)) == target.0
            });
            if is_meant(function?.name(endian, symbols.strings()).ok()?) {
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
        let found = function_addresses(&object, |_| true).unwrap();
        assert_eq!(
            found.len(),
            21,
            "two for each program that sends data, one for rustls's parts, and those of shells, statements and packets"
        );
        let of = |name: &str| {
            let found = function_addresses(&object, |function| function.ends_with(name.as_bytes()));
            found.unwrap().len()
        };
        assert_eq!([of(SEND_WHOLE), of(FOLLOW_CONTENT), of("nothing")], [3, 3, 0]);
        assert_eq!(
            remove_function_addresses(&mut object, |_| true),
            Some(found.len())
        );
        for position in found {
            assert_eq!(object[position..position + 8], [0xFF; 8]);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert_eq!(remove_function_addresses(&mut [0; 100], |_| true), None);
    }
}
