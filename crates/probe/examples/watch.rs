//! Prints what the probes see, without the pipeline, and how old it is when it arrives:
//! `watch [SECONDS [LIBRARY…]]`.
#![expect(clippy::print_stdout, reason = "its only purpose")]

use std::env;
use std::path::Path;
use std::time::Duration;

use ecapture_probe::{Capture, CaptureConfig, Error, Library, Modules, target};
use futures_util::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let mut arguments = env::args().skip(1);
    let seconds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(10);
    let named = arguments.map(|path| Library::open(Path::new(&path)));
    let mut libraries: Vec<Library> = named.collect::<Result<_, _>>()?;
    if libraries.is_empty() {
        libraries = target::discover(Modules::TLS)
            .into_iter()
            .map(|target| target.library)
            .collect();
    }
    let capture = Capture::load(&CaptureConfig {
        libraries,
        ..CaptureConfig::default()
    })?;
    for report in capture.attached() {
        println!(
            "{} {}: {:?}",
            report.library.display(),
            report.symbol,
            report.outcome
        );
    }
    let handle = capture.handle();
    let stopper = capture.handle();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        stopper.stop()
    });
    let mut events = capture.into_events();
    while let Some(batch) = events.next().await {
        for event in batch {
            let age = Duration::from_nanos(now_ns().saturating_sub(event.timestamp_ns()));
            println!("+{age:?} {event:?}");
        }
    }
    println!("{:?}", handle.counters()?);
    Ok(())
}

/// The clock of the events.
fn now_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: writes the given structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
