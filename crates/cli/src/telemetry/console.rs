//! How log lines look on standard error.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes errors as the command line's errors are written, `error: …`, and all else as `F` does.
pub(super) struct Console<F>(pub(super) F);

impl<F, S, N> FormatEvent<S, N> for Console<F>
where
    F: FormatEvent<S, N>,
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if *event.metadata().level() != Level::ERROR {
            return self.0.format_event(context, writer, event);
        }
        writer.write_str("error: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
