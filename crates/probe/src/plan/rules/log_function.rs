//! `bool ssl_log_secret(const SSL *ssl, const char *label, Span<const uint8_t> secret)` of BoringSSL and its relatives
//! in programs without symbols: the one function that is called with the labels of key logs. Its code shows where the
//! client's random is, because it writes that, too: the label, the random and the secret, both in hexadecimal.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfo, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register, UsedRegister,
};

use super::{Code, Field, LogFunction, Refusal};
use crate::file::elf::Image;
use crate::file::labels::{LABELS, NEEDED};
use crate::plan::offset;

/// Bytes of the client's random.
const RANDOM_BYTES: i64 = 32;
/// Bytes of the function that are looked at; it has some 700.
const FUNCTION_BYTES: u64 = 4096;
/// Bytes from the load of a label to the call.
const CALL_BYTES: u64 = 96;

/// See [`super::log_function()`].
pub(super) fn log_function(image: &Image) -> Result<LogFunction, Refusal> {
    let address = callee(image)?;
    offset(image, address)?;
    let bytes = image.code(address, FUNCTION_BYTES).ok_or(Refusal::Unreadable)?;
    Ok(LogFunction {
        address,
        random: random(&Code {
            bytes,
            start: address,
        })?,
    })
}

/// The function that the labels are passed to.
fn callee(image: &Image) -> Result<u64, Refusal> {
    let references = image.labels().references.iter();
    let mut references = references.filter(|reference| reference.is_c_string).peekable();
    if references.peek().is_none() {
        return Err(Refusal::Missing);
    }
    let mut found = None;
    let mut passed = [false; LABELS.len()];
    for reference in references {
        let code = image
            .code(reference.address, CALL_BYTES)
            .ok_or(Refusal::Unreadable)?;
        let Some(target) = called(&code, reference.address) else {
            continue;
        };
        if found.is_some_and(|found| found != target) {
            return Err(Refusal::SeveralLogFunctions);
        }
        found = Some(target);
        passed[reference.label] = true;
    }
    let has_all = passed[..NEEDED].iter().all(|passed| *passed);
    found.filter(|_| has_all).ok_or(Refusal::NotLogged)
}

/// The function that is called, or jumped to, with what the first instruction loads as the second parameter.
fn called(code: &[u8], address: u64) -> Option<u64> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let load = decoder.decode();
    if load.is_invalid() || load.op0_register().full_register() != Register::RSI {
        return None;
    }
    for each in decoder {
        let writes_it =
            each.op0_kind() == OpKind::Register && each.op0_register().full_register() == Register::RSI;
        match each.flow_control() {
            FlowControl::Call | FlowControl::UnconditionalBranch if is_direct(&each) => {
                return Some(each.near_branch_target());
            }
            FlowControl::Next if !writes_it && !each.is_invalid() => {}
            _ => return None,
        }
    }
    None
}

fn is_direct(each: &Instruction) -> bool {
    each.op0_kind() == OpKind::NearBranch64
}

/// The content of a register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Unknown,
    /// The connection.
    Connection,
    /// The length of the secret.
    Length,
    Number(u64),
    /// So many bytes into the structure that a member of the connection points to.
    Inside(Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    pointer: i64,
    offset: i64,
}

/// By the numbers of the full registers.
type Registers = [Value; 16];

/// What the code shows.
#[derive(Default)]
struct Evidence {
    /// 32 bytes from here are passed to a function, or are between two pointers.
    whole: BTreeSet<Place>,
    /// Pointers into structures.
    pointers: BTreeSet<Place>,
    /// Bytes that are loaded one by one, with the register that counts them.
    bytes: BTreeSet<(Place, usize)>,
    /// Registers that are compared with 32.
    counters: BTreeSet<usize>,
    /// Twice the length of the secret is computed: hexadecimal digits.
    doubles_length: bool,
}

/// Where the client's random is, of the connection that a function has as its first parameter.
fn random(code: &Code) -> Result<Field, Refusal> {
    let evidence = Evidence::of(code)?;
    if !evidence.doubles_length {
        return Err(Refusal::NotALogFunction);
    }
    let place = evidence.place().ok_or(Refusal::RandomElsewhere)?;
    let number = |value: i64| u16::try_from(value).map_err(|_| Refusal::RandomElsewhere);
    Ok(Field {
        pointer: Some(number(place.pointer)?),
        offset: number(place.offset)?,
    })
}

impl Evidence {
    /// Follows every way forward through a function, none of them backward.
    fn of(code: &Code) -> Result<Self, Refusal> {
        let mut evidence = Self::default();
        // What registers hold where a branch leads to.
        let mut pending: BTreeMap<u64, Registers> = BTreeMap::new();
        let mut state = Some(at_entry());
        let mut effects = InstructionInfoFactory::new();
        for each in Decoder::with_ip(64, &code.bytes, code.start, DecoderOptions::NONE) {
            evidence.note_counter(&each);
            if let Some(other) = pending.remove(&each.ip()) {
                state = Some(state.map_or(other, |this| merged(&this, &other)));
            }
            let Some(registers) = &mut state else { continue };
            if each.is_invalid() {
                return Err(Refusal::Undecodable);
            }
            let flow = each.flow_control();
            if matches!(
                flow,
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            ) {
                let target = each.near_branch_target();
                if target > each.ip() && target < code.end() {
                    let other = pending.get(&target).copied().unwrap_or(*registers);
                    pending.insert(target, merged(registers, &other));
                }
            }
            match flow {
                FlowControl::Next => {
                    let value = evidence.follow(&each, registers);
                    write(&each, effects.info(&each), registers, value);
                }
                FlowControl::ConditionalBranch => {}
                FlowControl::Call | FlowControl::IndirectCall => evidence.call(registers),
                _ if pending.is_empty() => return Ok(evidence),
                _ => state = None,
            }
        }
        Err(Refusal::Unreadable)
    }

    /// The only place that all of it speaks of.
    fn place(&self) -> Option<Place> {
        let behind = |place: &Place| Place {
            offset: place.offset + RANDOM_BYTES,
            ..*place
        };
        let between = self
            .pointers
            .iter()
            .filter(|place| self.pointers.contains(&behind(place)));
        let counted = self
            .bytes
            .iter()
            .filter(|(_, counter)| self.counters.contains(counter));
        // A loop may take several bytes at a time.
        let first = counted.map(|(place, _)| *place).min();
        let mut places: Vec<_> = self
            .whole
            .iter()
            .copied()
            .chain(between.copied())
            .chain(first)
            .collect();
        places.sort_unstable();
        places.dedup();
        match places[..] {
            [place] => Some(place),
            _ => None,
        }
    }

    fn note_counter(&mut self, each: &Instruction) {
        if each.mnemonic() == Mnemonic::Cmp
            && each.op0_kind() == OpKind::Register
            && each.try_immediate(1).ok() == Some(RANDOM_BYTES.cast_unsigned())
        {
            self.counters.insert(number(each.op0_register()));
        }
    }

    fn call(&mut self, registers: &mut Registers) {
        if let Value::Inside(place) = registers[number(Register::RSI)]
            && registers[number(Register::RDX)] == Value::Number(RANDOM_BYTES.cast_unsigned())
        {
            self.whole.insert(place);
        }
        for register in NOT_KEPT {
            registers[number(register)] = Value::Unknown;
        }
    }

    /// Returns what the register holds that an instruction writes.
    fn follow(&mut self, each: &Instruction, registers: &Registers) -> Value {
        let value = |register: Register| match register {
            Register::None | Register::RIP => Value::Unknown,
            register => registers.get(number(register)).copied().unwrap_or(Value::Unknown),
        };
        let has_memory = (0..each.op_count()).any(|operand| each.op_kind(operand) == OpKind::Memory);
        let (base, index) = if has_memory {
            (value(each.memory_base()), value(each.memory_index()))
        } else {
            (Value::Unknown, Value::Unknown)
        };
        let distance = each.memory_displacement64().cast_signed();
        let is_plain = has_memory && each.memory_index() == Register::None;
        let other = if each.op_count() > 1 && each.op1_kind() == OpKind::Register {
            value(each.op1_register())
        } else {
            Value::Unknown
        };
        let immediate = || each.try_immediate(1).ok();
        match (each.mnemonic(), base) {
            (Mnemonic::Mov, Value::Connection) if is_plain && each.op1_kind() == OpKind::Memory => {
                Value::Inside(Place {
                    pointer: distance,
                    offset: 0,
                })
            }
            (Mnemonic::Mov, _) if has_memory => Value::Unknown,
            (Mnemonic::Mov, _) => immediate().map_or(other, Value::Number),
            (Mnemonic::Xor, _) if each.op0_register() == each.op1_register() => Value::Number(0),
            (Mnemonic::Movzx, Value::Inside(place)) if !is_plain && each.memory_size().size() == 1 => {
                let place = place.further(distance);
                self.bytes.insert((place, number(each.memory_index())));
                Value::Unknown
            }
            (Mnemonic::Lea, Value::Inside(place)) if is_plain => self.pointer(place.further(distance)),
            (Mnemonic::Lea, base) => {
                self.doubles_length |=
                    index == Value::Length && (each.memory_index_scale() == 2 || base == Value::Length);
                Value::Unknown
            }
            (Mnemonic::Add | Mnemonic::Sub, _) if !has_memory => {
                let target = value(each.op0_register());
                let added = immediate().map(u64::cast_signed);
                match (target, added) {
                    (Value::Inside(place), Some(added)) if each.mnemonic() == Mnemonic::Add => {
                        self.pointer(place.further(added))
                    }
                    (Value::Inside(place), Some(added)) => self.pointer(place.further(added.wrapping_neg())),
                    (Value::Length, None) => {
                        self.doubles_length |= other == Value::Length && each.mnemonic() == Mnemonic::Add;
                        Value::Unknown
                    }
                    _ => Value::Unknown,
                }
            }
            _ => Value::Unknown,
        }
    }

    fn pointer(&mut self, place: Place) -> Value {
        self.pointers.insert(place);
        Value::Inside(place)
    }
}

impl Place {
    fn further(self, bytes: i64) -> Self {
        Self {
            offset: self.offset.wrapping_add(bytes),
            ..self
        }
    }
}

fn at_entry() -> Registers {
    let mut registers = [Value::Unknown; 16];
    registers[number(Register::RDI)] = Value::Connection;
    registers[number(Register::RCX)] = Value::Length;
    registers
}

/// What both ways to an instruction leave.
fn merged(this: &Registers, other: &Registers) -> Registers {
    std::array::from_fn(|index| {
        if this[index] == other[index] {
            this[index]
        } else {
            Value::Unknown
        }
    })
}

/// Registers that functions need not keep (System V ABI).
const NOT_KEPT: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

/// Sets the registers that an instruction writes: the first operand to `value`.
fn write(each: &Instruction, effects: &InstructionInfo, registers: &mut Registers, value: Value) {
    for used in effects.used_registers() {
        if is_written(*used) {
            registers[number(used.register())] = Value::Unknown;
        }
    }
    let is_whole = match value {
        Value::Number(_) => 4,
        _ => 8,
    };
    if each.op_count() > 0
        && each.op0_kind() == OpKind::Register
        && each.op0_register().is_gpr()
        && each.op0_register().size() >= is_whole
        && !matches!(each.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push)
    {
        registers[number(each.op0_register())] = value;
    }
}

/// Returns true for a register of numbers and addresses that an instruction changes.
pub(super) fn is_written(used: UsedRegister) -> bool {
    let is_read = matches!(
        used.access(),
        OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess
    );
    !is_read && used.register().is_gpr()
}

/// The number of the full register.
pub(super) fn number(register: Register) -> usize {
    register.full_register().number()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `lea 0x43(%rax,%rcx,2),%r8`: room for the digits.
    const ROOM: &[u8] = &[0x4c, 0x8d, 0x44, 0x48, 0x43];
    /// `mov 0x30(%rdi),%rax`
    const STRUCTURE: &[u8] = &[0x48, 0x8b, 0x47, 0x30];
    const RETURN: &[u8] = &[0xc3];
    const PLACE: Field = Field {
        pointer: Some(0x30),
        offset: 0x38,
    };

    fn run(parts: &[&[u8]]) -> Result<Field, Refusal> {
        random(&Code {
            bytes: parts.concat(),
            start: 0x1000,
        })
    }

    #[test]
    fn the_random_is_passed_to_a_function() {
        // lea 0x38(%rax),%rsi; mov $0x20,%edx; call 0x4000
        let call = [0x48, 0x8d, 0x70, 0x38, 0xba, 0x20, 0, 0, 0, 0xe8, 0, 0x30, 0, 0];
        assert_eq!(run(&[ROOM, STRUCTURE, &call, RETURN]), Ok(PLACE));
        let mut shorter = call;
        shorter[5] = 0x1f;
        assert_eq!(
            run(&[ROOM, STRUCTURE, &shorter, RETURN]),
            Err(Refusal::RandomElsewhere)
        );
        assert_eq!(run(&[STRUCTURE, &call, RETURN]), Err(Refusal::NotALogFunction));
        // A second random elsewhere: mov 0x40(%rdi),%rax, where rdi must be kept for it.
        let keep = [0x48, 0x89, 0xfb];
        let other = [0x48, 0x8b, 0x43, 0x40];
        assert_eq!(
            run(&[ROOM, &keep, STRUCTURE, &call, &other, &call, RETURN]),
            Err(Refusal::RandomElsewhere)
        );
    }

    #[test]
    fn the_random_is_read_byte_by_byte() {
        // xor %edx,%edx; movzbl 0x38(%rax,%rdx,1),%esi; inc %rdx; cmp $0x20,%rdx; jne back
        let bytes = [
            0x31, 0xd2, 0x0f, 0xb6, 0x74, 0x10, 0x38, 0x48, 0xff, 0xc2, 0x48, 0x83, 0xfa, 0x20, 0x75, 0xf2,
        ];
        assert_eq!(run(&[ROOM, STRUCTURE, &bytes, RETURN]), Ok(PLACE));
        let mut shorter = bytes;
        shorter[13] = 0x10;
        assert_eq!(
            run(&[ROOM, STRUCTURE, &shorter, RETURN]),
            Err(Refusal::RandomElsewhere)
        );
    }

    #[test]
    fn the_random_is_between_two_pointers() {
        // lea 0x38(%rax),%rdx; lea 0x58(%rax),%rsi
        let both = [0x48, 0x8d, 0x50, 0x38, 0x48, 0x8d, 0x70, 0x58];
        assert_eq!(run(&[ROOM, STRUCTURE, &both, RETURN]), Ok(PLACE));
        // lea 0x38(%rax),%rdx; add $0x58,%rax; behind a branch over it: je +8
        let branch = [0x74, 8, 0x48, 0x8d, 0x50, 0x38, 0x48, 0x83, 0xc0, 0x58];
        assert_eq!(run(&[ROOM, STRUCTURE, &branch, RETURN]), Ok(PLACE));
    }

    #[test]
    fn a_register_that_differs_by_the_way_is_not_known() {
        // je +3; mov %rbx,%rax; then both pointers as above.
        let code = [
            0x74, 3, 0x48, 0x89, 0xd8, 0x48, 0x8d, 0x50, 0x38, 0x48, 0x8d, 0x70, 0x58,
        ];
        assert_eq!(
            run(&[ROOM, STRUCTURE, &code, RETURN]),
            Err(Refusal::RandomElsewhere)
        );
    }

    #[test]
    fn a_label_must_be_the_second_parameter_of_a_direct_call() {
        let load = [0x48, 0x8d, 0x35, 0, 0, 0, 0];
        let called = |rest: &[u8]| called(&[&load, rest].concat(), 0x1000);
        assert_eq!(called(&[0xe8, 0xf4, 0x2f, 0, 0]), Some(0x4000));
        // pop %rbx; jmp
        assert_eq!(called(&[0x5b, 0xe9, 0xf3, 0x2f, 0, 0]), Some(0x4000));
        // mov %rbx,%rsi; call
        assert_eq!(called(&[0x48, 0x89, 0xde, 0xe8, 0xf1, 0x2f, 0, 0]), None);
        // call *%rax; je; ret; nothing
        assert_eq!(called(&[0xff, 0xd0]), None);
        assert_eq!(called(&[0x74, 0x02, 0xe8, 0, 0, 0, 0]), None);
        assert_eq!(called(RETURN), None);
        assert_eq!(called(&[]), None);
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
            assert!(run(&[&bytes]).is_err());
            let _target = called(&bytes, 0x1000);
        }
    }
}
