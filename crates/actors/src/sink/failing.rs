//! What a Sink does when its target fails.

use std::io;
use std::time::Duration;

use actix::prelude::*;

use super::target::Resumption;
use super::{Sink, State};
use crate::SinkPolicy;
use crate::loss::Loss;
use crate::messages::Incident;

impl Sink {
    /// Does what the policy says about a failed write.
    pub(super) fn fail(&mut self, error: io::Error, ctx: &mut Context<Self>) {
        self.column().doubt(self.ports.target.unacknowledged());
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        match self.ports.policy {
            SinkPolicy::Stop => return self.give_up(error),
            SinkPolicy::Drop if closed => return self.give_up(error),
            SinkPolicy::Drop => {
                let counted = self.buffer.clear_unbegun();
                self.lose(Loss::SinkError, counted);
            }
            SinkPolicy::Retry => {}
        }
        self.state = State::Failed { closed };
        self.plan_reopening(&error, ctx);
    }

    /// Plans the next try. Pauses grow while nothing can be written; only the first failure is news until
    /// all is written.
    fn plan_reopening(&mut self, error: &io::Error, ctx: &mut Context<Self>) {
        let timings = &self.ports.timings;
        let pause = match (self.pause, self.ports.policy) {
            (Some(Duration::ZERO), _) | (None, SinkPolicy::Retry) => timings.sink_retry_delay,
            (Some(last), _) => (last * 2).min(timings.sink_retry_delay_max),
            // Records that come in a pause are lost, so the first pause is zero.
            (None, _) => Duration::ZERO,
        };
        match (self.pause.replace(pause), self.ports.policy) {
            (Some(_), _) => tracing::debug!(output = self.name(), %error, ?pause, "output still fails"),
            (None, SinkPolicy::Retry) => {
                tracing::warn!(output = self.name(), %error, "output failed; trying again");
            }
            (None, _) => {
                tracing::warn!(output = self.name(), %error, "output failed; events that cannot be written are dropped");
            }
        }
        if !self.finishing {
            ctx.run_later(pause, Self::reopen);
        }
    }

    fn give_up(&mut self, error: io::Error) {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        let loss = if closed { Loss::SinkClosed } else { Loss::SinkError };
        self.state = State::Gone(loss);
        let counted = self.buffer.clear();
        self.lose(loss, counted);
        let ends_run = self.ports.policy == SinkPolicy::Stop;
        if !ends_run && self.ports.name.is_some() {
            tracing::warn!(output = self.name(), %error, "output is closed; the others continue");
        }
        // Nobody listens any more when the run was ended by force.
        let _ = self.guard.incidents.send(Incident::SinkGone { error, ends_run });
    }

    pub(super) fn reopen(&mut self, ctx: &mut Context<Self>) {
        let State::Failed { closed } = self.state else {
            return;
        };
        self.column().retry();
        match self.ports.target.reopen() {
            Ok(resumption) => {
                self.state = State::Open;
                if resumption == Resumption::NewPlace {
                    self.buffer.begin(&self.ports.tap.beginning());
                }
                self.write(ctx);
                self.flush(ctx);
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                self.give_up(if closed {
                    io::ErrorKind::BrokenPipe.into()
                } else {
                    error
                });
            }
            Err(error) => self.plan_reopening(&error, ctx),
        }
    }
}
