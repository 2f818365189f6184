//! `ecapture demo`: the main job on a small local exchange.

use std::path::Path;

use anyhow::{Context as _, Result};
use ecapture_probe::host;

use super::{replay, tls};
use crate::args::GlobalArgs;
use crate::exit::Exit;
use crate::selection::Selection;
use crate::settings::{CaptureSettings, OutputSettings};

const SCRIPT: &str = include_str!("demo.sh");
/// Recorded from a real exchange, for where nothing can be captured.
const RECORDING: &str = include_str!("demo.jsonl");

pub(crate) fn run(output: &OutputSettings, global: &GlobalArgs) -> Result<Exit> {
    let folder = tempfile::Builder::new()
        .prefix("ecapture-demo")
        .tempdir()
        .context("cannot create a temporary directory")?;
    if let Some(obstacle) = obstacle() {
        tracing::warn!("{obstacle}");
        tracing::warn!("replaying an embedded recording instead of capturing");
        let file = folder.path().join("demo.jsonl");
        std::fs::write(&file, RECORDING)?;
        return replay::run_file(output, &Selection::default(), &file, &[]);
    }
    let script = folder.path().join("demo.sh");
    let exchange = folder.path().join("exchange");
    std::fs::write(&script, SCRIPT)?;
    std::fs::create_dir(&exchange)?;
    tracing::info!("starting a local HTTPS server and sending it requests with curl");
    let settings = CaptureSettings::of_command(global, &["sh".into(), script.into(), exchange.into()])?;
    tls::run(output, &settings)
}

/// The reason why a real capture cannot run here.
fn obstacle() -> Option<String> {
    if let Err(problem) = host::check().and_then(|()| host::check_process_numbers()) {
        return Some(problem.to_string());
    }
    let missing = ["curl", "openssl"]
        .into_iter()
        .find(|program| !installed(program))?;
    Some(format!(
        "the demo needs {missing}; install it with your package manager"
    ))
}

fn installed(program: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| Path::new(&folder).join(program).is_file())
}
