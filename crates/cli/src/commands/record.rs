//! `ecapture record`: short for `ecapture tls -o recording:FILE`.

use std::path::Path;

use anyhow::Result;

use super::tls;
use crate::exit::Exit;
use crate::settings::{CaptureSettings, OutputSettings};

pub(crate) fn run(file: &Path, output: &OutputSettings, settings: &CaptureSettings) -> Result<Exit> {
    tls::run(&output.recording(file), settings)
}
