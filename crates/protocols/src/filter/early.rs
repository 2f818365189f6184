//! What an expression decides before anything is decoded.
//!
//! Both conditions here are necessary ones: where they are false, the expression is not true of any message. They
//! follow from Kleene's logic, in which a result that is known without some parts is the same whatever those are.
//!
//! Only fields that both directions of a connection share take part, because what one direction brings may decide
//! about a message of the other. The name of a thread and the user are not among them: each direction has those of
//! its first call.

use std::collections::BTreeSet;

use super::Filter;
use super::evaluate::{Condition, Test, every, some};
use super::field::{Field, FieldName};
use super::operand::Operand;
use super::origin::each_of_origin;
use super::value::Value;
use crate::event::{AddressSource, Origin};

/// Most processes that are named one by one.
const MAX_PROCESSES: usize = 64;

impl Filter {
    /// Returns true if no message of this connection can be selected, whatever is in it.
    pub fn rules_out(&self, origin: &Origin) -> bool {
        self.test.early(origin) == Some(false)
    }

    /// Returns the processes that messages must be of to be selected. `None`: of any, or more than 64. Also `None`
    /// if the expression names a connection by its number, which depends on what else is captured.
    pub fn processes(&self) -> Option<BTreeSet<u32>> {
        let is_number = |field: &Field| matches!(field.name(), FieldName::Connection | FieldName::TcpStream);
        if self.test.any_field(is_number, false) {
            return None;
        }
        self.test.processes()
    }
}

impl Test {
    fn early(&self, origin: &Origin) -> Option<bool> {
        self.combine(&|test: &Self| {
            let (Self::Some(operand, condition) | Self::Every(operand, condition)) = test else {
                return None;
            };
            if !is_settled(&operand.field, origin) {
                return None;
            }
            let each = |take: &mut dyn FnMut(&Value<'_>)| {
                each_of_origin(origin, &operand.field, &mut |value| take(&value));
            };
            match test {
                Self::Every(..) => every(condition, each),
                _ => some(condition, each),
            }
        })
    }

    fn processes(&self) -> Option<BTreeSet<u32>> {
        match self {
            Self::All(tests) => {
                let sets = tests.iter().filter_map(Self::processes);
                sets.reduce(|one, other| &one & &other)
            }
            Self::Any(tests) => {
                let sets: Option<Vec<_>> = tests.iter().map(Self::processes).collect();
                Some(sets?.into_iter().flatten().collect())
                    .filter(|all: &BTreeSet<_>| all.len() <= MAX_PROCESSES)
            }
            Self::Some(operand, condition) | Self::Every(operand, condition) => named(operand, condition),
            Self::One(_) | Self::Not(_) | Self::Has(_) | Self::Anywhere(_) => None,
        }
    }
}

/// Returns true if both directions of the connection have the same values, which will not change.
fn is_settled(field: &Field, origin: &Origin) -> bool {
    let Some(stream) = &origin.stream else {
        return false;
    };
    match field.name() {
        // Sessions are objects of one process; a socket may be used by several.
        FieldName::Pid => stream.session != 0,
        FieldName::Address | FieldName::Port => {
            let is_exact = |socket: crate::Socket| socket.address_source == AddressSource::Exact;
            stream.socket.is_some_and(is_exact)
        }
        FieldName::Connection | FieldName::TcpStream => true,
        _ => false,
    }
}

fn named(operand: &Operand, condition: &Condition) -> Option<BTreeSet<u32>> {
    if operand.field.name() != FieldName::Pid {
        return None;
    }
    let ranges = match condition {
        Condition::Number {
            than,
            orders: [false, true, false],
        } => &[(*than, *than)][..],
        Condition::NumberIn(ranges) => ranges,
        _ => return None,
    };
    let possible = ranges
        .iter()
        .map(|(from, to)| (*from).max(0)..=(*to).min(u32::MAX.into()));
    // One more, to see whether there are too many.
    let pids: BTreeSet<u32> = possible
        .flatten()
        .take(MAX_PROCESSES + 1)
        .filter_map(|number| u32::try_from(number).ok())
        .collect();
    (pids.len() <= MAX_PROCESSES).then_some(pids)
}
