//! Runs filters that libpcap has compiled: the classic BPF machine (`net/bpf.h`, McCanne and Jacobson 1993).
//!
//! It reads the packet only within its captured bytes; a filter that reads beyond them lets the packet not
//! through, as in the kernel. Bounds: [`limits::FILTER_INSTRUCTIONS`] and, because
//! `protochain` has loops, [`limits::FILTER_STEPS`].

use crate::limits;

/// One instruction, as `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation and addressing mode.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub if_true: u8,
    /// Instructions to skip if it does not.
    pub if_false: u8,
    /// Operand.
    pub operand: u32,
}

/// A program that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter(Vec<Instruction>);

/// Why a program cannot be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// It has no instructions, or too many.
    #[error("expected 1 to {most} instructions, observed {observed}")]
    Length {
        /// Most instructions.
        most: usize,
        /// Those of the program.
        observed: usize,
    },
    /// An instruction that the machine does not have, or that leads out of the program or its memory.
    #[error("instruction {number} cannot be run")]
    Instruction {
        /// Its place.
        number: usize,
    },
}

const MEMORY_WORDS: usize = 16;

// Classes.
const LD: u16 = 0;
const LDX: u16 = 1;
const ST: u16 = 2;
const STX: u16 = 3;
const ALU: u16 = 4;
const JMP: u16 = 5;
const RET: u16 = 6;
const MISC: u16 = 7;

impl Filter {
    /// Checks a program: every jump ends within it, and every memory word exists.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, FilterError> {
        let count = instructions.len();
        if count == 0 || count > limits::FILTER_INSTRUCTIONS {
            return Err(FilterError::Length {
                most: limits::FILTER_INSTRUCTIONS,
                observed: count,
            });
        }
        for (number, instruction) in instructions.iter().enumerate() {
            if !is_known(*instruction, number, count) {
                return Err(FilterError::Instruction { number });
            }
        }
        Ok(Self(instructions))
    }

    /// The program.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Returns true if it lets a packet of `length` bytes through, whose first bytes were captured.
    pub fn accepts(&self, captured: &[u8], length: u32) -> bool {
        Machine {
            packet: captured,
            length,
            accumulator: 0,
            index: 0,
            memory: [0; MEMORY_WORDS],
        }
        .run(&self.0)
        .is_some_and(|result| result != 0)
    }
}

/// Returns true for an instruction of the machine that stays within the program.
fn is_known(instruction: Instruction, number: usize, count: usize) -> bool {
    let Instruction {
        code,
        if_true,
        if_false,
        operand,
    } = instruction;
    let reaches = |skipped: usize| number + 1 + skipped < count;
    match code & 0x07 {
        RET => matches!(code & 0x18, 0 | 0x10),
        // Only a jump or a return may be the last one.
        JMP if code & 0xF0 == 0 => {
            let target = i64::try_from(number).unwrap_or(0) + 1 + i64::from(operand.cast_signed());
            (0..i64::try_from(count).unwrap_or(0)).contains(&target)
        }
        JMP => code & 0xF0 <= 0x40 && reaches(if_true.into()) && reaches(if_false.into()),
        class => reaches(0) && is_known_load_or_operation(class, code, operand),
    }
}

fn is_known_load_or_operation(class: u16, code: u16, operand: u32) -> bool {
    let has_word = (operand as usize) < MEMORY_WORDS;
    let (mode, size) = (code & 0xE0, code & 0x18);
    match class {
        LD => match mode {
            // Immediate, length.
            0x00 | 0x80 => size == 0,
            // Absolute, indirect: a word, a half or a byte.
            0x20 | 0x40 => size != 0x18,
            0x60 => size == 0 && has_word,
            _ => false,
        },
        LDX => match mode {
            0x00 | 0x80 => size == 0,
            0x60 => size == 0 && has_word,
            // The length of an IPv4 header.
            0xA0 => size == 0x10,
            _ => false,
        },
        ST | STX => has_word,
        ALU => code & 0xF0 <= 0xA0,
        MISC => matches!(code & 0xF8, 0 | 0x80),
        _ => false,
    }
}

struct Machine<'a> {
    packet: &'a [u8],
    length: u32,
    accumulator: u32,
    index: u32,
    memory: [u32; MEMORY_WORDS],
}

impl Machine<'_> {
    /// The result; `None` if the program reads beyond the packet, divides by zero or does not end.
    fn run(&mut self, program: &[Instruction]) -> Option<u32> {
        let mut at = 0;
        for _ in 0..limits::FILTER_STEPS {
            let instruction = *program.get(at)?;
            at += 1;
            let operand = instruction.operand;
            match instruction.code & 0x07 {
                LD => self.accumulator = self.load(instruction)?,
                LDX => self.index = self.load_index(instruction)?,
                ST => *self.memory.get_mut(operand as usize)? = self.accumulator,
                STX => *self.memory.get_mut(operand as usize)? = self.index,
                ALU => self.accumulator = self.compute(instruction)?,
                JMP => at = self.jump(instruction, at)?,
                RET if instruction.code & 0x18 == 0x10 => return Some(self.accumulator),
                RET => return Some(operand),
                _ if instruction.code & 0xF8 == 0x80 => self.accumulator = self.index,
                _ => self.index = self.accumulator,
            }
        }
        None
    }

    fn load(&self, instruction: Instruction) -> Option<u32> {
        let operand = instruction.operand;
        let at = match instruction.code & 0xE0 {
            0x00 => return Some(operand),
            0x60 => return self.memory.get(operand as usize).copied(),
            0x80 => return Some(self.length),
            0x20 => operand,
            _ => self.index.checked_add(operand)?,
        };
        let rest = self.packet.get(at as usize..)?;
        Some(match instruction.code & 0x18 {
            0x00 => u32::from_be_bytes(*rest.first_chunk()?),
            0x08 => u16::from_be_bytes(*rest.first_chunk()?).into(),
            _ => u32::from(*rest.first()?),
        })
    }

    fn load_index(&self, instruction: Instruction) -> Option<u32> {
        let operand = instruction.operand;
        Some(match instruction.code & 0xE0 {
            0x00 => operand,
            0x60 => *self.memory.get(operand as usize)?,
            0x80 => self.length,
            _ => u32::from(self.packet.get(operand as usize)? & 0xF) * 4,
        })
    }

    fn compute(&self, instruction: Instruction) -> Option<u32> {
        let left = self.accumulator;
        let right = self.second_operand(instruction);
        Some(match instruction.code & 0xF0 {
            0x00 => left.wrapping_add(right),
            0x10 => left.wrapping_sub(right),
            0x20 => left.wrapping_mul(right),
            0x30 => left.checked_div(right)?,
            0x40 => left | right,
            0x50 => left & right,
            0x60 => left.checked_shl(right).unwrap_or(0),
            0x70 => left.checked_shr(right).unwrap_or(0),
            0x80 => left.wrapping_neg(),
            0x90 => left.checked_rem(right)?,
            _ => left ^ right,
        })
    }

    fn jump(&self, instruction: Instruction, next: usize) -> Option<usize> {
        let (left, right) = (self.accumulator, self.second_operand(instruction));
        let holds = match instruction.code & 0xF0 {
            0x00 => return next.checked_add_signed(instruction.operand.cast_signed() as isize),
            0x10 => left == right,
            0x20 => left > right,
            0x30 => left >= right,
            _ => left & right != 0,
        };
        let skipped = if holds {
            instruction.if_true
        } else {
            instruction.if_false
        };
        Some(next + usize::from(skipped))
    }

    const fn second_operand(&self, instruction: Instruction) -> u32 {
        if instruction.code & 0x08 == 0 {
            instruction.operand
        } else {
            self.index
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> Instruction {
        Instruction {
            code,
            if_true,
            if_false,
            operand,
        }
    }

    /// `tcpdump -d 'ip and udp'`
    fn udp() -> Filter {
        Filter::new(vec![
            instruction(0x28, 0, 0, 12),
            instruction(0x15, 0, 3, 0x0800),
            instruction(0x30, 0, 0, 23),
            instruction(0x15, 0, 1, 17),
            instruction(0x06, 0, 0, 262_144),
            instruction(0x06, 0, 0, 0),
        ])
        .unwrap()
    }

    #[test]
    fn a_packet_is_read_only_as_far_as_it_was_captured() {
        let mut packet = [0; 60];
        packet[12] = 8;
        packet[23] = 17;
        assert!(udp().accepts(&packet, 60));
        assert!(udp().accepts(&packet[..24], 60));
        assert!(!udp().accepts(&packet[..23], 60));
        packet[23] = 6;
        assert!(!udp().accepts(&packet, 60));
    }

    #[test]
    fn programs_that_leave_themselves_are_refused() {
        let ends = instruction(0x06, 0, 0, 1);
        for (program, number) in [
            (vec![instruction(0x28, 0, 0, 12)], 0),
            (vec![instruction(0x15, 1, 0, 0), ends], 0),
            (vec![instruction(0x05, 0, 0, 1), ends], 0),
            (vec![ends, instruction(0x05, 0, 0, u32::MAX - 1)], 1),
            (vec![instruction(0x02, 0, 0, 16), ends], 0),
            (vec![instruction(0xF0, 0, 0, 0), ends], 0),
        ] {
            let refused = Filter::new(program.clone());
            // The last one of the list jumps to the first instruction, which is there.
            if number == 1 {
                assert!(refused.is_ok());
            } else {
                assert_eq!(refused, Err(FilterError::Instruction { number }), "{program:?}");
            }
        }
        assert!(Filter::new(Vec::new()).is_err());
    }

    #[test]
    fn a_loop_ends_and_accepts_nothing() {
        let forever = Filter::new(vec![instruction(0x05, 0, 0, u32::MAX)]).unwrap();
        assert!(!forever.accepts(&[0; 60], 60));
    }

    #[test]
    fn nothing_is_divided_by_zero() {
        let ends = instruction(0x16, 0, 0, 0);
        for code in [0x34, 0x94] {
            let filter = Filter::new(vec![instruction(0, 0, 0, 1), instruction(code, 0, 0, 0), ends]);
            assert!(!filter.unwrap().accepts(&[0; 60], 60));
        }
    }
}
