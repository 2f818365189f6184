//! Checks that an instruction begins where a probe is to be attached.

use crate::file::elf::Image;

/// Bytes of the longest instruction of x86.
#[cfg(target_arch = "x86_64")]
const LONGEST: u64 = 15;

/// Returns true if the bytes at `address` are an instruction, whole and within the file.
#[cfg(target_arch = "x86_64")]
pub(super) fn begins(image: &Image, address: u64) -> bool {
    use iced_x86::{Decoder, DecoderOptions};
    let Some(code) = image.code(address, LONGEST) else {
        return false;
    };
    let mut decoder = Decoder::with_ip(64, &code, address, DecoderOptions::NONE);
    decoder.can_decode() && !decoder.decode().is_invalid()
}

/// Returns true if an instruction may begin at `address`, and is whole within the file.
#[cfg(target_arch = "aarch64")]
pub(super) fn begins(image: &Image, address: u64) -> bool {
    const BYTES: u64 = 4;
    address.is_multiple_of(BYTES)
        && image
            .code(address, BYTES)
            .is_some_and(|code| code.len() as u64 == BYTES)
}
