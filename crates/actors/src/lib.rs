//! The actor pipeline: captured events in, formatted records out.
//!
//! ```text
//! source ─▶ RingReader ─▶ Processor ─▶ one Worker per stream ─▶ one Sink per output ─▶ target
//! ```
//!
//! | actor | receives | sends | lost on restart |
//! |---|---|---|---|
//! | `RingReader` | batches of the source stream | numbered event batches | ends the run |
//! | `Processor` | event batches, reports and exit notices of Workers | batches per Worker, retirements | ends the run |
//! | `Worker` | events of one direction of one connection | record batches, reports | decoder state, named in the output |
//! | `Sink` | record batches | nothing; writes | ends the run |
//!
//! The rules that keep it honest: every mailbox that takes data is fed through one retained sender
//! with `try_send`, so its bound holds; a refused sender keeps its messages and waits, back to the
//! source, which is only read while less than the limit is in flight ([`PipelineLimits`]);
//! `do_send` carries only control messages; each actor has a bounded number outstanding. Children
//! hold weak ports to their parent. A failed Worker is replaced by a new value with a new decoder;
//! everything it had not decoded is either handed to its successor or counted in the [`Ledger`].
#![forbid(unsafe_code)]

#[cfg(not(panic = "unwind"))]
compile_error!("a failed Worker is replaced after its panic has unwound: build with panic = \"unwind\"");

mod by_connection;
mod clock;
mod column;
mod conductor;
pub mod inject;
mod kept_notices;
mod ledger;
mod limits;
mod loss;
mod messages;
mod other_ends;
mod output;
mod pipeline;
mod processor;
mod registry;
mod ring_reader;
mod sink;
mod summary;
mod supervision;
mod tally;
mod tending;
mod worker;

use std::sync::Arc;

use ecapture_protocols::{Origin, StreamDecoder, View};

pub use by_connection::ConnectionLosses;
pub use clock::Clock;
pub use column::OutputStatistics;
pub use ledger::{KernelCounterSource, Ledger};
pub use limits::{PipelineLimits, Timings};
pub use loss::{Loss, LossRow, Stage};
pub use output::{Output, Tap};
pub use pipeline::{PipelineConfig, PipelineHandle, Placement, spawn, spawn_with};
pub use sink::{ByteStream, Resumption, SinkPolicy, SinkWriter, Taken, Target, Unwritten, UnwrittenRecords};
pub use summary::{Outcome, PipelineError, Statistics, Summary};
pub use tally::Tally;
pub use tending::Renewal;

/// Makes the decoder of a new stream, or of a stream whose Worker failed, for one view.
pub type DecoderFactory = Arc<dyn Fn(&Origin, View) -> Box<dyn StreamDecoder> + Send + Sync>;

/// Runs `future` on a System of its own, as a program's `main` does with all that uses a pipeline.
pub fn block_on<F: Future>(future: F) -> F::Output {
    actix_rt::System::new().block_on(future)
}
