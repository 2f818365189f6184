//! Learns where a library keeps a field from the library's own getter: its code is executed here, instruction by
//! instruction, on an object whose words are all different, and what it returns shows where that was.
//!
//! Only the way that a call with valid parameters takes matters, so compilers may arrange the code as they like.
//! Any instruction whose whole effect is not known ends it.

use std::collections::HashMap;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use super::{Code, Field, Getter, Refusal};

/// Bytes of the field.
const FIELD_BYTES: u64 = 32;
/// Bytes of an object or structure in which the field is looked for.
const OBJECT_BYTES: u64 = 0x4000;
/// Instructions that a getter may take: that copies 32 bytes one by one takes fewer.
const MOST_INSTRUCTIONS: usize = 512;

const OBJECT: u64 = 0x10_0000_0000;
/// Where the pointers in the object lead: each to a structure of its own.
const STRUCTURES: u64 = 0x20_0000_0000;
const STRUCTURE_STEP: u64 = 0x1_0000;
const BUFFER: u64 = 0x30_0000_0000;
const STACK: u64 = 0x40_0000_0000;
const RETURN: u64 = 0x50_0000_0000;

/// Executes `code`, a getter of a field of [`FIELD_BYTES`], and returns the field. `is_stub` recognizes calls of
/// other libraries: only copying is expected.
pub(super) fn field(code: &Code, getter: Getter, is_stub: impl Fn(u64) -> bool) -> Result<Field, Refusal> {
    let mut machine = Machine::new(getter);
    machine.run(code, is_stub)?;
    let found = match getter {
        Getter::Copies => machine.copied(),
        Getter::Points => machine.pointed(),
    };
    found.ok_or(Refusal::NotAGetter)
}

struct Machine {
    registers: [u64; 16],
    /// What was written, to the stack and the buffer.
    memory: HashMap<u64, u8>,
    /// Offsets of the pointers in the object that were followed.
    followed: Vec<u64>,
    zero: bool,
    carry: bool,
    sign: bool,
    overflow: bool,
}

/// Why execution ends.
enum Next {
    Following,
    At(u64),
    Returned,
}

impl Machine {
    fn new(getter: Getter) -> Self {
        let mut machine = Self {
            registers: [0; 16],
            memory: HashMap::new(),
            followed: Vec::new(),
            zero: false,
            carry: false,
            sign: false,
            overflow: false,
        };
        machine.set(Register::RDI, OBJECT);
        machine.set(Register::RSI, BUFFER);
        machine.set(
            Register::RDX,
            match getter {
                Getter::Copies => FIELD_BYTES,
                Getter::Points => 0,
            },
        );
        machine.set(Register::RSP, STACK);
        machine.write(STACK, &RETURN.to_le_bytes());
        machine
    }

    fn run(&mut self, code: &Code, is_stub: impl Fn(u64) -> bool) -> Result<(), Refusal> {
        let mut decoder = Decoder::with_ip(64, &code.bytes, code.start, DecoderOptions::NONE);
        for _ in 0..MOST_INSTRUCTIONS {
            let instruction = decoder.decode();
            if instruction.is_invalid() {
                return Err(Refusal::Undecodable);
            }
            let next = self.step(&instruction, &is_stub);
            let next = next.ok_or_else(|| Refusal::UnknownInstruction {
                instruction: format!("{:?}", instruction.mnemonic()),
            })?;
            match next {
                Next::Following => {}
                Next::Returned => return Ok(()),
                Next::At(address) => {
                    let inside = address
                        .checked_sub(code.start)
                        .and_then(|at| usize::try_from(at).ok());
                    let inside = inside
                        .filter(|&at| at < code.bytes.len())
                        .ok_or(Refusal::BranchesOut)?;
                    decoder.set_position(inside).map_err(|_| Refusal::BranchesOut)?;
                    decoder.set_ip(address);
                }
            }
        }
        Err(Refusal::NeverReturns)
    }

    /// `None` for an instruction whose effect is not known here.
    fn step(&mut self, each: &Instruction, is_stub: &impl Fn(u64) -> bool) -> Option<Next> {
        if each.is_jcc_short_or_near() || each.is_jmp_short_or_near() {
            let taken = each.is_jmp_short_or_near() || self.holds(each)?;
            return Some(if taken {
                Next::At(each.near_branch_target())
            } else {
                Next::Following
            });
        }
        match each.mnemonic() {
            Mnemonic::Endbr64 | Mnemonic::Nop => {}
            Mnemonic::Mov | Mnemonic::Movzx => {
                let value = self.get(each, 1)?;
                self.put(each, value)?;
            }
            Mnemonic::Lea => {
                let address = self.address(each)?;
                self.put(each, address)?;
            }
            Mnemonic::Push => {
                let value = self.get(each, 0)?;
                self.push(value);
            }
            Mnemonic::Pop => {
                let value = self.pop()?;
                self.put(each, value)?;
            }
            Mnemonic::Leave => {
                self.set(Register::RSP, self.register(Register::RBP)?);
                let value = self.pop()?;
                self.set(Register::RBP, value);
            }
            Mnemonic::Ret => return (self.pop()? == RETURN).then_some(Next::Returned),
            Mnemonic::Call if is_stub(each.near_branch_target()) => self.copy()?,
            _ if is_conditional_move(each) => {
                let value = self.get(each, self.holds(each)?.into())?;
                self.put(each, value)?;
            }
            _ => self.compute(each)?,
        }
        Some(Next::Following)
    }

    fn compute(&mut self, each: &Instruction) -> Option<()> {
        let size = operand_size(each)?;
        let (left, right) = (self.get(each, 0)?, self.get(each, 1)? & mask(size));
        let bits = |value: u64| value & mask(size);
        let top = 1 << (8 * size - 1);
        let (result, carry, overflow) = match each.mnemonic() {
            Mnemonic::Sub | Mnemonic::Cmp => {
                let result = bits(left.wrapping_sub(right));
                (result, left < right, (left ^ right) & (left ^ result) & top != 0)
            }
            Mnemonic::Add => {
                let result = bits(left.wrapping_add(right));
                (
                    result,
                    result < left,
                    !(left ^ right) & (left ^ result) & top != 0,
                )
            }
            Mnemonic::And | Mnemonic::Test => (left & right, false, false),
            Mnemonic::Xor => (left ^ right, false, false),
            Mnemonic::Or => (left | right, false, false),
            _ => return None,
        };
        (self.zero, self.carry) = (result == 0, carry);
        (self.sign, self.overflow) = (result & top != 0, overflow);
        if !matches!(each.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            self.put(each, result)?;
        }
        Some(())
    }

    /// Whether the condition of a jump or a conditional move holds.
    fn holds(&self, each: &Instruction) -> Option<bool> {
        use iced_x86::ConditionCode as Condition;
        let less = self.sign != self.overflow;
        Some(match each.condition_code() {
            Condition::e => self.zero,
            Condition::ne => !self.zero,
            Condition::b => self.carry,
            Condition::ae => !self.carry,
            Condition::be => self.carry || self.zero,
            Condition::a => !self.carry && !self.zero,
            Condition::s => self.sign,
            Condition::ns => !self.sign,
            Condition::l => less,
            Condition::ge => !less,
            Condition::le => less || self.zero,
            Condition::g => !less && !self.zero,
            _ => return None,
        })
    }

    /// A call of another library: `memcpy(target, source, length)`.
    fn copy(&mut self) -> Option<()> {
        let [target, source, length] =
            [Register::RDI, Register::RSI, Register::RDX].map(|register| self.register(register));
        let (target, source) = (target?, source?);
        if length? != FIELD_BYTES {
            return None;
        }
        let bytes: Vec<u8> = (0..FIELD_BYTES)
            .map(|at| self.byte(source.checked_add(at)?))
            .collect::<Option<_>>()?;
        self.write(target, &bytes);
        self.set(Register::RAX, target);
        Some(())
    }

    /// The value of an operand.
    fn get(&mut self, each: &Instruction, operand: u32) -> Option<u64> {
        match each.try_op_kind(operand).ok()? {
            OpKind::Register => self.register(each.op_register(operand)),
            OpKind::Memory => {
                let address = self.address(each)?;
                let size = each.memory_size().size() as u64;
                if address % 8 == 0 && size == 8 && (OBJECT..OBJECT + OBJECT_BYTES).contains(&address) {
                    self.followed.push(address - OBJECT);
                }
                let mut value = 0;
                for at in (0..size.min(8)).rev() {
                    value = value << 8 | u64::from(self.byte(address.checked_add(at)?)?);
                }
                Some(value)
            }
            _ => each.try_immediate(operand).ok(),
        }
    }

    /// Writes the first operand.
    fn put(&mut self, each: &Instruction, value: u64) -> Option<()> {
        match each.op0_kind() {
            OpKind::Register => {
                let register = each.op0_register();
                let value = match register.size() {
                    8 => value,
                    // It clears the upper half.
                    4 => value & mask(4),
                    _ => return None,
                };
                self.set(register, value);
            }
            OpKind::Memory => {
                let address = self.address(each)?;
                let size = each.memory_size().size();
                self.write(address, value.to_le_bytes().get(..size)?);
            }
            _ => return None,
        }
        Some(())
    }

    fn address(&self, each: &Instruction) -> Option<u64> {
        let of = |register| match register {
            Register::None => Some(0),
            Register::RIP => None,
            register => self.register(register),
        };
        match each.memory_segment() {
            // The canary of the stack.
            Register::FS => return Some(BUFFER - 8),
            Register::DS | Register::SS => {}
            _ => return None,
        }
        let scaled = of(each.memory_index())?.wrapping_mul(u64::from(each.memory_index_scale()));
        let base = of(each.memory_base())?;
        Some(
            base.wrapping_add(scaled)
                .wrapping_add(each.memory_displacement64()),
        )
    }

    /// The byte at an address; `None` where nothing is known to be.
    fn byte(&self, address: u64) -> Option<u8> {
        if let Some(&byte) = self.memory.get(&address) {
            return Some(byte);
        }
        let word = match address & !7 {
            // The type of a session of OpenSSL 3.2 and later: a connection.
            OBJECT => 0,
            word if word == BUFFER - 8 => 0,
            word if (OBJECT..OBJECT + OBJECT_BYTES).contains(&word) => pointer(word - OBJECT),
            word if (STRUCTURES..pointer(OBJECT_BYTES)).contains(&word) => content(word),
            _ => return None,
        };
        Some(word.to_le_bytes()[(address & 7) as usize])
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        for (at, &byte) in (0..).zip(bytes) {
            self.memory.insert(address.wrapping_add(at), byte);
        }
    }

    fn push(&mut self, value: u64) {
        let stack = self.registers[number(Register::RSP)].wrapping_sub(8);
        self.set(Register::RSP, stack);
        self.write(stack, &value.to_le_bytes());
    }

    fn pop(&mut self) -> Option<u64> {
        let stack = self.register(Register::RSP)?;
        self.set(Register::RSP, stack.wrapping_add(8));
        self.word(stack)
    }

    fn word(&self, address: u64) -> Option<u64> {
        let bytes: Vec<u8> = (0..8)
            .map(|at| self.byte(address.checked_add(at)?))
            .collect::<Option<_>>()?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    fn register(&self, register: Register) -> Option<u64> {
        let value = *self.registers.get(number(register))?;
        match register.size() {
            8 => Some(value),
            4 => Some(value & mask(4)),
            // The upper byte of a word has the number of another register.
            1 if matches!(
                register,
                Register::AL | Register::BL | Register::CL | Register::DL
            ) =>
            {
                Some(value & mask(1))
            }
            _ => None,
        }
    }

    fn set(&mut self, register: Register, value: u64) {
        if let Some(known) = self.registers.get_mut(number(register)) {
            *known = value;
        }
    }

    /// The field whose content is in the buffer; `None` if it could be more than one.
    fn copied(&self) -> Option<Field> {
        let bytes = |start: u64| (0..FIELD_BYTES).map(move |at| self.byte(start.checked_add(at)?));
        let is_there = |address: u64| bytes(address).eq(bytes(BUFFER));
        if bytes(BUFFER).any(|byte| byte.is_none()) {
            return None;
        }
        let offsets = || 8..OBJECT_BYTES - FIELD_BYTES;
        let direct = offsets()
            .filter(|&at| is_there(OBJECT + at))
            .map(|at| Some((None, at)));
        let behind = self.followed.iter().flat_map(|&at| {
            let found = (0..OBJECT_BYTES).filter(move |&inside| is_there(pointer(at) + inside));
            found.map(move |inside| Some((Some(at), inside)))
        });
        let mut found: Vec<_> = direct.chain(behind).flatten().collect();
        found.dedup();
        match found[..] {
            [(pointer, offset)] => Field::new(pointer, offset),
            _ => None,
        }
    }

    /// The field that the buffer points to, with its length behind the pointer.
    fn pointed(&self) -> Option<Field> {
        let offset = self
            .word(BUFFER)?
            .checked_sub(OBJECT)
            .filter(|&offset| offset < OBJECT_BYTES)?;
        let length = (8..12).rev().try_fold(0, |length, at| {
            Some(length << 8 | u64::from(self.byte(BUFFER + at)?))
        });
        Field::new(None, offset).filter(|_| length == Some(FIELD_BYTES))
    }
}

impl Field {
    fn new(pointer: Option<u64>, offset: u64) -> Option<Self> {
        let pointer = match pointer {
            Some(pointer) => Some(u16::try_from(pointer).ok()?),
            None => None,
        };
        Some(Self {
            pointer,
            offset: u16::try_from(offset).ok()?,
        })
    }
}

/// The pointer at an offset of the object.
fn pointer(offset: u64) -> u64 {
    STRUCTURES + offset * STRUCTURE_STEP
}

/// What is in a structure at an address: nothing that could be followed.
fn content(address: u64) -> u64 {
    0xA5 << 56 | (address - STRUCTURES) << 8 | 0x5A
}

fn is_conditional_move(each: &Instruction) -> bool {
    each.condition_code() != iced_x86::ConditionCode::None
        && format!("{:?}", each.mnemonic()).starts_with("Cmov")
}

fn operand_size(each: &Instruction) -> Option<u32> {
    let size = match each.op0_kind() {
        OpKind::Register => each.op0_register().size(),
        OpKind::Memory => each.memory_size().size(),
        _ => return None,
    };
    u32::try_from(size).ok().filter(|size| (1..=8).contains(size))
}

fn mask(size: u32) -> u64 {
    u64::MAX >> (64 - 8 * size)
}

fn number(register: Register) -> usize {
    register.full_register().number()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bytes: &[u8], getter: Getter) -> Result<Field, Refusal> {
        let code = Code {
            bytes: bytes.to_vec(),
            start: 0x1000,
        };
        field(&code, getter, |address| address == 0x4000)
    }

    const fn direct(offset: u16) -> Field {
        Field {
            pointer: None,
            offset,
        }
    }

    /// `call 0x4000` at 0x1000 + `at`.
    fn call(at: u32) -> Vec<u8> {
        let mut bytes = vec![0xe8];
        bytes.extend((0x4000_u32 - (0x1000 + at + 5)).to_le_bytes());
        bytes
    }

    #[test]
    fn a_field_is_copied_by_memcpy() {
        // mov %rsi,%rcx; lea 0x160(%rdi),%rsi; mov %rcx,%rdi; call memcpy; ret
        let mut bytes = vec![
            0x48, 0x89, 0xf1, 0x48, 0x8d, 0xb7, 0x60, 1, 0, 0, 0x48, 0x89, 0xcf,
        ];
        bytes.extend(call(13));
        bytes.push(0xc3);
        assert_eq!(run(&bytes, Getter::Copies), Ok(direct(0x160)));
    }

    #[test]
    fn a_field_is_copied_word_by_word_from_behind_a_pointer() {
        // mov 0xa8(%rdi),%rdi; then for each word: mov 0xb8(%rdi),%rax; mov %rax,(%rsi); ret
        let mut bytes = vec![0x48, 0x8b, 0xbf, 0xa8, 0, 0, 0];
        for word in 0..4 {
            bytes.extend([0x48, 0x8b, 0x87, 0xb8 + 8 * word, 0, 0, 0]);
            bytes.extend([0x48, 0x89, 0x46, 8 * word]);
        }
        bytes.push(0xc3);
        let behind = Field {
            pointer: Some(0xa8),
            offset: 0xb8,
        };
        assert_eq!(run(&bytes, Getter::Copies), Ok(behind));
    }

    /// `gnutls_session_get_random` of GnuTLS 3.7.9.
    #[test]
    fn a_field_is_pointed_to() {
        let bytes = [
            0x48, 0x85, 0xf6, 0x74, 0x0e, 0x48, 0x8d, 0x47, 0x50, 0xc7, 0x46, 0x08, 0x20, 0, 0, 0, 0x48,
            0x89, 0x06, 0x48, 0x85, 0xd2, 0x74, 0x0e, 0x48, 0x83, 0xc7, 0x70, 0xc7, 0x42, 0x08, 0x20, 0, 0,
            0, 0x48, 0x89, 0x3a, 0xc3,
        ];
        assert_eq!(run(&bytes, Getter::Points), Ok(direct(0x50)));
    }

    #[test]
    fn what_is_no_getter_is_refused() {
        let refusals: [(&[u8], Refusal); 5] = [
            (&[0xc3], Refusal::NotAGetter),
            // jmp to itself
            (&[0xeb, 0xfe], Refusal::NeverReturns),
            (&[0xeb, 0x7f], Refusal::BranchesOut),
            (&[0x06], Refusal::Undecodable),
            (
                &[0x0f, 0x05],
                Refusal::UnknownInstruction {
                    instruction: "Syscall".into(),
                },
            ),
        ];
        for (bytes, refusal) in refusals {
            assert_eq!(run(bytes, Getter::Copies), Err(refusal));
        }
    }

    /// Bytes that differ in one place from a getter, and random ones.
    #[test]
    fn no_code_makes_it_panic_or_run_for_long() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..40)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    state.to_be_bytes()[0]
                })
                .collect();
            for getter in [Getter::Copies, Getter::Points] {
                assert!(run(&bytes, getter).is_err());
            }
        }
    }
}
