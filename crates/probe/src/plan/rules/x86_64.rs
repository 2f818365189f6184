//! Proves properties of x86-64 code.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

pub(super) use super::getter::field;
pub(super) use super::log_function::log_function;
pub(super) use super::rustls_secrets::rustls_secrets;
use super::{Accessor, Callee, Code, Refusal};

/// Where parameters are passed (System V ABI), by their full registers.
const PARAMETERS: [Register; 5] = [
    Register::RDI,
    Register::RSI,
    Register::RDX,
    Register::RCX,
    Register::R8,
];

/// The content of a register on the way from the entry to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    /// The parameter of that number as the caller passed it, or its lower half extended.
    Parameter(usize),
    /// This many bytes from the stack pointer at the entry.
    Stack(i64),
    Zero,
    Unknown,
}

/// See [`super::emulated_start`]. The kernel emulates `push` of a register; `endbr64` is the marker.
pub(super) fn emulated_start(code: &Code) -> Option<u64> {
    let mut decoder = code.decoder();
    let first = decoder.decode();
    let start = if first.mnemonic() == Mnemonic::Endbr64 {
        decoder.decode()
    } else {
        first
    };
    let is_emulated = start.mnemonic() == Mnemonic::Push && start.op0_kind() == OpKind::Register;
    is_emulated.then_some(start.ip())
}

/// See [`super::only_callee`].
pub(super) fn only_callee(code: &Code, is_stub: impl Fn(u64) -> bool) -> Result<u64, Refusal> {
    let body = Body::decode(code)?;
    body.only_call(is_stub).map(|call| call.near_branch_target())
}

/// See [`super::callee_of_plain`].
pub(super) fn callee_of_plain(code: &Code, is_stub: impl Fn(u64) -> bool) -> Result<Callee, Refusal> {
    let body = Body::decode(code)?;
    let call = body.only_call(is_stub)?;
    let registers = body.registers_at(&call)?;
    let value = |parameter: usize| registers.value(PARAMETERS[parameter]);
    if (0..3).any(|parameter| value(parameter) != Value::Parameter(parameter)) {
        return Err(Refusal::ParametersChange);
    }
    let (length_parameter, variable) = match (value(3), value(4)) {
        (Value::Stack(variable), _) => (3, variable),
        (Value::Zero, Value::Stack(variable)) => (4, variable),
        _ => return Err(Refusal::LengthElsewhere),
    };
    if !body.returns_variable(&call, variable - registers.stack) {
        return Err(Refusal::OtherResult);
    }
    Ok(Callee {
        address: call.near_branch_target(),
        length_parameter,
    })
}

/// See [`super::go_returns`]. The check is `cmp 0x10(%r14),%rsp`, or of a lower address when the
/// frame is large.
pub(super) fn go_returns(code: &Code) -> Result<Vec<u64>, Refusal> {
    let begins_with_check = code.decoder().iter().take(2).any(|each| {
        each.mnemonic() == Mnemonic::Cmp
            && each.memory_base() == Register::R14
            && each.memory_displacement64() == 0x10
    });
    if !begins_with_check {
        return Err(Refusal::NotGo);
    }
    let mut returns = Vec::new();
    for each in code.decoder() {
        if each.is_invalid() {
            return Err(Refusal::Undecodable);
        }
        if each.flow_control() == FlowControl::Return {
            returns.push(each.ip());
        }
    }
    if returns.is_empty() {
        Err(Refusal::NeverReturns)
    } else {
        Ok(returns)
    }
}

/// See [`super::returns`].
pub(super) fn returns(code: &Code) -> Result<Vec<u64>, Refusal> {
    let body = Body::decode(code)?;
    let mut returns = Vec::new();
    for each in &body.instructions {
        match each.flow_control() {
            FlowControl::Return => returns.push(each.ip()),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
                if !(body.start..body.end).contains(&each.near_branch_target()) =>
            {
                return Err(Refusal::BranchesOut);
            }
            FlowControl::IndirectBranch => return Err(Refusal::BranchesThroughPointer),
            _ => {}
        }
    }
    if returns.is_empty() {
        Err(Refusal::NeverReturns)
    } else {
        Ok(returns)
    }
}

/// See [`super::accessor`]. A null pointer is passed on.
pub(super) fn accessor(code: &Code) -> Option<Accessor> {
    let mut found = None;
    for each in code.decoder() {
        let base = each.memory_base();
        let from_parameter = found.is_none() && base == Register::RDI;
        let from_pointer = matches!(found, Some(Accessor::Value(_))) && base == Register::RAX;
        let is_plain = each.memory_index() == Register::None && each.segment_prefix() == Register::None;
        match (each.mnemonic(), found) {
            (Mnemonic::Endbr64 | Mnemonic::Nop, None)
            | (Mnemonic::Test | Mnemonic::Je, Some(Accessor::Value(_))) => {}
            (Mnemonic::Ret, found) => return found,
            (Mnemonic::Add, Some(Accessor::Value(pointer)))
                if each.op0_register() == Register::RAX && each.op1_kind() != OpKind::Register =>
            {
                found = Some(Accessor::Through(pointer, u32::try_from(each.immediate(1)).ok()?));
            }
            (Mnemonic::Lea | Mnemonic::Mov, _)
                if each.op0_register().full_register() == Register::RAX
                    && is_plain
                    && (from_parameter || from_pointer) =>
            {
                let offset = u32::try_from(each.memory_displacement64()).ok()?;
                found = Some(match (found, each.mnemonic()) {
                    (Some(Accessor::Value(pointer)), _) => Accessor::Through(pointer, offset),
                    (_, Mnemonic::Lea) => Accessor::Address(offset),
                    _ => Accessor::Value(offset),
                });
            }
            _ => return None,
        }
    }
    None
}

/// See [`super::second_parameter_member`].
pub(super) fn second_parameter_member(code: &Code) -> Option<(u32, Option<u32>)> {
    // Which registers hold the two parameters.
    let (mut object, mut value) = (vec![Register::RDI], vec![Register::RSI]);
    let mut loaded = None;
    for each in code.decoder() {
        if each.is_invalid() {
            return None;
        }
        let is_memory = |kind| kind == OpKind::Memory;
        if each.mnemonic() == Mnemonic::Mov
            && is_memory(each.op0_kind())
            && object.contains(&each.memory_base())
            && value.contains(&each.op1_register())
        {
            return Some((u32::try_from(each.memory_displacement64()).ok()?, loaded));
        }
        if loaded.is_none()
            && each.mnemonic() == Mnemonic::Mov
            && is_memory(each.op1_kind())
            && object.contains(&each.memory_base())
            && each.op0_register().size() == 4
        {
            loaded = Some(u32::try_from(each.memory_displacement64()).ok()?);
        }
        if each.op_count() == 0 || each.op0_kind() != OpKind::Register {
            continue;
        }
        let target = each.op0_register().full_register();
        let copied = |holders: &[Register]| {
            each.mnemonic() == Mnemonic::Mov
                && each.op1_kind() == OpKind::Register
                && holders.contains(&each.op1_register())
        };
        let (is_object, is_value) = (copied(&object), copied(&value));
        if matches!(each.mnemonic(), Mnemonic::Cmp | Mnemonic::Test) {
            continue;
        }
        object.retain(|register| *register != target);
        value.retain(|register| *register != target);
        if is_object {
            object.push(target);
        }
        if is_value {
            value.push(target);
        }
    }
    None
}

/// See [`super::calls`].
pub(super) fn calls(code: &Code, callee: u64) -> Result<bool, Refusal> {
    let body = Body::decode(code)?;
    Ok(body.instructions.iter().any(|each| {
        let flow = each.flow_control();
        matches!(flow, FlowControl::Call | FlowControl::UnconditionalBranch)
            && each.near_branch_target() == callee
    }))
}

/// See [`super::loads_from_second_parameter`].
pub(super) fn loads_from_second_parameter(code: &Code, offsets: &[u64]) -> Result<bool, Refusal> {
    let body = Body::decode(code)?;
    let before_calls = body.instructions.iter().take_while(|each| {
        !matches!(
            each.flow_control(),
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return
        )
    });
    let mut holders = vec![Register::RSI];
    let mut missing = offsets.to_vec();
    for each in before_calls {
        if each.op0_kind() != OpKind::Register {
            continue;
        }
        let is_load = each.mnemonic() == Mnemonic::Mov
            && each.op1_kind() == OpKind::Memory
            && each.op0_register().size() == size_of::<u64>()
            && holders.contains(&each.memory_base())
            && each.memory_index() == Register::None;
        if is_load {
            missing.retain(|&offset| offset != each.memory_displacement64());
        }
        let is_copy = each.mnemonic() == Mnemonic::Mov
            && each.op1_kind() == OpKind::Register
            && holders.contains(&each.op1_register());
        let target = each.op0_register().full_register();
        if is_copy {
            holders.push(target);
        } else if !matches!(each.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push) {
            holders.retain(|&holder| holder != target);
        }
    }
    Ok(missing.is_empty())
}

impl Code {
    fn decoder(&self) -> Decoder<'_> {
        Decoder::with_ip(64, &self.bytes, self.start, DecoderOptions::NONE)
    }
}

/// All instructions of a function, in the order of their addresses.
struct Body {
    instructions: Vec<Instruction>,
    start: u64,
    end: u64,
}

impl Body {
    fn decode(code: &Code) -> Result<Self, Refusal> {
        let instructions: Vec<_> = code.decoder().into_iter().collect();
        if instructions.iter().any(Instruction::is_invalid) {
            return Err(Refusal::Undecodable);
        }
        Ok(Self {
            instructions,
            start: code.start,
            end: code.end(),
        })
    }

    fn only_call(&self, is_stub: impl Fn(u64) -> bool) -> Result<Instruction, Refusal> {
        let mut calls = Vec::new();
        for instruction in &self.instructions {
            match instruction.flow_control() {
                FlowControl::Call | FlowControl::UnconditionalBranch => {
                    let target = instruction.near_branch_target();
                    if !(self.start..self.end).contains(&target) && !is_stub(target) {
                        calls.push(*instruction);
                    }
                }
                FlowControl::ConditionalBranch
                    if !(self.start..self.end).contains(&instruction.near_branch_target()) =>
                {
                    return Err(Refusal::BranchesOut);
                }
                // Through the table of imported functions, without a stub.
                FlowControl::IndirectCall if instruction.is_ip_rel_memory_operand() => {}
                FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                    return Err(Refusal::CallsThroughPointer);
                }
                _ => {}
            }
        }
        match calls[..] {
            [call] => Ok(call),
            _ => Err(Refusal::Calls {
                observed: calls.len(),
            }),
        }
    }

    /// Follows the instructions from the entry to `call`. Nothing may jump in between them, so
    /// this is the only way there.
    fn registers_at(&self, call: &Instruction) -> Result<Registers, Refusal> {
        let way = self.start + 1..call.next_ip();
        let jumps_in = self.instructions.iter().any(|instruction| {
            let flow = instruction.flow_control();
            matches!(
                flow,
                FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch
            ) && way.contains(&instruction.near_branch_target())
        });
        if jumps_in {
            return Err(Refusal::SeveralWays);
        }
        let mut registers = Registers::at_entry();
        for instruction in self.instructions.iter().take_while(|each| each.ip() < call.ip()) {
            registers.follow(instruction)?;
        }
        Ok(registers)
    }

    /// Returns true if the result is loaded from `[rsp + offset]` soon after the call.
    fn returns_variable(&self, call: &Instruction, offset: i64) -> bool {
        const SOON: usize = 6;
        let after = self
            .instructions
            .iter()
            .skip_while(|each| each.ip() <= call.ip())
            .take(SOON);
        after.into_iter().any(|each| {
            matches!(each.mnemonic(), Mnemonic::Mov | Mnemonic::Cmovg)
                && each.op0_kind() == OpKind::Register
                && each.op0_register().full_register() == Register::RAX
                && each.op1_kind() == OpKind::Memory
                && each.memory_base() == Register::RSP
                && each.memory_index() == Register::None
                && each.memory_displacement64().cast_signed() == offset
        })
    }
}

#[derive(Debug, Clone, Copy)]
struct Registers {
    values: [Value; PARAMETERS.len()],
    /// Stack pointer, counted from the entry.
    stack: i64,
}

impl Registers {
    fn at_entry() -> Self {
        let values = std::array::from_fn(|parameter| {
            // A plain function has three parameters.
            if parameter < 3 {
                Value::Parameter(parameter)
            } else {
                Value::Unknown
            }
        });
        Self { values, stack: 0 }
    }

    fn value(&self, register: Register) -> Value {
        match PARAMETERS
            .iter()
            .position(|parameter| *parameter == register.full_register())
        {
            Some(index) => self.values[index],
            None => Value::Unknown,
        }
    }

    fn set(&mut self, register: Register, value: Value) {
        let full = register.full_register();
        if let Some(index) = PARAMETERS.iter().position(|parameter| *parameter == full) {
            self.values[index] = value;
        }
    }

    /// Only instructions whose whole effect on these registers is known may be on the way.
    fn follow(&mut self, instruction: &Instruction) -> Result<(), Refusal> {
        let unknown = || {
            Err(Refusal::UnknownInstruction {
                instruction: format!("{:?}", instruction.mnemonic()),
            })
        };
        let to_register = instruction.op0_kind() == OpKind::Register;
        let target = instruction.op0_register();
        match instruction.mnemonic() {
            Mnemonic::Endbr64 | Mnemonic::Nop | Mnemonic::Test | Mnemonic::Cmp => {}
            _ if instruction.flow_control() == FlowControl::ConditionalBranch => {}
            Mnemonic::Push => self.stack -= 8,
            Mnemonic::Sub if target == Register::RSP && is_immediate(instruction) => {
                self.stack -= instruction.immediate(1).cast_signed();
            }
            Mnemonic::Mov | Mnemonic::Movsxd | Mnemonic::Lea | Mnemonic::Xor => {
                if target.full_register() == Register::RSP && to_register {
                    return unknown();
                }
                if to_register {
                    self.set(target, self.result(instruction));
                }
            }
            _ => return unknown(),
        }
        Ok(())
    }

    /// The value that an instruction leaves in the register that it writes.
    fn result(&self, instruction: &Instruction) -> Value {
        let source_is_register = instruction.op1_kind() == OpKind::Register;
        let source = instruction.op1_register();
        match instruction.mnemonic() {
            Mnemonic::Xor if source_is_register && source == instruction.op0_register() => Value::Zero,
            Mnemonic::Mov | Mnemonic::Movsxd if source_is_register => {
                if source == Register::RSP {
                    Value::Stack(self.stack)
                } else {
                    self.value(source)
                }
            }
            Mnemonic::Lea
                if instruction.memory_base() == Register::RSP
                    && instruction.memory_index() == Register::None =>
            {
                Value::Stack(self.stack + instruction.memory_displacement64().cast_signed())
            }
            _ => Value::Unknown,
        }
    }
}

fn is_immediate(instruction: &Instruction) -> bool {
    matches!(
        instruction.op1_kind(),
        OpKind::Immediate8to64 | OpKind::Immediate32to64
    )
}
