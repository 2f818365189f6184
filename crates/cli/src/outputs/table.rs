//! The target of `ecapture stat`: adds up exchanges, and prints a table.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use ecapture_actors::{Taken, Target, Unwritten};
use ecapture_protocols::stat::{By, Groups};

use super::run_figures::RunFigures;
use crate::report;

/// How often a table on a terminal is printed again.
const REFRESH: Duration = Duration::from_secs(1);
/// Groups that fit on a terminal.
const TERMINAL_ROWS: usize = 20;

/// How the figures are printed. The address of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableLook {
    /// What exchanges are grouped by.
    pub(crate) by: By,
    /// As JSON, at the end.
    pub(crate) json: bool,
}

impl TableLook {
    const ALL: [By; 4] = [By::Process, By::Peer, By::Host, By::Path];

    pub(super) fn address(self) -> String {
        format!("{}{}", self.by.as_str(), if self.json { ".json" } else { "" })
    }

    fn of(address: &OsStr) -> Option<Self> {
        let address = address.to_str()?;
        let (name, json) = match address.strip_suffix(".json") {
            Some(name) => (name, true),
            None => (address, false),
        };
        let by = Self::ALL.into_iter().find(|by| by.as_str() == name)?;
        Some(Self { by, json })
    }
}

/// See the module's documentation.
pub(super) struct Table {
    groups: Groups,
    /// For what was lost.
    figures: RunFigures,
    json: bool,
    refreshes: bool,
    /// What a terminal shows.
    shown: String,
}

impl Table {
    pub(super) fn open(address: &OsStr, figures: RunFigures) -> Option<Self> {
        let TableLook { by, json } = TableLook::of(address)?;
        Some(Self {
            groups: Groups::new(by),
            figures,
            json,
            refreshes: !json && io::stdout().is_terminal(),
            shown: String::new(),
        })
    }

    /// Prints everything again if it changed; only on a terminal.
    fn refresh(&mut self) -> io::Result<()> {
        if !self.refreshes {
            return Ok(());
        }
        let text = self.text(TERMINAL_ROWS);
        if text != self.shown {
            // The cursor goes to the top, and what is below is erased.
            print(format!("\x1b[H\x1b[J{text}").as_bytes())?;
            self.shown = text;
        }
        Ok(())
    }

    /// The table, and what was lost: those exchanges are not in it.
    fn text(&self, most: usize) -> String {
        let mut text = self.groups.table(most);
        let losses = self.figures.statistics().map(|statistics| statistics.losses);
        let lost = report::reasons(losses.iter().flatten().filter(|row| !row.intended));
        if !lost.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "lost: {lost}");
        }
        text
    }
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

impl Target for Table {
    fn write(&mut self, records: Unwritten<'_>) -> io::Result<Taken> {
        for record in records.records() {
            self.groups.add(record);
        }
        Ok(Taken::written(records.bytes().len()))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn tending_interval(&self) -> Option<Duration> {
        self.refreshes.then_some(REFRESH)
    }

    fn tend(&mut self) -> io::Result<()> {
        self.refresh()
    }

    fn finish(&mut self) -> u64 {
        let printed = match (self.json, self.refreshes) {
            (true, _) => print(&self.groups.json_lines()),
            (false, true) => self.refresh(),
            (false, false) => print(self.text(usize::MAX).as_bytes()),
        };
        if let Err(error) = printed
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            tracing::error!(%error, "the table cannot be printed");
        }
        0
    }
}
