//! Selects the processes whose traffic is captured or replayed: `--pid` and `--uid`.

use ecapture_actors::{Ledger, Loss};
use ecapture_probe::process;
use ecapture_protocols::{CapturedEvent, Process};
use nix::unistd::User;

use crate::args::GlobalArgs;
use crate::usage::UsageError;

/// The processes and the user that the flags select. Nothing given means everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The flag that names the processes.
    flag: &'static str,
    /// Processes by id.
    pids: Vec<u32>,
    /// Processes by the name of their program.
    names: Vec<String>,
    /// The user.
    pub(crate) uid: Option<u32>,
}

/// A recording whose events lack the property that is selected by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoUser;

impl Selection {
    /// Reads the flags.
    pub(crate) fn read(global: &GlobalArgs) -> Result<Self, UsageError> {
        let words = match global.pid.as_slice() {
            [zero] if zero == "0" => &[],
            words => words,
        };
        Ok(Self {
            uid: global.uid.as_deref().map(user).transpose()?.flatten(),
            ..Self::of_processes("--pid", words)?
        })
    }

    /// Reads ids and names of processes.
    pub(crate) fn of_processes(flag: &'static str, words: &[String]) -> Result<Self, UsageError> {
        let mut selection = Self {
            flag,
            ..Self::default()
        };
        let wrong = |expected, observed: &str| UsageError::Value {
            flag,
            expected,
            observed: observed.to_owned(),
        };
        for word in words {
            match word.parse() {
                Ok(0) => return Err(wrong("ids above 0, or 0 alone for all", word)),
                Ok(pid) => selection.pids.push(pid),
                Err(_) if word.is_empty() || word.bytes().all(|byte| byte.is_ascii_digit()) => {
                    return Err(wrong("ids or names of processes, such as 1234,nginx", word));
                }
                Err(_) => selection.names.push(word.clone()),
            }
        }
        Ok(selection)
    }

    /// Returns true if processes are selected.
    pub(crate) fn has_processes(&self) -> bool {
        !self.pids.is_empty() || !self.names.is_empty()
    }

    /// The running processes that are selected; none when all are wanted.
    pub(crate) fn running(&self) -> Result<Vec<u32>, UsageError> {
        let mut pids = self.pids.clone();
        for name in &self.names {
            let named = process::named(name);
            if named.is_empty() {
                return Err(UsageError::NoProcess {
                    flag: self.flag,
                    name: name.clone(),
                });
            }
            pids.extend(named);
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Returns true if anything of a recording may be left out.
    pub(crate) fn is_all(&self) -> bool {
        !self.has_processes() && self.uid.is_none()
    }

    /// Takes the events out of a recorded batch that are not selected, and counts them.
    pub(crate) fn filter(
        &self,
        mut batch: Vec<CapturedEvent>,
        ledger: &Ledger,
    ) -> Result<Vec<CapturedEvent>, NoUser> {
        let mut left_out = (0, 0);
        let mut has_user = true;
        batch.retain(|event| {
            let process = match event {
                CapturedEvent::Data(data) => &data.process,
                CapturedEvent::Observed(observed) => &observed.process,
                CapturedEvent::Close { .. } => return true,
            };
            has_user &= self.uid.is_none() || process.uid.is_some();
            let selected = self.selects(process);
            if !selected {
                left_out.0 += 1;
                left_out.1 += event.payload_bytes();
            }
            selected
        });
        ledger.lose_before_reading(Loss::Filtered, left_out.0, left_out.1);
        if has_user { Ok(batch) } else { Err(NoUser) }
    }

    fn selects(&self, process: &Process) -> bool {
        let is_process = || {
            let comm = process.comm.to_string();
            self.pids.contains(&process.pid) || self.names.contains(&comm)
        };
        (self.uid.is_none() || self.uid == process.uid) && (!self.has_processes() || is_process())
    }
}

/// Reads the id or name of a user; `None` for everybody.
pub(crate) fn user(word: &str) -> Result<Option<u32>, UsageError> {
    if let Ok(uid) = word.parse::<u32>() {
        return Ok((uid != 0).then_some(uid));
    }
    match User::from_name(word) {
        Ok(Some(user)) => Ok(Some(user.uid.as_raw())),
        _ => Err(UsageError::Value {
            flag: "--uid",
            expected: "the id or name of a user of this host (`getent passwd` lists them)",
            observed: word.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use ecapture_protocols::{DataEvent, Direction};

    use super::*;
    use crate::args::Cli;

    fn selection(flags: &str) -> Result<Selection, UsageError> {
        let words = ["ecapture", "tls"].into_iter().chain(flags.split_whitespace());
        Selection::read(&Cli::try_parse_from(words).unwrap().global)
    }

    #[test]
    fn zero_selects_everything_and_names_are_looked_up() {
        for flags in ["", "-p 0", "-u 0", "-p 0 -u 0"] {
            assert!(selection(flags).unwrap().is_all(), "{flags}");
        }
        assert_eq!(selection("-u root").unwrap().uid, Some(0));
        assert_eq!(selection("-u 7").unwrap().uid, Some(7));
        assert_eq!(selection("-p 12,34").unwrap().running().unwrap(), [12, 34]);
        for flags in ["-p 1,0", "-p 99999999999", "-p 1,,2", "-u nobody-of-that-name"] {
            assert!(
                matches!(selection(flags), Err(UsageError::Value { .. })),
                "{flags}"
            );
        }
        let nobody = selection("-p no-such-program").unwrap().running();
        assert!(matches!(nobody, Err(UsageError::NoProcess { .. })));
    }

    fn event(pid: u32, uid: Option<u32>, comm: &str) -> CapturedEvent {
        CapturedEvent::Data(DataEvent {
            timestamp_ns: 1,
            process: Process {
                pid,
                tid: pid,
                uid,
                comm: comm.into(),
            },
            container_id: None,
            program: None,
            direction: Direction::Write,
            fd: None,
            session: None,
            socket: None,
            tls_version: None,
            stream_offset: None,
            joined_late: None,
            payload: "abc".into(),
        })
    }

    #[test]
    fn a_recording_is_filtered_and_what_is_left_out_is_counted() {
        let events = || vec![event(1, Some(0), "curl"), event(2, Some(33), "nginx")];
        for (flags, kept) in [("-p 1", 0), ("-p nginx", 1), ("-u root", 0), ("-u 33", 1)] {
            let ledger = Ledger::new();
            let filtered = selection(flags).unwrap().filter(events(), &ledger).unwrap();
            assert_eq!(filtered, [events().remove(kept)], "{flags}");
        }
        let ledger = Ledger::new();
        let unknown = selection("-u 33")
            .unwrap()
            .filter(vec![event(1, None, "x")], &ledger);
        assert_eq!(unknown, Err(NoUser));
    }
}
