//! The figures of the run as metrics: those of the summary at its end.

use std::time::{SystemTime, UNIX_EPOCH};

use ecapture_actors::{LossRow, OutputStatistics, Statistics};
use ecapture_protocols::format::otlp::{Counter, Figures};

use crate::outputs::{RunFigures, host_name};

/// Returns a request with the figures of this moment; `None` before the run.
pub(super) fn encode(figures: &RunFigures) -> Option<Vec<u8>> {
    let (start, statistics) = (figures.begun_at()?, figures.statistics()?);
    let host = host_name();
    let numbers: Vec<String> = (1..=statistics.outputs.len())
        .map(|number| number.to_string())
        .collect();
    let figures = Figures {
        start_ns: nanoseconds(start),
        now_ns: nanoseconds(SystemTime::now()),
        pid: std::process::id(),
        host: host.as_deref(),
        counters: counters(&statistics, &numbers),
    };
    Some(figures.encode())
}

fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn counters<'a>(statistics: &'a Statistics, numbers: &'a [String]) -> Vec<Counter<'a>> {
    let Statistics {
        seen,
        delivered,
        losses,
        outputs,
        ..
    } = statistics;
    let totals = [
        (
            "ecapture.seen",
            "Events taken from the kernel",
            "{event}",
            seen.events,
        ),
        ("ecapture.seen.bytes", "Bytes of these events", "By", seen.bytes),
        (
            "ecapture.delivered",
            "Events taken by decoders",
            "{event}",
            delivered.events,
        ),
    ];
    let mut counters: Vec<_> = totals
        .into_iter()
        .map(|(name, description, unit, total)| Counter {
            name,
            description,
            unit,
            points: vec![(Vec::new(), total)],
        })
        .collect();
    let [lost, left_out] =
        [false, true].map(|intended| losses.iter().filter(move |row| row.intended == intended));
    counters.extend(of_rows(
        "ecapture.lost",
        "ecapture.lost.bytes",
        "What was lost",
        lost,
    ));
    counters.extend(of_rows(
        "ecapture.left_out",
        "ecapture.left_out.bytes",
        "What was left out as asked for, or never promised",
        left_out,
    ));
    counters.push(Counter {
        name: "ecapture.output.written",
        description: "Messages that the target of an output took",
        unit: "{message}",
        points: written(numbers, outputs).collect(),
    });
    counters.retain(|counter| !counter.points.is_empty());
    counters
}

/// The labels of a total, and the total.
type Point<'a> = (Vec<(&'a str, &'a str)>, u64);

/// Outputs have their numbers, from 1, and formats: their targets may be paths.
fn written<'a>(numbers: &'a [String], outputs: &'a [OutputStatistics]) -> impl Iterator<Item = Point<'a>> {
    numbers.iter().zip(outputs).map(|(number, output)| {
        let format = output.name.split(':').next().unwrap_or_default();
        (
            vec![("output", number.as_str()), ("format", format)],
            output.written.events,
        )
    })
}

/// Two counters of the same rows: events, or messages at an output, and their bytes.
fn of_rows<'a>(
    name: &'a str,
    name_of_bytes: &'a str,
    description: &'a str,
    rows: impl Iterator<Item = &'a LossRow>,
) -> [Counter<'a>; 2] {
    let labels = |row: &'a LossRow| vec![("stage", row.stage.as_str()), ("reason", row.reason)];
    let (events, bytes) = rows
        .map(|row| ((labels(row), row.events), (labels(row), row.bytes)))
        .unzip();
    let counter = |name, unit, points| Counter {
        name,
        description,
        unit,
        points,
    };
    [
        counter(name, "{event}", events),
        counter(name_of_bytes, "By", bytes),
    ]
}
