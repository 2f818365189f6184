//! Wireshark's programs, as judges of files of packets.

use std::process::{Command, Output};

/// Runs tshark over `file` with `arguments`; the values of `fields` in each packet that `filter` selects. `None`
/// if it is not installed.
pub(crate) fn tshark(
    file: &str,
    arguments: &[&str],
    filter: &str,
    fields: &[&str],
) -> Option<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.args([
        "-r",
        file,
        "-Y",
        filter,
        "-T",
        "fields",
        "-E",
        "occurrence=a",
        "-E",
        "aggregator=|",
    ]);
    command.args(arguments);
    for field in fields {
        command.args(["-e", field]);
    }
    let output = finished(command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect());
    Some(rows.collect())
}

/// The number of packets in `file`, which must be complete. `None` if capinfos is not installed.
pub(crate) fn capinfos(file: &str) -> Option<u64> {
    let mut command = Command::new("capinfos");
    command.args(["-r", "-T", "-M", "-c", file]);
    let output = finished(command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let packets = text
        .trim()
        .rsplit('\t')
        .next()
        .and_then(|count| count.parse().ok());
    Some(packets.unwrap_or_else(|| panic!("a number of packets: {text}")))
}

/// What the program printed; it must have had nothing to complain about.
fn finished(mut command: Command) -> Option<Output> {
    let Ok(output) = command.output() else {
        assert!(
            std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none(),
            "tshark is not installed"
        );
        println!("SKIPPED: tshark is not installed; `tests/run` installs it");
        return None;
    };
    let errors = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = errors
        .lines()
        .filter(|line| !line.starts_with("Running as user"))
        .collect();
    assert!(
        output.status.success() && complaints.is_empty(),
        "{command:?}: {errors}"
    );
    Some(output)
}
