//! The cost of a capture for the captured server: `cost LIBRARY SECONDS COMMAND ARGS…` runs the load
//! generator COMMAND without probes, with probes that return at once, and with a full capture, at
//! the exported functions and at the planned points, and prints the throughput that it reports.
//!
//! The command should print one line with `Requests/sec`, as wrk does.
#![expect(clippy::print_stdout, reason = "its only purpose")]

use std::env;
use std::path::Path;
use std::process::Command;

use ecapture_probe::{Capture, CaptureConfig, Error, Hooks, Library};
use ecapture_protocols::CapturedEvent;
use futures_util::StreamExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [library, command, rest @ ..] = &arguments[..] else {
        println!("usage: cost LIBRARY COMMAND ARGS…");
        return Ok(());
    };
    let run = || throughput(command, rest);
    println!("{:34} {}", "no probes", run());
    for entries_only in [true, false] {
        let points = if entries_only { "entries" } else { "planned points" };
        let config = CaptureConfig {
            libraries: vec![Library::open(Path::new(library))?],
            hooks: Hooks {
                entries_only,
                ..Hooks::default()
            },
            ..CaptureConfig::default()
        };
        let idle = Capture::load(&config)?;
        idle.handle().stop()?;
        println!("{:34} {}", format!("{points}, nothing captured"), run());
        drop(idle);

        let capture = Capture::load(&config)?;
        let handle = capture.handle();
        let stopper = capture.handle();
        let (command, rest) = (command.clone(), rest.to_vec());
        let generator = std::thread::spawn(move || {
            let line = throughput(&command, &rest);
            stopper.stop().map(|()| line)
        });
        let mut events = capture.into_events();
        let (mut read, mut bytes) = (0u64, 0u64);
        while let Some(batch) = events.next().await {
            for event in batch {
                if let CapturedEvent::Data(data) = event {
                    read += 1;
                    bytes += data.payload.len() as u64;
                }
            }
        }
        let line = generator.join().unwrap_or_else(|_| Ok("failed".to_owned()))?;
        let counters = handle.counters()?;
        let lost = counters.ring_full_records + counters.fault_records;
        println!(
            "{:34} {line}  {read} records, {bytes} bytes, {lost} lost",
            format!("{points}, full capture")
        );
    }
    Ok(())
}

fn throughput(command: &str, arguments: &[String]) -> String {
    let output = Command::new(command).args(arguments).output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.contains("Requests/sec"));
    line.unwrap_or("no Requests/sec").trim().to_owned()
}
