//! The filter expression, compiled for each link type. The kernel runs it first, so that packets that nobody wants take
//! no room in the ring. What the kernel cannot decide it passes on, so it runs here again over all that comes.

use std::collections::HashMap;
use std::sync::Arc;

use aya::Ebpf;
use aya::maps::{Array, MapData, MapError};
use ecapture_ebpf::limits;
use ecapture_ebpf::packet::ExpressionInstruction;
use ecapture_protocols::packet::Filter;
use ecapture_protocols::pcapng::LinkType;

use super::{PacketError, libpcap};
use crate::Error;
use crate::config::PacketConfig;
use crate::map::take_map;

/// [`ExpressionInstruction`] as a map value.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct InstructionValue(ExpressionInstruction);

// SAFETY: `ExpressionInstruction` is `repr(C)`, has only integer fields and no padding.
#[expect(unsafe_code, reason = "aya asks for this promise about map values")]
unsafe impl aya::Pod for InstructionValue {}

/// See the module's documentation.
pub(super) struct Filters {
    expression: Option<Arc<str>>,
    snap_length: u32,
    compiled: HashMap<LinkType, Compiled>,
    /// The programs that the kernel runs, one behind the other.
    in_kernel: Array<MapData, InstructionValue>,
    instructions: u32,
}

struct Compiled {
    filter: Filter,
    place: u32,
}

impl Filters {
    pub(super) fn new(ebpf: &mut Ebpf, config: &PacketConfig) -> Result<Self, Error> {
        Ok(Self {
            expression: config.filter.as_deref().map(Arc::from),
            snap_length: config.snap_length,
            compiled: HashMap::new(),
            in_kernel: take_map(ebpf, "EXPRESSIONS", Array::try_from)?,
            instructions: 0,
        })
    }

    /// As it was given.
    pub(super) fn expression(&self) -> Option<&Arc<str>> {
        self.expression.as_ref()
    }

    /// Compiles the expression for a link type, and hands it to the kernel. Returns its place as in
    /// [`InterfaceCounters::expression`](ecapture_ebpf::packet::InterfaceCounters::expression).
    pub(super) fn of(&mut self, link_type: LinkType) -> Result<u32, PacketError> {
        let Some(expression) = &self.expression else {
            return Ok(0);
        };
        if let Some(compiled) = self.compiled.get(&link_type) {
            return Ok(compiled.place);
        }
        let filter = libpcap::compile(expression, link_type, self.snap_length)?;
        let place = self.hand_over(&filter).unwrap_or_else(|error| {
            tracing::debug!(%error, "the filter expression runs in user space alone");
            0
        });
        self.compiled.insert(link_type, Compiled { filter, place });
        Ok(place)
    }

    fn hand_over(&mut self, filter: &Filter) -> Result<u32, MapError> {
        let start = self.instructions;
        let length = u32::try_from(filter.instructions().len()).unwrap_or(u32::MAX);
        if start.saturating_add(length) > limits::EXPRESSIONS {
            tracing::debug!(length, "the filter expression is too long for the kernel");
            return Ok(0);
        }
        for (index, instruction) in (start..).zip(filter.instructions()) {
            let value = InstructionValue(ExpressionInstruction {
                code: instruction.code,
                if_true: instruction.if_true,
                if_false: instruction.if_false,
                operand: instruction.operand,
            });
            self.in_kernel.set(index, value, 0)?;
        }
        self.instructions = start + length;
        Ok(start + 1)
    }

    /// Returns true if it lets a packet of `length` bytes through, whose first bytes were captured.
    pub(super) fn accept(&self, link_type: LinkType, packet: &[u8], length: u32) -> bool {
        let compiled = self.compiled.get(&link_type);
        compiled.is_none_or(|compiled| compiled.filter.accepts(packet, length))
    }
}
