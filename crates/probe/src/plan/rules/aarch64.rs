//! Proves properties of A64 code: words of four bytes; those that branch, and those that load
//! from memory, are decoded (Arm Architecture Reference Manual, C4.1).
//!
//! The kernel executes an instruction under a probe elsewhere, one trap later, unless it branches or
//! computes an address from its own (`arch/arm64/kernel/probes/decode-insn.c`). No compiler begins a
//! function that calls others with one of these, so nothing is gained by looking for a function behind the
//! exported ones. Each `ret` is emulated. `retaa` and `retab` are refused by the kernel.

use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use super::{Accessor, Field, Getter, LogFunction, RustlsSecrets};
use super::{Callee, Code, Refusal};
#[cfg(target_arch = "aarch64")]
use crate::file::elf::Image;

/// Bytes of an instruction.
const WORD: u64 = 4;
/// `ldr x16, [x28, #16]`: how far Go's stack reaches. Before Go 1.18, which passes parameters in
/// registers, it was loaded into another one.
const GO_STACK_CHECK: u32 = 0xF940_0B90;
/// Number of the register that reads as zero.
const ZERO: u32 = 31;

/// Where an instruction leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// To the one after it.
    Next,
    /// To an address, and back.
    Call(u64),
    /// To an address.
    Jump(u64),
    /// To an address, or to the one after it.
    Branch(u64),
    /// To where a register says, and back.
    IndirectCall,
    /// To where a register says.
    IndirectJump,
    /// To the caller.
    Return,
    /// To the caller, if the pointer authentication code of its address is right.
    AuthenticatedReturn,
    /// Nowhere: it is never executed, or the end of the program.
    Trap,
    /// It belongs to the group of branches, but to none of the above.
    Unknown,
}

impl Flow {
    fn of(Instruction { word, address }: Instruction) -> Self {
        let to = |width: u32, at: u32| {
            let distance = signed(word, width, at) * WORD.cast_signed();
            address.wrapping_add_signed(distance)
        };
        // udf
        if word >> 16 == 0 {
            return Self::Trap;
        }
        // The group of branches, exceptions and system instructions.
        if word >> 26 & 0b111 != 0b101 {
            return Self::Next;
        }
        match word {
            _ if word & 0xFC00_0000 == 0x1400_0000 => Self::Jump(to(26, 0)),
            _ if word & 0xFC00_0000 == 0x9400_0000 => Self::Call(to(26, 0)),
            // b.cond, and bc.cond
            _ if word & 0xFF00_0000 == 0x5400_0000 => Self::Branch(to(19, 5)),
            // cbz, cbnz
            _ if word & 0x7E00_0000 == 0x3400_0000 => Self::Branch(to(19, 5)),
            // tbz, tbnz
            _ if word & 0x7E00_0000 == 0x3600_0000 => Self::Branch(to(14, 5)),
            // brk
            _ if word & 0xFFE0_001F == 0xD420_0000 => Self::Trap,
            // svc and such; hints, barriers, system registers
            _ if word >> 24 == 0xD4 || word >> 24 == 0xD5 => Self::Next,
            // Each with its forms with pointer authentication.
            _ if word & 0xFEFF_F000 == 0xD61F_0000 => Self::IndirectJump,
            _ if word & 0xFEFF_F000 == 0xD63F_0000 => Self::IndirectCall,
            _ if word & 0xFFFF_FC1F == 0xD65F_0000 => Self::Return,
            0xD65F_0BFF | 0xD65F_0FFF => Self::AuthenticatedReturn,
            _ => Self::Unknown,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Instruction {
    word: u32,
    address: u64,
}

impl Instruction {
    fn flow(self) -> Flow {
        Flow::of(self)
    }

    /// The address that `adr` or `adrp` computes.
    fn is_address(self) -> bool {
        self.word & 0x1F00_0000 == 0x1000_0000
    }

    /// The range that a load of a literal reads: its address depends on the instruction's own.
    fn literal(self) -> Option<Range<u64>> {
        if self.word & 0x3B00_0000 != 0x1800_0000 {
            return None;
        }
        let is_vector = self.word & 1 << 26 != 0;
        let bytes = match (is_vector, self.word >> 30) {
            (_, 0) | (false, 2) => 4,
            (_, 1) => 8,
            (true, 2) => 16,
            // A prefetch.
            _ => return None,
        };
        let distance = signed(self.word, 19, 5) * WORD.cast_signed();
        let start = self.address.wrapping_add_signed(distance);
        Some(start..start.wrapping_add(bytes))
    }
}

/// See [`super::emulated_start`]. The marker is `bti`.
pub(super) fn emulated_start(code: &Code) -> Option<u64> {
    let is_marker = |word: u32| word & 0xFFFF_FF3F == 0xD503_241F;
    let start = code.instructions().find(|each| !is_marker(each.word))?;
    let at_beginning = start.address <= code.start + WORD;
    let is_emulated = start.is_address()
        || matches!(
            start.flow(),
            Flow::Jump(_) | Flow::Branch(_) | Flow::IndirectJump | Flow::Return
        );
    (at_beginning && is_emulated).then_some(start.address)
}

/// See [`super::only_callee`].
pub(super) fn only_callee(_: &Code, _: impl Fn(u64) -> bool) -> Result<u64, Refusal> {
    Err(Refusal::NeverEmulated)
}

/// See [`super::callee_of_plain`].
pub(super) fn callee_of_plain(code: &Code, is_stub: impl Fn(u64) -> bool) -> Result<Callee, Refusal> {
    only_callee(code, is_stub).map(|address| Callee {
        address,
        length_parameter: 3,
    })
}

/// See [`super::field`]: getters are executed on x86-64 only.
#[cfg(target_arch = "aarch64")]
pub(super) fn field(_code: &Code, _getter: Getter, _is_stub: impl Fn(u64) -> bool) -> Result<Field, Refusal> {
    Err(Refusal::OtherArchitecture)
}

/// See [`super::log_function`]: it is looked for on x86-64 only.
#[cfg(target_arch = "aarch64")]
pub(super) fn log_function(_image: &Image) -> Result<LogFunction, Refusal> {
    Err(Refusal::OtherArchitecture)
}

/// See [`super::rustls_secrets`]: they are looked for on x86-64 only.
#[cfg(target_arch = "aarch64")]
pub(super) fn rustls_secrets(_image: &Image) -> Result<RustlsSecrets, Refusal> {
    Err(Refusal::OtherArchitecture)
}

/// See [`super::go_returns`].
pub(super) fn go_returns(code: &Code) -> Result<Vec<u64>, Refusal> {
    let first = code.instructions().next();
    if first.is_none_or(|first| first.word != GO_STACK_CHECK) {
        return Err(Refusal::NotRecentGo);
    }
    Body::of(code)?.returns()
}

/// See [`super::returns`].
pub(super) fn returns(code: &Code) -> Result<Vec<u64>, Refusal> {
    let body = Body::of(code)?;
    for each in &body.instructions {
        match each.flow() {
            Flow::Jump(target) | Flow::Branch(target) if !(code.start..code.end()).contains(&target) => {
                return Err(Refusal::BranchesOut);
            }
            Flow::IndirectJump => return Err(Refusal::BranchesThroughPointer),
            Flow::Unknown => return Err(Refusal::Undecodable),
            _ => {}
        }
    }
    body.returns()
}

/// See [`super::accessor`]. A null pointer is passed on.
#[cfg(target_arch = "aarch64")]
pub(super) fn accessor(code: &Code) -> Option<Accessor> {
    let mut found = None;
    let mut register = 0;
    for bytes in code.bytes.chunks_exact(4) {
        let word = u32::from_le_bytes(*bytes.first_chunk()?);
        let (to, from, immediate) = (word & 31, word >> 5 & 31, word >> 10 & 0xFFF);
        // `ldr` of eight or four bytes with an unsigned offset, `add` of an immediate.
        let step = match word {
            _ if word & 0xFFC0_0000 == 0xF940_0000 => Some((true, immediate * 8)),
            _ if word & 0xFFC0_0000 == 0xB940_0000 => Some((true, immediate * 4)),
            _ if word & 0xFF80_0000 == 0x9100_0000 => {
                Some((false, immediate << if word >> 22 & 1 == 1 { 12 } else { 0 }))
            }
            _ => None,
        };
        match (step, found) {
            (Some((loads, offset)), None) if from == register => {
                found = Some(if loads {
                    Accessor::Value(offset)
                } else {
                    Accessor::Address(offset)
                });
                register = to;
            }
            (Some((loads, more)), Some(Accessor::Address(offset))) if from == register => {
                let offset = offset + more;
                found = Some(if loads {
                    Accessor::Value(offset)
                } else {
                    Accessor::Address(offset)
                });
                register = to;
            }
            (Some((_, offset)), Some(Accessor::Value(pointer))) if from == register => {
                found = Some(Accessor::Through(pointer, offset));
                register = to;
            }
            // `bti`, `nop`, and `cbz` of the pointer
            (None, None) if word >> 12 == 0xD5032 => {}
            (None, Some(Accessor::Value(_))) if word & 0x7F00_001F == 0x3400_0000 | register => {}
            (None, found) if word == 0xD65F_03C0 => return found.filter(|_| register == 0),
            _ => return None,
        }
    }
    None
}

/// See [`super::second_parameter_member`]: not looked for here.
#[cfg(target_arch = "aarch64")]
pub(super) fn second_parameter_member(_code: &Code) -> Option<(u32, Option<u32>)> {
    None
}

/// See [`super::calls`].
pub(super) fn calls(code: &Code, callee: u64) -> Result<bool, Refusal> {
    let body = Body::of(code)?;
    let mut flows = body.instructions.iter().map(|each| each.flow());
    Ok(flows.any(|flow| flow == Flow::Call(callee) || flow == Flow::Jump(callee)))
}

/// See [`super::loads_from_second_parameter`].
pub(super) fn loads_from_second_parameter(code: &Code, offsets: &[u64]) -> Result<bool, Refusal> {
    let body = Body::of(code)?;
    let before_calls = body.instructions.iter().take_while(|each| {
        !matches!(
            each.flow(),
            Flow::Call(_) | Flow::IndirectCall | Flow::Return | Flow::AuthenticatedReturn
        )
    });
    let mut holders = vec![1];
    let mut missing = offsets.to_vec();
    for each in before_calls {
        let word = each.word;
        if let Some((base, offset, words)) = load(word)
            && holders.contains(&base)
        {
            missing.retain(|&wanted| !(0..words).any(|index| wanted == offset + 8 * index));
        }
        // mov, as `orr Xd, xzr, Xm`
        let copies = word & 0xFFE0_FFE0 == 0xAA00_03E0 && holders.contains(&bits(word, 5, 16));
        let written = written(word);
        holders.retain(|holder| !written.contains(holder));
        if copies {
            holders.push(bits(word, 5, 0));
        }
    }
    Ok(missing.is_empty())
}

/// Register with the address, offset from there in bytes, and number of the words of eight bytes that an
/// instruction loads into general registers.
fn load(word: u32) -> Option<(u32, u64, u64)> {
    let base = bits(word, 5, 5);
    let at = |offset: i64, words| u64::try_from(offset).ok().map(|offset| (base, offset, words));
    match word & 0xFFC0_0000 {
        // ldr Xt, [Xn, #offset]
        0xF940_0000 => at(i64::from(bits(word, 12, 10)) * 8, 1),
        // ldp Xt, Xt, [Xn, #offset]
        0xA940_0000 => at(signed(word, 7, 15) * 8, 2),
        // ldur Xt, [Xn, #offset]
        0xF840_0000 if word & 0x0020_0C00 == 0 => at(signed(word, 9, 12), 1),
        _ => None,
    }
}

/// General registers that an instruction may write: all that it does, and some that it does not.
fn written(word: u32) -> [u32; 4] {
    let [first, base, second, third] = [0, 5, 10, 16].map(|at| bits(word, 5, at));
    let has = |bits: u32| word & bits != 0;
    let is_branch = word >> 26 & 0b111 == 0b101 && word >> 24 != 0xD5;
    if is_branch {
        return [ZERO; 4];
    }
    let moves_memory = has(1 << 27) && !has(1 << 25);
    if !moves_memory {
        return [first, ZERO, ZERO, ZERO];
    }
    let is_plain = match word & 0x3800_0000 {
        // A pair of registers.
        0x2800_0000 => !has(1 << 23),
        // One register; behind its base a number, another register, or nothing.
        0x3800_0000 => has(1 << 24) || !has(1 << 21 | 1 << 10) || word & 0x0020_0C00 == 0x0020_0800,
        // Exclusive and ordered accesses, copies of memory.
        _ => return [first, base, second, third],
    };
    let is_pair = !has(1 << 28);
    let is_store = if is_pair { !has(1 << 22) } else { !has(0b11 << 22) };
    match (is_plain, is_pair, is_store) {
        (true, _, true) => [ZERO; 4],
        (true, true, false) => [first, second, ZERO, ZERO],
        (true, false, false) => [first, ZERO, ZERO, ZERO],
        // The base is written, too, or this is an atomic operation.
        (false, ..) => [first, base, second, third],
    }
}

impl Code {
    fn instructions(&self) -> impl Iterator<Item = Instruction> {
        let words = self.bytes.as_chunks().0.iter();
        let addresses = (self.start..).step_by(size_of::<u32>());
        words.zip(addresses).map(|(&word, address)| Instruction {
            word: u32::from_le_bytes(word),
            address,
        })
    }
}

/// The instructions of a function, in the order of addresses, without the literals between them.
///
/// Compilers for A64 put data among instructions only where these load it as literals. The code reached
/// from the beginning comes first, then the rest that is not a literal of it: where exceptions continue, and
/// Go's functions after a panic.
struct Body {
    instructions: Vec<Instruction>,
}

impl Body {
    fn of(code: &Code) -> Result<Self, Refusal> {
        let all: Vec<_> = code.instructions().collect();
        let mut walk = Walk {
            is_reached: vec![false; all.len()],
            is_literal: vec![false; all.len()],
            all: &all,
            start: code.start,
        };
        for index in 0..all.len() {
            if !walk.is_literal[index] {
                walk.follow(index);
            }
        }
        let Walk {
            is_reached,
            is_literal,
            ..
        } = walk;
        if is_reached
            .iter()
            .zip(is_literal)
            .any(|(&reached, literal)| reached && literal)
        {
            return Err(Refusal::MixedWithData);
        }
        let reached = all.into_iter().zip(is_reached).filter(|(_, reached)| *reached);
        Ok(Self {
            instructions: reached.map(|(each, _)| each).collect(),
        })
    }

    /// Addresses of all return instructions.
    fn returns(&self) -> Result<Vec<u64>, Refusal> {
        let mut returns = Vec::new();
        for each in &self.instructions {
            match each.flow() {
                Flow::Return => returns.push(each.address),
                Flow::AuthenticatedReturn => {
                    return Err(Refusal::UnseenReturn);
                }
                _ => {}
            }
        }
        if returns.is_empty() {
            return Err(Refusal::NeverReturns);
        }
        Ok(returns)
    }
}

/// Distinguishes the words of a function that are instructions from those that are data.
struct Walk<'code> {
    all: &'code [Instruction],
    start: u64,
    is_reached: Vec<bool>,
    is_literal: Vec<bool>,
}

impl Walk<'_> {
    /// Marks what is executed from one word on.
    fn follow(&mut self, beginning: usize) {
        let mut waiting = vec![beginning];
        while let Some(index) = waiting.pop() {
            if index >= self.all.len() || self.is_reached[index] {
                continue;
            }
            self.is_reached[index] = true;
            let each = self.all[index];
            for address in each.literal().into_iter().flatten().step_by(size_of::<u32>()) {
                if let Some(literal) = self.place(address) {
                    self.is_literal[literal] = true;
                }
            }
            let (to, goes_on) = match each.flow() {
                Flow::Next | Flow::Call(_) | Flow::IndirectCall | Flow::Unknown => (None, true),
                Flow::Jump(target) => (self.place(target), false),
                Flow::Branch(target) => (self.place(target), true),
                Flow::IndirectJump | Flow::Return | Flow::AuthenticatedReturn | Flow::Trap => (None, false),
            };
            waiting.extend(to);
            waiting.extend(goes_on.then_some(index + 1));
        }
    }

    /// The number of the word at an address.
    fn place(&self, address: u64) -> Option<usize> {
        let distance = address.checked_sub(self.start)? / WORD;
        let index = usize::try_from(distance).ok()?;
        (index < self.all.len()).then_some(index)
    }
}

/// A part of a word: `width` bits from bit `at` on.
fn bits(word: u32, width: u32, at: u32) -> u32 {
    word >> at & ((1 << width) - 1)
}

/// The same, as a number with a sign.
fn signed(word: u32, width: u32, at: u32) -> i64 {
    let unused = u32::BITS - width;
    i64::from((bits(word, width, at) << unused).cast_signed() >> unused)
}

#[cfg(test)]
mod tests;
