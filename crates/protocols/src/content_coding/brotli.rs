//! Brotli (RFC 7932). Its window is at most 16 MiB; large-window streams are refused.

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{Outcome, Stage, Step};

/// Maximum number of input bytes per call. The output of a call that meets damage is lost, so
/// smaller calls show more of a damaged body.
const INPUT_PER_CALL: usize = 64;

type State = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

#[derive(Default)]
pub(super) struct Brotli {
    ended: bool,
    state: Option<Box<State>>,
}

impl Stage for Brotli {
    fn step(&mut self, input: &[u8], output: &mut [u8]) -> Step {
        if self.ended {
            return Step {
                consumed: input.len(),
                written: 0,
                outcome: Outcome::Ended,
            };
        }
        let state = self.state.get_or_insert_with(|| {
            let alloc = StandardAlloc::default;
            Box::new(BrotliState::new_strict(alloc(), alloc(), alloc()))
        });
        let input = &input[..input.len().min(INPUT_PER_CALL)];
        let (mut available_in, mut consumed) = (input.len(), 0);
        let (mut available_out, mut written, mut total) = (output.len(), 0, 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut consumed,
            input,
            &mut available_out,
            &mut written,
            output,
            &mut total,
            state,
        );
        let outcome = match result {
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Outcome::Running,
            BrotliResult::ResultFailure => Outcome::Corrupt,
            BrotliResult::ResultSuccess => {
                self.ended = true;
                self.state = None;
                Outcome::Ended
            }
        };
        Step {
            consumed,
            written,
            outcome,
        }
    }

    fn has_ended(&self) -> bool {
        self.ended
    }

    fn held_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, |state| {
            size_of::<State>() + usize::try_from(state.ringbuffer_size).unwrap_or(0)
        })
    }
}
