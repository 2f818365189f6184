//! `ecapture stat`: figures of exchanges instead of the exchanges, of a capture or a recording.

use anyhow::Result;

use super::{replay, tls};
use crate::args::{FormatName, GlobalArgs, StatArgs};
use crate::exit::Exit;
use crate::outputs::TableLook;
use crate::selection::Selection;
use crate::settings::{CaptureSettings, OutputSettings, refuse_packets, selecting_words};
use crate::usage::UsageError;

pub(crate) fn run(global: &GlobalArgs, arguments: &StatArgs) -> Result<Exit> {
    let StatArgs {
        by,
        from,
        tls: arguments,
    } = arguments;
    refuse_packets(&arguments.capture)?;
    let json = match global.format {
        None => false,
        Some(FormatName::Jsonl) => true,
        Some(_) => {
            return Err(UsageError::Value {
                flag: "--format",
                expected: "jsonl, or nothing for a table",
                observed: "another format".to_owned(),
            }
            .into());
        }
    };
    let look = TableLook {
        by: (*by).into(),
        json,
    };
    let output = OutputSettings::resolve(global)?.counted(look);
    let output = output.selected_by(selecting_words(&arguments.capture)?)?;
    if let Some(file) = from {
        return replay::run_file(&output, &Selection::read(global)?, file, &[]);
    }
    let settings = CaptureSettings::resolve(global, arguments.into(), &arguments.capture)?;
    tls::run(&output, &settings)
}
