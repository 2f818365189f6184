//! What can be proved about machine code: one file for each architecture; the target's file is
//! used.

#[cfg(any(test, target_arch = "aarch64"))]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as machine;
#[cfg(target_arch = "x86_64")]
use x86_64 as machine;

use super::Refusal;
use crate::file::elf::{Function, Image};

/// Bytes that hold the instructions at the beginning of a function that [`emulated_start`] looks at.
const START_BYTES: u64 = 16;

/// The function that a plain function (`SSL_read`) leaves its work to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Callee {
    pub(super) address: u64,
    /// Which parameter, from 0, says where the callee stores the length: 3 or 4.
    pub(super) length_parameter: usize,
}

/// The machine code of one function, all of it.
struct Code {
    bytes: Vec<u8>,
    start: u64,
}

impl Code {
    fn read(image: &Image, function: Function) -> Result<Self, Refusal> {
        let Function { address: start, size } = function;
        let bytes = image
            .code(start, size)
            .filter(|bytes| bytes.len() as u64 == size && size > 0);
        let bytes = bytes.ok_or(Refusal::Unreadable)?;
        Ok(Self { bytes, start })
    }

    /// The address behind it.
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The address of an instruction that the kernel emulates and that every call passes before
/// anything has changed: the first one, or the one behind the marker of targets of indirect calls.
pub(super) fn emulated_start(image: &Image, address: u64) -> Option<u64> {
    let bytes = image.code(address, START_BYTES)?;
    machine::emulated_start(&Code {
        bytes,
        start: address,
    })
}

/// The one function of this library that `function` calls or jumps to, wherever in its body.
/// Calls of other libraries do not count; an indirect call makes the answer unknown.
pub(super) fn only_callee(image: &Image, function: Function) -> Result<u64, Refusal> {
    machine::only_callee(&Code::read(image, function)?, |address| image.is_stub(address))
}

/// As [`only_callee`], and the callee's parameters are those of the plain function, with the
/// address of a stack variable for the length, which the plain function returns afterwards.
pub(super) fn callee_of_plain(image: &Image, function: Function) -> Result<Callee, Refusal> {
    machine::callee_of_plain(&Code::read(image, function)?, |address| image.is_stub(address))
}

/// Addresses of all return instructions of a Go function, which begins with Go's check of its stack.
pub(super) fn go_returns(image: &Image, function: Function) -> Result<Vec<u64>, Refusal> {
    machine::go_returns(&Code::read(image, function)?)
}

/// Addresses of all return instructions of a function that is left in no other way.
pub(super) fn returns(image: &Image, function: Function) -> Result<Vec<u64>, Refusal> {
    machine::returns(&Code::read(image, function)?)
}

/// Whether a function calls or jumps to the one at `callee`.
pub(crate) fn calls(image: &Image, function: Function, callee: u64) -> Result<bool, Refusal> {
    machine::calls(&Code::read(image, function)?, callee)
}

/// Whether a function, before it calls anything, loads words from where its second parameter
/// points to, at each of `offsets`.
pub(crate) fn loads_from_second_parameter(
    image: &Image,
    function: Function,
    offsets: &[u64],
) -> Result<bool, Refusal> {
    machine::loads_from_second_parameter(&Code::read(image, function)?, offsets)
}
