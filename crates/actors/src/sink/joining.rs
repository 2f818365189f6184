//! The part of a Sink that joins both ends of exchanges and messages.

use std::ops::Range;

use actix::prelude::*;
use ecapture_protocols::format::{ExchangeEnd, MessageEnd};
use ecapture_protocols::{RecordEnd, Records};

use super::Sink;
use super::ends::Held;
use super::message_ends::{HeldMessage, Next};
use super::unwritten::Counted;
use crate::supervision::nanoseconds;
use crate::{Clock, Tap};

impl Sink {
    /// Takes the records of `range` one by one.
    pub(super) fn push_all(&mut self, records: &Records, range: Range<usize>, ctx: &mut Context<Self>) {
        let last = range.start.checked_sub(1);
        let mut start = last.map_or_else(RecordEnd::default, |last| records.ends()[last]);
        for (place, &end) in range.clone().zip(&records.ends()[range]) {
            let bytes = &records.as_bytes()[start.bytes..end.bytes];
            let counted = Counted::between(start, end);
            match (records.exchange_end(place), records.message_end(place)) {
                (Some(end), _) => self.take_end(end, bytes, counted, ctx),
                (None, Some(end)) => self.take_message_end(end, bytes, counted, ctx),
                (None, None) => self.push(bytes, counted, ctx),
            }
            start = end;
        }
    }

    /// Takes a record that is one end of an exchange: joins it with the other end's, or lets it wait for that.
    fn take_end(&mut self, end: &ExchangeEnd, bytes: &[u8], counted: Counted, ctx: &mut Context<Self>) {
        let Tap::Records(format) = self.ports.tap.clone() else {
            return;
        };
        let now_ns = self.now_ns(end.last_ns);
        self.release_ends(now_ns, ctx);
        if let Some(other) = self.ends.take_other(end) {
            let (own, other_end) = ((end, bytes), (&other.end, &other.bytes[..]));
            let (client, server) = if end.is_client {
                (own, other_end)
            } else {
                (other_end, own)
            };
            let mut joined = Vec::with_capacity(bytes.len() + 64);
            format.join_ends(client, server, &mut joined);
            let counted = counted.with(other.counted);
            if joined.is_empty() {
                return self.pass(counted);
            }
            return self.push(&joined, counted, ctx);
        }
        let held = Held {
            end: end.clone(),
            bytes: bytes.into(),
            counted,
            since_ns: now_ns,
        };
        if let Some(alone) = self.ends.hold(held) {
            self.push_alone(&alone, ctx);
        }
        self.plan_release(ctx);
    }

    /// Takes a record that is one end of a message: joins it with the other end's, or lets it wait for that. The records of
    /// each end stay in their order.
    fn take_message_end(
        &mut self,
        end: &MessageEnd,
        bytes: &[u8],
        counted: Counted,
        ctx: &mut Context<Self>,
    ) {
        let Tap::Records(format) = self.ports.tap.clone() else {
            return;
        };
        let now_ns = self.now_ns(end.first_ns);
        self.release_ends(now_ns, ctx);
        let next = self.message_ends.next(end, bytes);
        if let Next::Alone(alone) | Next::Joined(alone, _) = &next {
            for held in alone {
                self.push(&held.bytes, held.counted, ctx);
            }
        }
        match next {
            Next::Alone(_) => self.push(bytes, counted, ctx),
            Next::Joined(_, other) => {
                let mut joined = Vec::with_capacity(bytes.len() + 64);
                if end.is_shown_rather_than(&other.end) {
                    format.join_messages((end, bytes), &other.end, &mut joined);
                } else {
                    format.join_messages((&other.end, &other.bytes), end, &mut joined);
                }
                self.push(&joined, counted.with(other.counted), ctx);
            }
            Next::Waits => {
                let held = HeldMessage {
                    end: end.clone(),
                    bytes: bytes.into(),
                    counted,
                    since_ns: now_ns,
                };
                for alone in self.message_ends.hold(held) {
                    self.push(&alone.bytes, alone.counted, ctx);
                }
                self.plan_release(ctx);
            }
        }
    }

    /// Takes a record whose other end did not come.
    fn push_alone(&mut self, held: &Held, ctx: &mut Context<Self>) {
        if held.end.only_joined {
            self.pass(held.counted);
        } else {
            self.push(&held.bytes, held.counted, ctx);
        }
    }

    /// In a replay the time of the recording, which has come to `last_ns`.
    fn now_ns(&mut self, last_ns: u64) -> u64 {
        match self.ports.clock {
            Clock::Live => nanoseconds(self.started_at.elapsed()),
            Clock::Stream => self.ends.advance(last_ns),
        }
    }

    /// Writes what has waited too long.
    pub(super) fn release_ends(&mut self, now_ns: u64, ctx: &mut Context<Self>) {
        let longest_ns = nanoseconds(self.ports.timings.other_end);
        let Some(until_ns) = now_ns.checked_sub(longest_ns) else {
            return;
        };
        self.release_until(until_ns, ctx);
    }

    fn release_until(&mut self, until_ns: u64, ctx: &mut Context<Self>) {
        while let Some(alone) = self.ends.release(until_ns) {
            self.push_alone(&alone, ctx);
        }
        while let Some(alone) = self.message_ends.release(until_ns) {
            self.push(&alone.bytes, alone.counted, ctx);
        }
    }

    /// In a capture: looks later whether something has waited too long.
    fn plan_release(&mut self, ctx: &mut Context<Self>) {
        let is_live = self.ports.clock == Clock::Live && !self.finishing;
        let waits = !(self.ends.is_empty() && self.message_ends.is_empty());
        if is_live && waits && !std::mem::replace(&mut self.ends_planned, true) {
            ctx.run_later(self.ports.timings.other_end / 4, |sink, ctx| {
                sink.ends_planned = false;
                let now_ns = sink.now_ns(0);
                sink.release_ends(now_ns, ctx);
                sink.plan_flush(ctx);
                sink.plan_release(ctx);
            });
        }
    }

    /// Writes all that waits: nothing follows.
    pub(super) fn release_all_ends(&mut self, ctx: &mut Context<Self>) {
        self.release_until(u64::MAX, ctx);
    }
}
