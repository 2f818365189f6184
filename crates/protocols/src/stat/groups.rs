//! The figures of each group, and how they are shown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::observation::Observation;
use super::sketch::Sketch;
use crate::format::push_figures;
use crate::limits::STAT_GROUPS;

/// What an exchange is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum By {
    /// The process of each end.
    #[default]
    Process,
    /// The address of the other end.
    Peer,
    /// The host that the request names.
    Host,
    /// Method, host and path, with identifiers in the path as one.
    Path,
}

impl By {
    /// Returns its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Peer => "peer",
            Self::Host => "host",
            Self::Path => "path",
        }
    }
}

/// Exchanges by group. At most [`STAT_GROUPS`] groups have figures of their own, those that come first; all
/// others are one.
#[derive(Debug, Default)]
pub struct Groups {
    by: By,
    by_name: BTreeMap<String, Figures>,
    others: Figures,
}

#[derive(Debug, Default)]
struct Figures {
    calls: u64,
    errors: u64,
    latency: Sketch,
    sent: u64,
    received: u64,
}

impl Figures {
    fn add(&mut self, observation: &Observation) {
        self.calls += 1;
        self.errors += u64::from(observation.is_error);
        if let Some(total_ns) = observation.total_ns {
            self.latency.add(total_ns);
        }
        self.sent = self.sent.saturating_add(observation.sent);
        self.received = self.received.saturating_add(observation.received);
    }

    /// Median, 90th and 99th percentile.
    fn quantiles(&self) -> [Option<u64>; 3] {
        [500, 900, 990].map(|per_mille| self.latency.quantile(per_mille))
    }
}

impl Groups {
    /// Creates an empty set.
    pub fn new(by: By) -> Self {
        Self {
            by,
            ..Self::default()
        }
    }

    /// Adds a record of [`Observations`](super::Observations). Each process counts its own end of an exchange;
    /// otherwise an exchange whose two ends are joined counts once, with the client's figures.
    pub fn add(&mut self, mut record: &[u8]) {
        while let Some(observation) = Observation::take(&mut record) {
            let name = match self.by {
                By::Process => &observation.process,
                By::Peer => &observation.peer,
                By::Host => &observation.host,
                By::Path => &observation.path,
            };
            let is_known = self.by_name.len() < STAT_GROUPS || self.by_name.contains_key(name);
            let figures = if is_known {
                self.by_name.entry(name.clone()).or_default()
            } else {
                &mut self.others
            };
            figures.add(&observation);
            if self.by != By::Process {
                return;
            }
        }
    }

    /// Most calls first, and all others last.
    fn sorted(&self) -> Vec<(&str, &Figures)> {
        let mut rows: Vec<(&str, &Figures)> = self
            .by_name
            .iter()
            .map(|(name, figures)| (name.as_str(), figures))
            .collect();
        rows.sort_by_key(|(_, figures)| std::cmp::Reverse(figures.calls));
        if self.others.calls > 0 {
            rows.push(("(all others)", &self.others));
        }
        rows
    }

    /// Returns a table for people with at most `most` groups.
    pub fn table(&self, most: usize) -> String {
        let mut out = format!(
            "{:>9} {:>7} {:>10} {:>10} {:>10} {:>9} {:>9}  {}\n",
            "CALLS",
            "ERRORS",
            "P50",
            "P90",
            "P99",
            "REQUEST",
            "RESPONSE",
            self.by.as_str().to_uppercase()
        );
        let rows = self.sorted();
        for (name, figures) in rows.iter().take(most) {
            let [p50, p90, p99] = figures.quantiles().map(latency);
            let (sent, received) = (size(figures.sent), size(figures.received));
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "{:>9} {:>7} {p50:>10} {p90:>10} {p99:>10} {sent:>9} {received:>9}  {name}",
                figures.calls, figures.errors
            );
        }
        if rows.len() > most {
            let _ = writeln!(out, "… and {} more", rows.len() - most);
        }
        out
    }

    /// Returns a JSON object for each group, one per line; times are in microseconds.
    pub fn json_lines(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, figures) in self.sorted() {
            let [p50, p90, p99] = figures.quantiles();
            let shown = [
                ("calls", Some(figures.calls)),
                ("errors", Some(figures.errors)),
                ("p50_us", p50),
                ("p90_us", p90),
                ("p99_us", p99),
                ("request_bytes", Some(figures.sent)),
                ("response_bytes", Some(figures.received)),
            ];
            push_figures((self.by.as_str(), name), &shown, &mut out);
        }
        out
    }
}

fn latency(microseconds: Option<u64>) -> String {
    match microseconds {
        None => "-".to_owned(),
        Some(microseconds) if microseconds < 1_000_000 => {
            format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
        }
        Some(microseconds) => {
            let milliseconds = microseconds / 1000;
            format!("{}.{:03} s", milliseconds / 1000, milliseconds % 1000)
        }
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(process: &str, total_ns: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let observation = Observation {
            process: process.into(),
            path: "GET h/".into(),
            total_ns: Some(total_ns),
            sent: 1,
            received: 2,
            ..Observation::default()
        };
        observation.write(&mut out);
        out
    }

    #[test]
    fn groups_are_bounded_and_all_others_are_counted() {
        let mut groups = Groups::new(By::Process);
        for process in 0..STAT_GROUPS + 50 {
            groups.add(&record(&format!("p[{process}]"), 1_000_000));
        }
        groups.add(&record("p[7]", 3_000_000));
        let table = groups.table(usize::MAX);
        assert_eq!(table.lines().count(), STAT_GROUPS + 2);
        let busiest = table.lines().nth(1).unwrap_or_default();
        assert!(
            busiest.starts_with("        2       0   1.0") && busiest.ends_with("  p[7]"),
            "{busiest}"
        );
        let last = table.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("       50 ") && last.ends_with("(all others)"),
            "{last}"
        );
        assert!(
            groups
                .table(3)
                .ends_with(&format!("… and {} more\n", STAT_GROUPS - 2))
        );
    }

    #[test]
    fn a_joined_record_counts_for_both_processes_and_once_otherwise() {
        let both = [record("client[1] ->", 9), record("server[2] <-", 5)].concat();
        for (by, rows) in [(By::Process, 2), (By::Path, 1)] {
            let mut groups = Groups::new(by);
            groups.add(&both);
            let lines = groups.json_lines();
            assert_eq!(lines.split_inclusive(|&byte| byte == b'\n').count(), rows);
        }
    }
}
