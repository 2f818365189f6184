//! Joins the steps of each shell to its commands.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ecapture_ebpf::record::{
    DecodeError, SHELL_CUT, SHELL_MORE, SHELL_REFUSED, SHELL_STATUS, STEP_ABANDONED, STEP_BEGUN,
    STEP_DIRECTORY, STEP_ENDED, STEP_EXITED, STEP_EXPANDED, STEP_REPLACED, STEP_TYPED, ShellHeader,
};
use ecapture_protocols::redact::{self, Redaction};
use ecapture_protocols::{
    CapturedEvent, Comm, CommandEnd, Fact, Login, Observed, Process, Shell, ShellCommand,
};

use super::login;
use crate::limits;
use crate::modules::{Join, Joined, ModuleOptions};
use crate::proc::{Program, container};

/// The commands of all shells of one kind.
pub(super) struct Commands {
    shell: Shell,
    /// The only exit status that is wanted, if there is one.
    wanted: Option<i32>,
    redaction: Redaction,
    /// Commands with another one.
    left_out: u64,
    /// Shells that were forgotten with their commands.
    forgotten: u64,
    /// Bytes of text of all shells.
    held: usize,
    /// Bytes of text that were beyond the limits.
    beyond: u64,
    shells: HashMap<u32, State>,
}

/// One shell.
struct State {
    /// Other programs read lines in the same way; a shell also says what it does with them.
    is_shell: bool,
    process: Process,
    program: Option<Arc<str>>,
    container: Option<Arc<str>>,
    login: Arc<Login>,
    directory: Option<Arc<str>>,
    /// The text whose records are coming, and the step that it belongs to.
    part: Vec<u8>,
    part_step: u32,
    /// A line that was typed; the text that is executed for it may follow.
    typed: Option<Vec<u8>>,
    /// The lines before it.
    text: Option<Vec<u8>>,
    cut: bool,
    refused: bool,
    typed_ns: u64,
    begun_ns: Option<u64>,
}

impl Commands {
    /// With a status, only commands that ended with it become events.
    pub(super) fn new(shell: Shell, options: &ModuleOptions) -> Self {
        Self {
            shell,
            wanted: options.shell_status,
            redaction: options.redaction,
            left_out: 0,
            forgotten: 0,
            held: 0,
            beyond: 0,
            shells: HashMap::new(),
        }
    }

    fn take(&mut self, header: &ShellHeader, text: &[u8]) -> Option<CapturedEvent> {
        if !self.shells.contains_key(&header.pid) {
            if matches!(header.step, STEP_ENDED | STEP_EXITED | STEP_REPLACED) {
                return None;
            }
            self.make_room();
            self.shells.insert(header.pid, State::new(header));
        }
        let mut state = self.shells.remove(&header.pid)?;
        self.held -= state.bytes();
        let room = limits::SHELL_BYTES.saturating_sub(self.held);
        self.beyond += (text.len() - state.collect(header, text, room)) as u64;
        let end = state.step(self.shell, header);
        let event = end.and_then(|end| state.finish(self.shell, header, end));
        if !matches!(header.step, STEP_EXITED | STEP_REPLACED) {
            self.held += state.bytes();
            self.shells.insert(header.pid, state);
        }
        event.and_then(|observed| self.select(observed))
    }

    fn select(&mut self, mut observed: Observed) -> Option<CapturedEvent> {
        let Fact::ShellCommand(command) = &mut observed.fact else {
            return None;
        };
        if self.wanted.is_some() && command.status != self.wanted {
            self.left_out += 1;
            return None;
        }
        if self.redaction != Redaction::Nothing
            && let Some(masked) = redact::command_line(&command.text)
        {
            command.text = Bytes::from(masked);
            command.redacted = true;
        }
        Some(CapturedEvent::Observed(Box::new(observed)))
    }

    /// Shells that have ended are forgotten, so this is for more shells at once than anybody has.
    fn make_room(&mut self) {
        if self.shells.len() < limits::SHELLS {
            return;
        }
        let oldest = self.shells.iter().min_by_key(|(_, state)| state.typed_ns);
        if let Some(&pid) = oldest.map(|(pid, _)| pid)
            && let Some(state) = self.shells.remove(&pid)
        {
            self.held -= state.bytes();
            self.forgotten += 1;
        }
    }
}

impl Join for Commands {
    fn join(&mut self, record: &[u8]) -> Result<Joined, DecodeError> {
        let (header, text) = ShellHeader::decode(record)?;
        let before = self.beyond;
        Ok(Joined {
            event: self.take(&header, text),
            bytes: text.len() as u64,
            beyond: self.beyond - before,
        })
    }

    fn finish(&mut self) -> Vec<CapturedEvent> {
        let shell = self.shell;
        let mut running: Vec<_> = std::mem::take(&mut self.shells).into_values().collect();
        running.sort_unstable_by_key(|state| (state.typed_ns, state.process.pid));
        let commands = running
            .iter_mut()
            .filter_map(|state| state.unfinished(shell))
            .collect::<Vec<_>>();
        let events: Vec<_> = commands
            .into_iter()
            .filter_map(|observed| self.select(observed))
            .collect();
        if self.left_out > 0 {
            tracing::info!("{} commands of {shell} had another exit status", self.left_out);
        }
        if self.forgotten > 0 {
            tracing::warn!(
                "{} shells were forgotten, with the commands that they ran, because there were more than {}",
                self.forgotten,
                limits::SHELLS
            );
        }
        events
    }
}

impl State {
    /// The process waits for its user, or has just begun a command: most probably it still runs.
    fn new(header: &ShellHeader) -> Self {
        let pid = header.pid;
        let program = Program::of(pid).ok();
        let name = program.as_ref().and_then(Program::name);
        Self {
            is_shell: false,
            process: Process {
                pid,
                tid: pid,
                uid: Some(header.uid),
                comm: Comm::new(header.comm),
            },
            program: name.map(|name| Arc::from(name.to_string_lossy())),
            container: container::of(pid).map(Arc::from),
            login: Arc::new(login::of(pid)),
            directory: None,
            part: Vec::new(),
            part_step: 0,
            typed: None,
            text: None,
            cut: false,
            refused: false,
            typed_ns: header.timestamp_ns,
            begun_ns: None,
        }
    }

    fn bytes(&self) -> usize {
        let texts = [self.typed.as_ref(), self.text.as_ref(), Some(&self.part)];
        texts.into_iter().flatten().map(Vec::len).sum()
    }

    /// Takes one record, whose text was collected. Returns how the command ended, if it did with this step.
    fn step(&mut self, shell: Shell, header: &ShellHeader) -> Option<CommandEnd> {
        if header.flags & SHELL_MORE != 0 {
            return None;
        }
        let text = std::mem::take(&mut self.part);
        let is_refused = header.flags & SHELL_REFUSED != 0;
        match header.step {
            STEP_DIRECTORY => self.directory = Some(Arc::from(String::from_utf8_lossy(&text))),
            STEP_TYPED => self.typed(header, text),
            STEP_EXPANDED => {
                self.is_shell = true;
                if is_refused {
                    return self.typed.is_some().then_some(CommandEnd::Refused);
                }
                self.typed = None;
                if shell == Shell::Zsh {
                    self.text = None;
                }
                self.add_line(&text);
            }
            STEP_BEGUN => {
                self.is_shell = true;
                self.refused = is_refused;
                self.begun_ns = Some(header.timestamp_ns);
                self.flush();
                if self.text.is_none() {
                    // A line was typed, and its record was lost.
                    self.cut = true;
                    self.text = Some(Vec::new());
                }
            }
            STEP_ENDED => {
                self.is_shell = true;
                // zsh does not say that it refuses a command.
                let refused = self.refused || shell == Shell::Zsh && self.begun_ns.is_none();
                return Some(match refused {
                    true if shell == Shell::Zsh && header.status == INTERRUPTED => CommandEnd::Abandoned,
                    true => CommandEnd::Refused,
                    false => CommandEnd::Finished,
                });
            }
            STEP_ABANDONED => {
                self.is_shell = true;
                self.flush();
                self.add_line(&text);
                if self.directory.is_none() {
                    self.directory = login::directory(header.pid);
                }
                return Some(CommandEnd::Abandoned);
            }
            STEP_EXITED => return Some(CommandEnd::Exited),
            STEP_REPLACED => return Some(CommandEnd::Replaced),
            _ => {}
        }
        None
    }

    /// Adds a record's bytes to the text that it is a part of. Of a text whose last record was lost, the rest is
    /// kept. Returns the number of bytes that there was room for.
    fn collect(&mut self, header: &ShellHeader, text: &[u8], room: usize) -> usize {
        if header.offset == 0 && !self.part.is_empty() {
            let part = std::mem::take(&mut self.part);
            self.cut = true;
            if matches!(self.part_step, STEP_TYPED | STEP_EXPANDED) {
                self.typed = None;
                self.add_line(&part);
            }
        }
        self.part_step = header.step;
        if header.offset as usize != self.part.len() || header.flags & SHELL_CUT != 0 {
            self.cut = true;
        }
        let most = limits::SHELL_COMMAND_BYTES.min(room).saturating_sub(self.bytes());
        let kept = text.len().min(most);
        self.cut |= kept < text.len();
        self.part.extend_from_slice(&text[..kept]);
        kept
    }

    fn typed(&mut self, header: &ShellHeader, line: Vec<u8>) {
        self.process.uid = Some(header.uid);
        self.process.comm = Comm::new(header.comm);
        self.flush();
        if !self.is_shell && self.bytes() > limits::READ_BYTES {
            self.text = None;
        }
        if self.text.is_none() {
            self.typed_ns = header.timestamp_ns;
            self.refused = false;
            self.begun_ns = None;
            if self.directory.is_none() {
                self.directory = login::directory(header.pid);
            }
        }
        self.typed = Some(line);
    }

    /// The line that was typed is executed as it is.
    fn flush(&mut self) {
        if let Some(line) = self.typed.take() {
            self.add_line(&line);
        }
    }

    fn add_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        match &mut self.text {
            Some(text) => {
                text.push(b'\n');
                text.extend_from_slice(line);
            }
            None => self.text = Some(line.to_vec()),
        }
    }

    /// The command that has ended; `None` if the line was empty, or the program is no shell.
    fn finish(&mut self, shell: Shell, header: &ShellHeader, end: CommandEnd) -> Option<Observed> {
        let status = (header.flags & SHELL_STATUS != 0).then_some(header.status);
        let status = match end {
            CommandEnd::Exited => status.map(exit_status),
            _ => status,
        };
        let only_line = header.step == STEP_EXPANDED;
        let text = if only_line {
            self.typed.take()
        } else {
            self.flush();
            self.text.take()
        };
        let began = self.begun_ns.unwrap_or(self.typed_ns);
        let duration = header.timestamp_ns.saturating_sub(began);
        let has_run = matches!(
            end,
            CommandEnd::Finished | CommandEnd::Exited | CommandEnd::Replaced
        );
        self.command(shell, text?, end, status, has_run.then_some(duration))
    }

    /// The command that still runs when the capture ends.
    fn unfinished(&mut self, shell: Shell) -> Option<Observed> {
        self.flush();
        let text = self.text.take()?;
        self.command(shell, text, CommandEnd::Running, None, None)
    }

    fn command(
        &mut self,
        shell: Shell,
        text: Vec<u8>,
        end: CommandEnd,
        status: Option<i32>,
        duration_ns: Option<u64>,
    ) -> Option<Observed> {
        let cut = std::mem::take(&mut self.cut);
        let known = self.directory.take();
        let timestamp_ns = self.begun_ns.take().unwrap_or(self.typed_ns);
        self.refused = false;
        if !self.is_shell || text.trim_ascii().is_empty() && !cut {
            return None;
        }
        let text = if shell == Shell::Zsh {
            unmetafied(text)
        } else {
            text
        };
        Some(Observed {
            timestamp_ns,
            process: self.process,
            container_id: self.container.clone(),
            program: self.program.clone(),
            fact: Fact::ShellCommand(Box::new(ShellCommand {
                shell,
                text: Bytes::from(text),
                cut,
                end,
                status,
                duration_ns,
                directory: known,
                login: Arc::clone(&self.login),
                redacted: false,
            })),
        })
    }
}

/// Exit status of what Ctrl-C ended: 128 and the number of SIGINT.
const INTERRUPTED: i32 = 130;

/// `task_struct.exit_code` as a shell shows it: 128 and the signal for a process that a signal ended.
fn exit_status(code: i32) -> i32 {
    match code & 0x7F {
        0 => code >> 8 & 0xFF,
        signal => 128 + signal,
    }
}

/// The bytes of a text that zsh keeps in its own way: `Meta` (Src/zsh.h) stands before a byte with bit 5 inverted.
fn unmetafied(text: Vec<u8>) -> Vec<u8> {
    const META: u8 = 0x83;
    if !text.contains(&META) {
        return text;
    }
    let mut bytes = text.into_iter();
    let mut plain = Vec::with_capacity(bytes.len());
    while let Some(byte) = bytes.next() {
        if byte == META
            && let Some(next) = bytes.next()
        {
            plain.push(next ^ 0x20);
        } else {
            plain.push(byte);
        }
    }
    plain
}

#[cfg(test)]
mod tests;
