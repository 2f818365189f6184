//! Where rustls has a secret that a key log holds, whether or not the program wants a key log.
//!
//! Up to TLS 1.2 it calls `log(&self, label, client_random, secret)` of its `dyn KeyLog` with the master secret. In TLS
//! 1.3, `derive_logged_secret` derives a secret, asks `will_log(&self, label)`, and only then calls `log`: its default
//! does not want any. So the place is the call of `will_log`, and the code that would call `log` shows where the
//! client's random and the secret are at that moment. It is found by the labels, in whatever function it was inlined.

use std::collections::BTreeMap;

use ecapture_ebpf::secret::{HeldPlace, HeldRegister, OKM_LENGTH_AT};
use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register,
};

use super::log_function::{is_written, number};
use super::{Refusal, RustlsSecrets, SecretCall};
use crate::file::elf::Image;
use crate::file::labels::{LABELS, MASTER, NEEDED};
use crate::plan::offset;

/// Bytes of the client's random.
const RANDOM_BYTES: u64 = 32;
/// Bytes from the load of a label to the call.
const CALL_BYTES: u64 = 96;
/// Instructions from the answer of `will_log` to the call of `log`.
const ANSWER_INSTRUCTIONS: usize = 48;
/// Instructions between the answer and the branch that it decides.
const BRANCH_INSTRUCTIONS: usize = 8;

/// See [`super::rustls_secrets()`].
pub(super) fn rustls_secrets(image: &Image) -> Result<RustlsSecrets, Refusal> {
    let labels = image.labels();
    let mut references = labels
        .references
        .iter()
        .filter(|reference| !reference.is_c_string)
        .peekable();
    if references.peek().is_none() && labels.tables.is_empty() {
        return Err(Refusal::Missing);
    }
    let mut found = Found::default();
    for reference in references {
        found.add(image, reference.address, Some(reference.label))?;
    }
    for &address in &labels.tables {
        found.add(image, address, None)?;
    }
    let has_all = found.labels[..NEEDED].iter().all(|found| *found);
    if !has_all || found.masters.is_empty() && found.derived.is_empty() {
        return Err(Refusal::NotAskedWhetherToLog);
    }
    for address in found.derived.keys().chain(&found.masters) {
        offset(image, *address)?;
    }
    let derived = found.derived.into_iter();
    Ok(RustlsSecrets {
        derived: derived
            .map(|(address, (random, secret))| SecretCall {
                address,
                random,
                secret,
            })
            .collect(),
        masters: found.masters,
    })
}

#[derive(Default)]
struct Found {
    /// Calls of `will_log`, with the places of the random and of the secret.
    derived: BTreeMap<u64, (HeldPlace, HeldPlace)>,
    /// Calls of `log`.
    masters: Vec<u64>,
    /// Those in [`LABELS`] that are known to be asked about.
    labels: [bool; LABELS.len()],
}

impl Found {
    /// Looks at the call behind the instruction at `address`, which loads a label, or the address of a table of all.
    fn add(&mut self, image: &Image, address: u64, label: Option<usize>) -> Result<(), Refusal> {
        let code = image.code(address, CALL_BYTES).ok_or(Refusal::Unreadable)?;
        let Some(call) = Call::behind(&code, address, label.is_some()) else {
            return Ok(());
        };
        if call.passes_random && label.is_some_and(|label| LABELS[label] == MASTER) {
            self.masters.push(call.address);
            return Ok(());
        }
        let code = |address| image.code(address, CALL_BYTES * 4);
        if let Some(places) = Answer::places(code, call.end) {
            self.derived.insert(call.address, places);
            match label {
                Some(label) => self.labels[label] = true,
                None => self.labels = [true; LABELS.len()],
            }
        }
        Ok(())
    }
}

/// A call through a pointer.
struct Call {
    address: u64,
    /// Where it returns to.
    end: u64,
    /// The fifth parameter is the length of the client's random.
    passes_random: bool,
}

impl Call {
    /// The first one behind the load with which `code` begins. `is_label`: it loads the second parameter, which must stay.
    fn behind(code: &[u8], address: u64, is_label: bool) -> Option<Self> {
        let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
        let load = decoder.decode();
        if is_label && load.op0_register().full_register() != Register::RSI {
            return None;
        }
        let mut passes_random = false;
        for each in decoder {
            let target = match each.op0_kind() {
                OpKind::Register => each.op0_register().full_register(),
                _ => Register::None,
            };
            match each.flow_control() {
                FlowControl::IndirectCall => {
                    return Some(Self {
                        address: each.ip(),
                        end: each.next_ip(),
                        passes_random,
                    });
                }
                FlowControl::Next if each.is_invalid() || is_label && target == Register::RSI => return None,
                FlowControl::Next if target == Register::R8 => {
                    passes_random = each.mnemonic() == Mnemonic::Mov
                        && each.try_immediate(1).is_ok_and(|value| value == RANDOM_BYTES);
                }
                FlowControl::Next => {}
                _ => return None,
            }
        }
        None
    }
}

/// The content of a register or of a word on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Unknown,
    Number(u64),
    /// What a register holds at the call of `will_log`, and so many bytes more.
    Address(HeldRegister, i64),
    /// The word at that address, as it is then.
    Word(HeldRegister, i64),
}

/// What is known on the way from the answer of `will_log` to the call of `log`.
struct Answer {
    registers: [Value; 16],
    /// Words of the stack that were written on the way, by their distance from the stack pointer.
    written: BTreeMap<i64, Value>,
}

impl Answer {
    /// Follows the code at `start` as if `true` were returned: where the client's random and the secret are.
    fn places(code: impl Fn(u64) -> Option<Vec<u8>>, start: u64) -> Option<(HeldPlace, HeldPlace)> {
        let mut answer = Self::new();
        let mut effects = InstructionInfoFactory::new();
        let (mut at, mut done, mut is_tested, mut is_asked) = (start, 0, false, false);
        loop {
            let bytes = code(at)?;
            let mut next = None;
            for each in Decoder::with_ip(64, &bytes, at, DecoderOptions::NONE) {
                done += 1;
                let is_late = !is_asked && done > BRANCH_INSTRUCTIONS;
                if each.is_invalid() || is_late || done > ANSWER_INSTRUCTIONS {
                    return None;
                }
                match each.flow_control() {
                    FlowControl::Next => {
                        is_tested |= is_test_of_answer(&each);
                        answer.follow(&each, &mut effects)?;
                    }
                    // Behind the branch that the answer decides are those of panics.
                    FlowControl::ConditionalBranch if is_asked => {}
                    FlowControl::ConditionalBranch if is_tested => {
                        is_asked = true;
                        match each.mnemonic() {
                            Mnemonic::Je => {}
                            Mnemonic::Jne => next = Some(each.near_branch_target()),
                            _ => return None,
                        }
                    }
                    FlowControl::UnconditionalBranch if is_asked => next = Some(each.near_branch_target()),
                    FlowControl::IndirectCall if is_asked => return answer.parameters(),
                    _ => return None,
                }
                if next.is_some() {
                    break;
                }
            }
            at = next?;
        }
    }

    /// Functions keep these registers, and the stack of their caller.
    fn new() -> Self {
        let mut registers = [Value::Unknown; 16];
        for (register, held) in KEPT {
            registers[number(register)] = Value::Address(held, 0);
        }
        Self {
            registers,
            written: BTreeMap::new(),
        }
    }

    /// The places among the parameters of `log`, if they are what it takes.
    fn parameters(&self) -> Option<(HeldPlace, HeldPlace)> {
        let value = |register| self.registers[number(register)];
        let Value::Address(register, at) = value(Register::R9) else {
            return None;
        };
        let length = Value::Word(register, at + i64::from(OKM_LENGTH_AT));
        let is_log =
            value(Register::R8) == Value::Number(RANDOM_BYTES) && self.written.get(&0) == Some(&length);
        let place =
            |register, at: i64, is_pointer| HeldPlace::new(register, i32::try_from(at).ok()?, is_pointer);
        let random = match value(Register::RCX) {
            Value::Address(register, at) => place(register, at, false)?,
            Value::Word(register, at) => place(register, at, true)?,
            Value::Unknown | Value::Number(_) => return None,
        };
        is_log.then_some((random, place(register, at, false)?))
    }

    /// Executes one instruction. `None` if it stores to an unknown place.
    fn follow(&mut self, each: &Instruction, effects: &mut InstructionInfoFactory) -> Option<()> {
        let is_word = each.op_count() == 2 && each.memory_size().size() == 8;
        let value = match each.mnemonic() {
            Mnemonic::Mov if each.op0_kind() == OpKind::Memory => {
                let Some(Value::Address(HeldRegister::StackPointer, at)) = self.address(each) else {
                    return None;
                };
                // The other half of a word is not followed.
                let overlaps = self
                    .written
                    .range(at - 7..at + 8)
                    .next()
                    .is_some_and(|(other, _)| *other != at);
                let value = match each.op1_kind() {
                    OpKind::Register if is_word && !overlaps => self.registers[number(each.op1_register())],
                    _ => Value::Unknown,
                };
                self.written.insert(at, value);
                return Some(());
            }
            Mnemonic::Mov if each.op1_kind() == OpKind::Memory && is_word => self.load(each),
            Mnemonic::Mov if each.op1_kind() == OpKind::Register && each.op0_register().size() == 8 => {
                self.registers[number(each.op1_register())]
            }
            Mnemonic::Mov => each.try_immediate(1).map_or(Value::Unknown, Value::Number),
            Mnemonic::Lea => self.address(each).unwrap_or(Value::Unknown),
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Nop | Mnemonic::Movzx => Value::Unknown,
            _ if each.op_count() > 0 && each.op0_kind() == OpKind::Memory => return None,
            _ => Value::Unknown,
        };
        for used in effects.info(each).used_registers() {
            if is_written(*used) {
                self.registers[number(used.register())] = Value::Unknown;
            }
        }
        let whole = if matches!(value, Value::Number(_)) { 4 } else { 8 };
        if value != Value::Unknown && each.op0_register().size() >= whole {
            self.registers[number(each.op0_register())] = value;
        }
        Some(())
    }

    /// The address of the operand in memory.
    fn address(&self, each: &Instruction) -> Option<Value> {
        let is_plain = each.memory_index() == Register::None && each.memory_base().is_gpr64();
        let base = is_plain.then(|| self.registers[number(each.memory_base())]);
        match base? {
            Value::Address(register, at) => Some(Value::Address(
                register,
                at.checked_add(each.memory_displacement64().cast_signed())?,
            )),
            _ => None,
        }
    }

    /// The word at the operand in memory, as it was at the call of `will_log`.
    fn load(&self, each: &Instruction) -> Value {
        let Some(Value::Address(register, at)) = self.address(each) else {
            return Value::Unknown;
        };
        // Another register may point into the stack, but not to the parameters of the call.
        let is_changed = match register {
            HeldRegister::StackPointer => self.written.range(at - 7..at + 8).next().is_some(),
            _ => self.written.keys().any(|written| *written != 0),
        };
        if is_changed {
            Value::Unknown
        } else {
            Value::Word(register, at)
        }
    }
}

/// The registers that functions keep (System V ABI), and the stack pointer.
const KEPT: [(Register, HeldRegister); 7] = [
    (Register::RBX, HeldRegister::Rbx),
    (Register::RBP, HeldRegister::Rbp),
    (Register::RSP, HeldRegister::StackPointer),
    (Register::R12, HeldRegister::R12),
    (Register::R13, HeldRegister::R13),
    (Register::R14, HeldRegister::R14),
    (Register::R15, HeldRegister::R15),
];

fn is_test_of_answer(each: &Instruction) -> bool {
    each.mnemonic() == Mnemonic::Test
        && each.op0_register() == Register::AL
        && each.op1_kind() == OpKind::Register
        && each.op1_register() == Register::AL
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 0x1000;
    /// `test %al,%al`
    const TEST: &[u8] = &[0x84, 0xc0];
    /// `je` over what follows
    const SKIP: &[u8] = &[0x74, 0x7f];
    /// `mov 0xc0(%rsp),%rsi; cmp $0x41,%rsi; jae …`
    const LENGTH: &[u8] = &[
        0x48, 0x8b, 0xb4, 0x24, 0xc0, 0, 0, 0, 0x48, 0x83, 0xfe, 0x41, 0x73, 0x70,
    ];
    /// `mov 0x118(%rsp),%rcx`
    const RANDOM: &[u8] = &[0x48, 0x8b, 0x8c, 0x24, 0x18, 1, 0, 0];
    /// `mov %rsi,(%rsp)`
    const PASS_LENGTH: &[u8] = &[0x48, 0x89, 0x34, 0x24];
    /// `lea 0x80(%rsp),%r9`
    const SECRET: &[u8] = &[0x4c, 0x8d, 0x8c, 0x24, 0x80, 0, 0, 0];
    /// `mov $0x20,%r8d`
    const RANDOM_LENGTH: &[u8] = &[0x41, 0xb8, 0x20, 0, 0, 0];
    /// `call *%rax`
    const CALL: &[u8] = &[0xff, 0xd0];
    const RANDOM_PLACE: Option<HeldPlace> = HeldPlace::new(HeldRegister::StackPointer, 0x118, true);
    const SECRET_PLACE: Option<HeldPlace> = HeldPlace::new(HeldRegister::StackPointer, 0x80, false);

    fn places(parts: &[&[u8]]) -> Option<(HeldPlace, HeldPlace)> {
        let code = parts.concat();
        Answer::places(
            |address| {
                Some(
                    code.get(usize::try_from(address.checked_sub(START)?).ok()?..)?
                        .to_vec(),
                )
            },
            START,
        )
    }

    #[test]
    fn the_way_to_the_call_shows_both_places() {
        let rest = [LENGTH, RANDOM, PASS_LENGTH, SECRET, RANDOM_LENGTH, CALL].concat();
        let expected = RANDOM_PLACE.zip(SECRET_PLACE);
        assert_eq!(places(&[TEST, SKIP, &rest]), expected);
        // mov %rbx,%r15; jne over three bytes
        assert_eq!(
            places(&[TEST, &[0x49, 0x89, 0xdf, 0x75, 3], &[0xcc; 3], &rest]),
            expected
        );
        // The branch depends on something else.
        assert_eq!(places(&[SKIP, &rest]), None);
        assert_eq!(places(&[&[0x84, 0xdb], SKIP, &rest]), None);
        assert_eq!(places(&[TEST, &[0x72, 0x7f], &rest]), None);
    }

    #[test]
    fn every_parameter_must_be_what_log_takes() {
        let parts = [
            TEST,
            SKIP,
            LENGTH,
            RANDOM,
            PASS_LENGTH,
            SECRET,
            RANDOM_LENGTH,
            CALL,
        ];
        assert!(places(&parts).is_some());
        for left_out in 2..parts.len() {
            let mut parts = parts.to_vec();
            parts.remove(left_out);
            assert_eq!(places(&parts), None, "{left_out}");
        }
        let instead = |number: usize, other: &[u8]| {
            let mut parts = parts;
            parts[number] = other;
            places(&parts)
        };
        // The length is not that of the secret; another length of the random; a call by name.
        assert_eq!(instead(5, &[0x4c, 0x8d, 0x8c, 0x24, 0x88, 0, 0, 0]), None);
        assert_eq!(instead(6, &[0x41, 0xb8, 0x21, 0, 0, 0]), None);
        assert_eq!(instead(7, &[0xe8, 0, 0, 0, 0]), None);
        // lea 0x240(%rsp),%rcx: the random itself.
        let itself = instead(3, &[0x48, 0x8d, 0x8c, 0x24, 0x40, 2, 0, 0]);
        assert_eq!(
            itself.unwrap().0,
            HeldPlace::new(HeldRegister::StackPointer, 0x240, false).unwrap()
        );
        // mov %rdi,%rcx: no function keeps that register.
        assert_eq!(instead(3, &[0x48, 0x89, 0xf9]), None);
    }

    #[test]
    fn what_changes_on_the_way_is_not_known() {
        let rest = [LENGTH, RANDOM, PASS_LENGTH, SECRET, RANDOM_LENGTH, CALL].concat();
        // mov %rbx,0x118(%rsp): the pointer to the random is overwritten.
        let overwritten = [0x48, 0x89, 0x9c, 0x24, 0x18, 1, 0, 0];
        assert_eq!(places(&[TEST, SKIP, &overwritten, &rest]), None);
        // mov %rbx,(%rdi): a store to somewhere; push %rax; ret
        for other in [&[0x48, 0x89, 0x1f][..], &[0x50], &[0xc3]] {
            assert_eq!(places(&[TEST, SKIP, other, &rest]), None);
        }
    }

    #[test]
    fn a_call_passes_a_label_and_the_length_of_the_random() {
        let load = [0x48, 0x8d, 0x35, 0, 0, 0, 0];
        let call = |rest: &[u8], is_label| {
            let call = Call::behind(&[&load, rest].concat(), START, is_label)?;
            Some((call.address - START, call.end - START, call.passes_random))
        };
        assert_eq!(call(CALL, true), Some((7, 9, false)));
        assert_eq!(call(&[RANDOM_LENGTH, CALL].concat(), true), Some((13, 15, true)));
        // mov (%rbx),%rsi: the table's label.
        let other = [&[0x48, 0x8b, 0x33], CALL].concat();
        assert_eq!(call(&other, true), None);
        assert_eq!(call(&other, false), Some((10, 12, false)));
        assert_eq!(call(&[0xe8, 0, 0, 0, 0], true), None);
        assert_eq!(call(&[0xc3], true), None);
    }

    #[test]
    fn no_code_makes_it_panic() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..64)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    state.to_be_bytes()[0]
                })
                .collect();
            assert_eq!(places(&[TEST, SKIP, &bytes]), None);
            let _call = Call::behind(&bytes, START, true);
        }
    }
}
