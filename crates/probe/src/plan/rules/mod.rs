//! Proves properties of machine code: one file for each architecture; the target's file is used.

#[cfg(any(test, target_arch = "aarch64"))]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod getter;
#[cfg(target_arch = "x86_64")]
mod log_function;
#[cfg(target_arch = "x86_64")]
mod rustls_secrets;
#[cfg(target_arch = "x86_64")]
mod x86_64;

#[cfg(target_arch = "aarch64")]
use aarch64 as machine;
#[cfg(target_arch = "x86_64")]
use x86_64 as machine;

use ecapture_ebpf::secret::HeldPlace;

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

/// A field of a structure that a library passes around.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// Offset of the pointer to the structure with the field; `None` if the object itself has it.
    pub(crate) pointer: Option<u16>,
    /// Offset of the field.
    pub(crate) offset: u16,
}

/// What a getter does with the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Getter {
    /// `size_t get(object, buffer, size)`: it copies the field.
    Copies,
    /// `void get(object, struct { void *data; unsigned size; } *result, NULL)`: it returns the field's address.
    Points,
}

/// The function of BoringSSL and its relatives that writes lines of key logs, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogFunction {
    pub(crate) address: u64,
    /// Where the connection, its first parameter, has the client's random.
    pub(crate) random: Field,
}

/// The calls of rustls that show its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RustlsSecrets {
    /// Calls of `will_log(&self, label)`, at which the secret exists.
    pub(crate) derived: Vec<SecretCall>,
    /// Addresses of the calls of `log(&self, label, client_random, secret)` for master secrets.
    pub(crate) masters: Vec<u64>,
}

/// A call, and what the registers then lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretCall {
    /// Of the instruction.
    pub(crate) address: u64,
    /// Where the client's random is.
    pub(crate) random: HeldPlace,
    /// Where the secret is.
    pub(crate) secret: HeldPlace,
}

/// What a function that only reads a member of its first parameter returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accessor {
    /// The address of the member at this offset.
    Address(u32),
    /// The value of the member at this offset.
    Value(u32),
    /// The value, or the address, of the member at the second offset behind the pointer at the first one.
    Through(u32, u32),
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

    /// The address after it.
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

/// The address of an instruction that the kernel emulates and that every call passes before
/// anything has changed: the first one, or the one after the marker of targets of indirect calls.
pub(crate) fn emulated_start(image: &Image, address: u64) -> Option<u64> {
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

/// Like [`only_callee`], and the callee's parameters are those of the plain function, with the
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

/// The field of its object that a getter returns.
pub(crate) fn field(image: &Image, function: Function, getter: Getter) -> Result<Field, Refusal> {
    let code = Code::read(image, function)?;
    machine::field(&code, getter, |address| image.is_stub(address))
}

/// The one function that is called with the labels of key logs.
pub(crate) fn log_function(image: &Image) -> Result<LogFunction, Refusal> {
    machine::log_function(image)
}

/// Where rustls has the secrets that a key log holds.
pub(crate) fn rustls_secrets(image: &Image) -> Result<RustlsSecrets, Refusal> {
    machine::rustls_secrets(image)
}

/// What an accessor returns. `None` if the function does anything else.
pub(crate) fn accessor(image: &Image, function: Function) -> Option<Accessor> {
    /// No accessor is longer; sizes are rounded up to the next function.
    const LONGEST: u64 = 64;
    let size = function.size.min(LONGEST);
    machine::accessor(&Code::read(image, Function { size, ..function }).ok()?)
}

/// Where in its first parameter a function stores its second one, of eight bytes; and from where there it loads four
/// bytes before, if it does.
pub(crate) fn second_parameter_member(image: &Image, function: Function) -> Option<(u32, Option<u32>)> {
    machine::second_parameter_member(&Code::read(image, function).ok()?)
}

/// Returns true if a function calls or jumps to the one at `callee`.
pub(crate) fn calls(image: &Image, function: Function, callee: u64) -> Result<bool, Refusal> {
    machine::calls(&Code::read(image, function)?, callee)
}

/// Returns true if a function, before it calls anything, loads words from where its second parameter
/// points to, at each of `offsets`.
pub(crate) fn loads_from_second_parameter(
    image: &Image,
    function: Function,
    offsets: &[u64],
) -> Result<bool, Refusal> {
    machine::loads_from_second_parameter(&Code::read(image, function)?, offsets)
}
