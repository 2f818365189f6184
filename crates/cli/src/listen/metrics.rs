//! `GET /metrics`: the ledger as OpenMetrics text, for Prometheus.
//!
//! Labels are names of this program: stages, reasons, and the numbers and formats of outputs. Processes, users
//! and paths are none, because there can be any number of them.

use std::fmt::{self, Debug};
use std::fs;

use ecapture_actors::{LossRow, OutputStatistics, Statistics, Tally};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::Run;

/// The type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of a run at this moment.
pub(super) fn of(run: &Run) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ecapture");
    registry.register_collector(Box::new(Snapshot {
        statistics: run.pipeline.statistics(),
        uptime_seconds: run.started.elapsed().as_secs_f64(),
        attached_files: run.live.as_ref().map(|live| live.attached().count() as u64),
        resident_bytes: resident_bytes(),
    }));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

/// Physical memory of this process.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[derive(Debug)]
struct Snapshot {
    statistics: Statistics,
    uptime_seconds: f64,
    attached_files: Option<u64>,
    resident_bytes: Option<u64>,
}

/// A label and its value.
type Label = (&'static str, String);

const NO_LABEL: [Label; 0] = [];

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Metrics(encoder);
        self.run(&mut out)?;
        self.events(&mut out)?;
        self.outputs(&mut out)?;
        self.streams(&mut out)
    }
}

impl Snapshot {
    fn run(&self, out: &mut Metrics<'_>) -> fmt::Result {
        let version = ("version", env!("CARGO_PKG_VERSION").to_owned());
        out.gauges("build", "The version of ecapture", [([version], 1)])?;
        out.seconds("uptime_seconds", "Time since the run began", self.uptime_seconds)?;
        if let Some(bytes) = self.resident_bytes {
            out.gauge("resident_memory_bytes", "Physical memory of the process", bytes)?;
        }
        if let Some(files) = self.attached_files {
            out.gauge(
                "attached_files",
                "Libraries and programs that probes are attached to",
                files,
            )?;
        }
        Ok(())
    }

    fn events(&self, out: &mut Metrics<'_>) -> fmt::Result {
        let Statistics {
            seen,
            delivered,
            in_flight,
            losses,
            ..
        } = &self.statistics;
        out.tally("seen", "taken from the kernel or the recording", "events", *seen)?;
        out.tally("delivered", "taken by decoders", "events", *delivered)?;
        out.gauge(
            "in_flight_events",
            "Events on their way to a decoder",
            in_flight.events,
        )?;
        out.gauge(
            "in_flight_bytes",
            "Bytes on their way to a decoder",
            in_flight.bytes,
        )?;
        let labels = |row: &LossRow| {
            [
                ("stage", row.stage.as_str().to_owned()),
                ("reason", row.reason.to_owned()),
            ]
        };
        out.rows(
            "lost",
            "lost, by stage and reason",
            "events",
            losses
                .iter()
                .filter(|row| !row.intended)
                .map(|row| (labels(row), row)),
        )?;
        out.rows(
            "left_out",
            "left out as asked for, or never promised, by stage and reason",
            "events",
            losses
                .iter()
                .filter(|row| row.intended)
                .map(|row| (labels(row), row)),
        )
    }

    fn outputs(&self, out: &mut Metrics<'_>) -> fmt::Result {
        type Of = fn(&OutputStatistics) -> Tally;
        let columns: [(&str, &str, Of); 2] = [
            ("output_produced", "formatted for an output", |output| {
                output.produced
            }),
            ("output_written", "taken by the target of an output", |output| {
                output.written
            }),
        ];
        for (name, help, of) in columns {
            let (records, bytes) = (format!("{name}_records"), format!("{name}_bytes"));
            out.counters(
                &records,
                &format!("Records {help}"),
                self.by_output(|output| of(output).events),
            )?;
            out.counters(
                &bytes,
                &format!("Bytes {help}"),
                self.by_output(|output| of(output).bytes),
            )?;
        }
        let rows = |intended: bool| {
            self.numbered().flat_map(move |(labels, output)| {
                let rows = output.losses.iter().filter(move |row| row.intended == intended);
                rows.map(move |row| {
                    let [output, format] = labels.clone();
                    ([output, format, ("reason", row.reason.to_owned())], row)
                })
            })
        };
        out.rows(
            "output_lost",
            "lost by an output, by reason",
            "records",
            rows(false),
        )?;
        out.rows(
            "output_left_out",
            "left out by an output, by reason",
            "records",
            rows(true),
        )?;
        out.gauges(
            "output_unwritten_bytes",
            "Bytes on their way to the target of an output",
            self.by_output(|output| output.unwritten.bytes),
        )?;
        out.counters(
            "output_reopened",
            "Tries to open the target of an output again",
            self.by_output(|output| output.retries),
        )?;
        out.counters(
            "output_unacknowledged_bytes",
            "Bytes that a target had not acknowledged when its connection failed",
            self.by_output(|output| output.unacknowledged),
        )
    }

    fn streams(&self, out: &mut Metrics<'_>) -> fmt::Result {
        let now = &self.statistics;
        let gauges = [
            ("streams_open", "Streams with a decoder at work", now.live_workers),
            ("streams_peak", "Most of them at once", now.peak_workers),
            ("streams_idle", "Silent streams with a kept decoder", now.sleeping),
            ("held_bytes", "Bytes of unfinished messages", now.held_bytes),
        ];
        for (name, help, value) in gauges {
            out.gauge(name, help, value)?;
        }
        let counters = [
            ("facts", "Observed facts among the events", now.observed),
            ("decoders_started", "Decoders started", now.started_workers),
            ("decoders_restarted", "Decoders replaced", now.restarts),
            ("streams_raw", "Streams raw after failures", now.quarantined),
            ("streams_forgotten", "Streams over a limit", now.shed_connections),
            ("idle_streams_forgotten", "Idle ones over a limit", now.given_up),
            ("reader_waits", "Times that reading waited", now.stalls),
        ];
        for (name, help, value) in counters {
            out.counters(name, help, [(NO_LABEL, value)])?;
        }
        let waited = now.stall_time.as_secs_f64();
        out.seconds(
            "reader_waited_seconds",
            "Time that reading waited for room",
            waited,
        )
    }

    fn by_output(&self, of: impl Fn(&OutputStatistics) -> u64) -> Vec<([Label; 2], u64)> {
        self.numbered()
            .map(|(labels, output)| (labels, of(output)))
            .collect()
    }

    /// The outputs with their numbers, as in `/status`, from 1, and formats: their targets may be paths.
    fn numbered(&self) -> impl Iterator<Item = ([Label; 2], &OutputStatistics)> {
        self.statistics.outputs.iter().enumerate().map(|(index, output)| {
            let format = output.name.split(':').next().unwrap_or_default();
            let labels = [("output", (index + 1).to_string()), ("format", format.to_owned())];
            (labels, output)
        })
    }
}

/// Writes metrics.
struct Metrics<'text>(DescriptorEncoder<'text>);

impl Metrics<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.gauges(name, help, [(NO_LABEL, value)])
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([Label; N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// `NAME_events` and `NAME_bytes`.
    fn tally(&mut self, name: &str, help: &str, unit: &str, tally: Tally) -> fmt::Result {
        for (unit, word, value) in [(unit, "Events", tally.events), ("bytes", "Bytes", tally.bytes)] {
            self.counters(
                &format!("{name}_{unit}"),
                &format!("{word} {help}"),
                [(NO_LABEL, value)],
            )?;
        }
        Ok(())
    }

    /// `NAME_events` or `NAME_records`, and `NAME_bytes`, for each row.
    fn rows<'row, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        unit: &str,
        rows: impl Iterator<Item = ([Label; N], &'row LossRow)>,
    ) -> fmt::Result {
        let rows: Vec<_> = rows.collect();
        let counts = rows.iter().map(|(labels, row)| (labels.clone(), row.events));
        self.counters(&format!("{name}_{unit}"), &format!("What was {help}"), counts)?;
        let bytes = rows.iter().map(|(labels, row)| (labels.clone(), row.bytes));
        self.counters(&format!("{name}_bytes"), &format!("Bytes {help}"), bytes)
    }
}
