//! Attaching loaded programs: by `uprobe_multi` where there is one (Linux 6.6), else by perf events.
//!
//! A uprobe by `perf_event_open` is registered and removed under one lock of the whole host
//! (`event_mutex`), and its removal waits for two grace periods of RCU tasks trace with that lock
//! held: anything else that attaches in the meantime, such as the next capture, waits for each
//! probe of the last one.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aya_obj::generated::{bpf_attach_type, bpf_prog_type};

use super::bpf::{self, Code, Uprobe};
use super::{LinkError, Loaded, PACKET_PROGRAMS, Program, ProgramError, Refused};
use crate::file::inode::Inode;
use crate::host::descriptors::{Budget, NoDescriptors};
use crate::host::kernel;
use crate::{Error, host};

/// The kernel's event source for uprobes.
const UNIT: &str = "/sys/bus/event_source/devices/uprobe";

/// Programs with their links. Closing a link detaches.
pub(crate) struct Attachment {
    loaded: Loaded,
    method: Method,
    /// The links of tracepoints.
    links: Vec<OwnedFd>,
    /// The links of files, which may be detached from.
    of_files: HashMap<Inode, LinksOfFile>,
    budget: Budget,
    /// Nothing is attached any more.
    ended: Arc<AtomicBool>,
}

/// The probes in one file. Closing the links detaches them, which takes some 0.1 s for each.
pub(crate) struct LinksOfFile {
    links: Vec<OwnedFd>,
    trusted: bool,
}

/// Programs that are attached to interfaces.
pub(crate) struct PacketPrograms {
    ingress: Program,
    egress: Program,
}

impl PacketPrograms {
    /// Attaches to one direction of an interface. It ends when the link is closed.
    pub(crate) fn link(&self, interface: u32, sent: bool) -> io::Result<OwnedFd> {
        let attach_type = if sent {
            bpf_attach_type::BPF_TCX_EGRESS
        } else {
            bpf_attach_type::BPF_TCX_INGRESS
        };
        bpf::link_packets(self.descriptor(sent), interface, attach_type)
    }

    /// The program of one direction.
    pub(crate) const fn descriptor(&self, sent: bool) -> &OwnedFd {
        if sent {
            &self.egress.descriptor
        } else {
            &self.ingress.descriptor
        }
    }
}

enum Method {
    Multi,
    Events { unit: u32, return_bit: u32 },
}

impl Attachment {
    /// Nothing is attached yet. `multi`: as the programs were loaded.
    pub(crate) fn new(loaded: Loaded, multi: bool) -> Result<Self, Error> {
        let method = if multi {
            Method::Multi
        } else {
            Method::events().map_err(|source| host::Problem::UnusableUprobes { source })?
        };
        Ok(Self {
            loaded,
            method,
            links: Vec::new(),
            of_files: HashMap::new(),
            budget: Budget::new(),
            ended: Arc::default(),
        })
    }

    /// Set, it keeps anything more from being attached, also while a file is being attached to.
    pub(crate) fn ended(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.ended)
    }

    pub(super) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Programs that the kernel did not take.
    pub(crate) fn refused(&self) -> &[Refused] {
        self.loaded.refused()
    }

    /// Why a program is not there, if it is not.
    pub(crate) fn refusal(&self, program: &str) -> Option<&Refused> {
        self.refused().iter().find(|refused| refused.program == program)
    }

    /// Attaches all tracepoints.
    pub(crate) fn attach_tracepoints(&mut self) -> Result<(), Error> {
        for &name in &self.loaded.tracepoints {
            let program = &self.loaded.programs[name];
            let link = bpf::open_tracepoint(&program.descriptor).map_err(|error| Error::Program {
                program: name,
                source: ProgramError::NotAttached(Arc::new(error)),
            })?;
            self.links.push(link);
        }
        Ok(())
    }

    /// Takes the programs for received packets and for sent ones.
    pub(crate) fn take_packet_programs(&mut self) -> Option<PacketPrograms> {
        let [ingress, egress] = PACKET_PROGRAMS;
        Some(PacketPrograms {
            ingress: self.loaded.programs.remove(ingress)?,
            egress: self.loaded.programs.remove(egress)?,
        })
    }

    /// Keeps the links of a file.
    pub(crate) fn assign(&mut self, links: Vec<OwnedFd>, file: Inode, trusted: bool) {
        self.of_files.insert(file, LinksOfFile { links, trusted });
    }

    /// Takes out the links of a file: its probes are detached when they are dropped.
    pub(crate) fn take_file(&mut self, file: Inode) -> Option<LinksOfFile> {
        let taken = self.of_files.remove(&file)?;
        self.budget.give_back(taken.links.len() as u64, taken.trusted);
        Some(taken)
    }

    /// Makes sure that there are descriptors for the links of programs that are each attached at so
    /// many offsets.
    pub(crate) fn reserve(
        &mut self,
        offsets: impl Iterator<Item = usize>,
        trusted: bool,
    ) -> Result<(), NoDescriptors> {
        let links = match self.method {
            Method::Multi => offsets.count(),
            Method::Events { .. } => offsets.sum(),
        };
        self.budget.take(links as u64, trusted)
    }

    /// Attaches a program at these offsets of the file `path`, for one process when `pid` is not 0. It can
    /// ask for the `cookie` (Linux 5.15). Adds its `links`. An error when nothing is to be attached any more.
    pub(crate) fn attach(
        &self,
        program: &str,
        offsets: &[u64],
        path: &Path,
        pid: u32,
        cookie: u64,
        links: &mut Vec<OwnedFd>,
    ) -> Result<(), LinkError> {
        let program = self.loaded.programs.get(program);
        let program = program.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)?;
        let uprobe = Uprobe {
            path: &path,
            at_return: program.at_return,
            pid,
            cookie,
        };
        match self.method {
            Method::Multi => {
                self.go_on()?;
                links.push(bpf::link_multi(&program.descriptor, offsets, uprobe)?);
            }
            Method::Events { unit, return_bit } => {
                for &offset in offsets {
                    self.go_on()?;
                    let event = bpf::open_uprobe_event(unit, return_bit, offset, uprobe)?;
                    links.push(run_at_event(&program.descriptor, event, cookie)?);
                }
            }
        }
        Ok(())
    }

    fn go_on(&self) -> Result<(), LinkError> {
        if self.ended.load(Ordering::Acquire) {
            return Err(LinkError::Ended);
        }
        Ok(())
    }
}

/// The link holds the event open, where there are such links.
fn run_at_event(program: &OwnedFd, event: OwnedFd, cookie: u64) -> io::Result<OwnedFd> {
    if kernel::has_cookie() {
        return bpf::link_event(program, &event, cookie);
    }
    bpf::set_event_program(program, &event)?;
    Ok(event)
}

impl Method {
    fn events() -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{UNIT}/{what}"));
        let unit = fs::read_to_string(format!("{UNIT}/type"))?;
        // Such as `config:0`.
        let format = fs::read_to_string(format!("{UNIT}/format/retprobe"))?;
        let return_bit = format.trim().strip_prefix("config:");
        Ok(Self::Events {
            unit: unit.trim().parse().map_err(|_| invalid("type"))?,
            return_bit: return_bit
                .and_then(|bit| bit.parse().ok())
                .filter(|&bit: &u32| bit < u64::BITS)
                .ok_or_else(|| invalid("format/retprobe"))?,
        })
    }
}

/// Returns true if this kernel has links of `uprobe_multi`: it refuses a folder (`EBADF`) only
/// after it has found out that it knows the kind of link. A kernel without them loads programs for
/// them all the same.
pub(crate) fn uprobe_multi_works() -> bool {
    // r0 = 0; exit
    const PROGRAM: [u8; 16] = [0xB7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let Ok(instructions) = aya_obj::copy_instructions(&PROGRAM) else {
        return false;
    };
    let code = Code {
        instructions: &instructions,
        license: c"GPL",
        program_type: bpf_prog_type::BPF_PROG_TYPE_KPROBE,
        attach_type: Some(bpf_attach_type::BPF_TRACE_UPROBE_MULTI),
        attach_type_id: 0,
        functions: None,
    };
    let Ok(program) = bpf::load_program(&code) else {
        return false;
    };
    let folder: &CStr = c"/";
    let uprobe = Uprobe {
        path: folder,
        at_return: false,
        pid: 0,
        cookie: 0,
    };
    let refused = bpf::link_multi(&program, &[0], uprobe);
    refused.is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
}
