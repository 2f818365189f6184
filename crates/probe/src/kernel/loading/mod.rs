//! Loads the kernel programs, each by itself: a program that the kernel refuses costs what it is for, and
//! nothing else.
//!
//! ```text
//! object ─► aya: maps, constants ─► Loader ─► Loaded ─► attach
//!        └► loops (old kernels)        └► Refused, shown by `ecapture doctor`
//! ```
//!
//! aya makes the maps and joins the object's parts. Programs are loaded here: aya 0.14 cannot load them for
//! `uprobe_multi`, cannot leave out information about functions that a kernel does not accept, and does not
//! hand out what the verifier counted.

mod attachment;
mod bpf;
mod constants;
mod error;
mod loops;
mod private_stack;
mod stack;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use aya::maps::Map;
use aya::{Btf, Ebpf};
use aya_obj::btf::BtfKind;
use aya_obj::generated::{bpf_attach_type, bpf_insn, bpf_prog_type};
use aya_obj::{Function, Object, ProgramSection};

use crate::config::{CaptureConfig, PacketConfig};
use crate::find::discovery::Discovery;
use crate::host::kernel;
use crate::kernel::btf::{self, Types};
use crate::kernel::{object, tracepoints};
use crate::modules::Modules;
use crate::{Error, host};
pub(crate) use attachment::{Attachment, PacketPrograms, uprobe_multi_works};
use bpf::{Code, FunctionInfo};
pub use error::{LinkError, ObjectError, ProgramError};

/// A program that the kernel did not take.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Name of the program.
    pub program: &'static str,
    /// Why, in one line.
    pub reason: ProgramError,
    /// The data that is not captured without the program.
    pub lost: String,
}

/// A program that the kernel took.
#[derive(Debug)]
pub(crate) struct Program {
    descriptor: OwnedFd,
    at_return: bool,
    /// Where they were asked for.
    figures: Option<Figures>,
}

/// The verifier's figures of a program that the kernel accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Number of instructions that it walked; it gives up at a million (`BPF_COMPLEXITY_LIMIT_INSNS`).
    pub instructions: u64,
    /// Bytes of stack of the deepest chain of calls, at most 512 (`MAX_BPF_STACK`).
    pub stack: u64,
}

/// All programs that a capture needs, if the kernel accepted them.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    programs: HashMap<&'static str, Program>,
    refused: Vec<Refused>,
    /// The tracepoints among the programs, in the order of their attachment.
    tracepoints: Vec<&'static str>,
}

/// How programs are loaded.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Uprobes are loaded for `uprobe_multi`.
    multi: bool,
    /// The verifier's figures are wanted.
    figures: bool,
}

/// Everything that a capture needs of the kernel, before anything is attached.
pub(crate) struct Loading {
    /// For its maps.
    pub(crate) ebpf: Ebpf,
    pub(crate) probes: Attachment,
}

impl Loading {
    /// Makes the maps and loads the programs, with the verifier's `figures` when they are wanted. An error
    /// when no program that carries data could be loaded, so that nothing would be captured.
    pub(crate) fn new(config: &CaptureConfig, figures: bool) -> Result<Self, Error> {
        let bytes = fs::read(host::BTF_PATH).map_err(|source| host::Problem::NoBtf { source })?;
        let types = Types::parse(&bytes)?;
        let offsets = btf::kernel_offsets(&types)?;
        let btf = Btf::parse(&bytes, aya::Endianness::default())
            .map_err(|error| Error::Load(Box::new(error.into())))?;
        let object = object_for(config)?;
        let ebpf = constants::make_maps(config, offsets, &btf, &object)?;
        let plan = Plan {
            multi: kernel::has_multi(),
            figures,
        };
        let loader = Loader::new(&object, &ebpf, &btf, plan)?;
        let programs = Loaded::new(&loader, &types, config)?;
        let probes = Attachment::new(programs, plan.multi)?;
        Ok(Self { ebpf, probes })
    }
}

/// The outcome of loading one program.
#[derive(Debug, Clone)]
pub struct ProgramCheck {
    /// Name of the program.
    pub program: &'static str,
    /// The verifier's figures, where it gives them; or why it refused the program.
    pub outcome: Result<Option<Figures>, Refused>,
}

/// The programs for received packets and for sent ones.
pub(crate) const PACKET_PROGRAMS: [&str; 2] = ["packet_ingress", "packet_egress"];

/// Loads the programs of `modules` as a capture of everything that they can would, and discards them. Those for
/// packets are among them if all modules are. `without_content`: as [`CaptureConfig::without_content`]. Takes some 0.1 s.
pub fn check_programs(modules: Modules, without_content: bool) -> Result<Vec<ProgramCheck>, Error> {
    let packets = PacketConfig {
        // Any: it is not compiled here.
        filter: Some(String::new()),
        ..PacketConfig::default()
    };
    let config = CaptureConfig {
        modules,
        packets: (modules == Modules::ALL).then_some(packets),
        discovery: Discovery::Kinds(Vec::new()),
        without_content,
        ..CaptureConfig::default()
    };
    let Loading { probes, .. } = Loading::new(&config, true)?;
    let loaded = probes.loaded();
    let taken = loaded.programs.iter().map(|(&program, taken)| ProgramCheck {
        program,
        outcome: Ok(taken.figures),
    });
    let refused = loaded.refused.iter().map(|refused| ProgramCheck {
        program: refused.program,
        outcome: Err(refused.clone()),
    });
    let mut checks: Vec<_> = taken.chain(refused).collect();
    checks.sort_unstable_by_key(|check| check.program);
    Ok(checks)
}

/// The object's bytes as this kernel can take them, without the functions that nothing uses.
fn object_for(config: &CaptureConfig) -> Result<Cow<'static, [u8]>, Error> {
    let mut object = object::bytes()?;
    let unused = if constants::leaves_content_out(config) {
        loops::SEND_WHOLE
    } else {
        loops::FOLLOW_CONTENT
    };
    let is_unused = |function: &[u8]| !kernel::has_loop() || function.ends_with(unused.as_bytes());
    let removed = loops::remove_function_addresses(object.to_mut(), is_unused);
    tracing::debug!(?removed, "addresses of functions are left out");
    Ok(object)
}

impl Loaded {
    fn new(loader: &Loader<'_>, types: &Types<'_>, config: &CaptureConfig) -> Result<Self, Error> {
        let modules = config.modules;
        let mut all = Self::default();
        for name in modules.programs() {
            all.add(name, loader.load(name)?);
        }
        if !modules.can_bring_content(|program| all.programs.contains_key(program))
            && let Some(first) = all.refused.first()
        {
            return Err(Error::Program {
                program: first.program,
                source: first.reason.clone(),
            });
        }
        if config.packets.is_some() {
            for name in PACKET_PROGRAMS {
                let program = loader.load(name)?;
                let program = program.map_err(|source| Error::Program {
                    program: name,
                    source,
                })?;
                all.programs.insert(name, program);
            }
        }
        let packets = config.packets.is_some();
        let chosen = |system_calls| tracepoints::chosen_with(modules, packets, types, system_calls);
        all.add_tracepoints(loader, &chosen(config.hooks.system_calls))?;
        let own = tracepoints::of_their_own();
        if all.refused.iter().any(|refused| own.contains(&refused.program)) {
            // The same is learned from system calls.
            all.drop_tracepoints(&own);
            all.add_tracepoints(loader, &chosen(true))?;
        }
        Ok(all)
    }

    fn add(&mut self, name: &'static str, loaded: Result<Program, ProgramError>) {
        match loaded {
            Ok(program) => {
                self.programs.insert(name, program);
            }
            Err(reason) => self.refused.push(Refused {
                program: name,
                reason,
                lost: lost_without(name),
            }),
        }
    }

    fn add_tracepoints(&mut self, loader: &Loader<'_>, names: &[&'static str]) -> Result<(), Error> {
        for &name in names {
            if !self.knows(name) {
                self.add(name, loader.load(name)?);
                if self.programs.contains_key(name) {
                    self.tracepoints.push(name);
                }
            }
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        self.programs.contains_key(name) || self.refused.iter().any(|refused| refused.program == name)
    }

    fn drop_tracepoints(&mut self, names: &[&'static str]) {
        for refused in &self.refused {
            if names.contains(&refused.program) {
                tracing::debug!(
                    program = refused.program,
                    reason = %refused.reason,
                    "system calls are traced instead"
                );
            }
        }
        self.programs.retain(|name, _| !names.contains(name));
        self.tracepoints.retain(|name| !names.contains(name));
        self.refused.retain(|refused| !names.contains(&refused.program));
    }

    /// Programs that the kernel did not take.
    pub(crate) fn refused(&self) -> &[Refused] {
        &self.refused
    }
}

/// The data that is not captured without a program, as the end of a sentence.
fn lost_without(program: &'static str) -> String {
    const NAMED: usize = 4;
    if let Some(lost) = tracepoints::lost_without(program) {
        return lost.to_owned();
    }
    let functions = Modules::ALL.symbols_of(program);
    let named = functions
        .iter()
        .take(NAMED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    match functions.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more functions"),
    }
}

/// The parsed object, joined with the maps that aya made of it.
struct Loader<'a> {
    object: Object,
    types: Option<OwnedFd>,
    btf: &'a Btf,
    plan: Plan,
}

impl<'a> Loader<'a> {
    fn new(object: &[u8], ebpf: &Ebpf, btf: &'a Btf, plan: Plan) -> Result<Self, Error> {
        let mut object = Object::parse(object).map_err(ObjectError::from)?;
        let types = load_types(&mut object)?;
        link(&mut object, ebpf)?;
        Ok(Self {
            object,
            types,
            btf,
            plan,
        })
    }

    /// Loads one program; the inner error is the kernel's reason.
    fn load(&self, name: &'static str) -> Result<Result<Program, ProgramError>, Error> {
        let missing = Error::ObjectIncomplete {
            what: "program",
            name,
        };
        let Some(program) = self.object.programs.get(name) else {
            return Err(missing);
        };
        let Some(function) = self.object.functions.get(&program.function_key()) else {
            return Err(missing);
        };
        let is_uprobe = matches!(
            program.section,
            ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. }
        );
        let mut functions = function.func_info.func_info_bytes();
        let mut lines = function.line_info.line_info_bytes();
        let mut instructions = Cow::Borrowed(function.instructions.as_slice());
        // Older kernels have no private stacks, and some refuse tail calls beside other calls.
        if is_uprobe && self.plan.multi {
            instructions = Cow::Owned(private_stack::prefixed(&function.instructions));
            functions = private_stack::moved(&functions, function.func_info_rec_size);
            lines = private_stack::moved(&lines, function.line_info_rec_size);
        }
        let mut code = Code {
            instructions: &instructions,
            license: &self.object.license,
            program_type: bpf_prog_type::BPF_PROG_TYPE_KPROBE,
            attach_type: self.plan.multi.then_some(bpf_attach_type::BPF_TRACE_UPROBE_MULTI),
            attach_type_id: 0,
            functions: self
                .types
                .as_ref()
                .map(|types| function_info(function, types, &functions, &lines)),
        };
        if matches!(program.section, ProgramSection::SchedClassifier) {
            code.program_type = bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS;
            code.attach_type = None;
        } else if !is_uprobe {
            code.program_type = bpf_prog_type::BPF_PROG_TYPE_TRACING;
            code.attach_type = Some(bpf_attach_type::BPF_TRACE_RAW_TP);
            let argument = format!("btf_trace_{name}");
            match self.btf.id_by_type_name_kind(&argument, BtfKind::Typedef) {
                Ok(id) => code.attach_type_id = id,
                Err(_) => return Ok(Err(ProgramError::NoTracepoint)),
            }
        }
        let at_return = matches!(program.section, ProgramSection::URetProbe { .. });
        Ok(self
            .load_code(name, &mut code)
            .map(|(descriptor, figures)| Program {
                descriptor,
                at_return,
                figures,
            }))
    }

    /// Loads with information about functions, and where that is refused without: a kernel that knows less
    /// of it than this one refuses programs that it could run.
    fn load_code(&self, name: &str, code: &mut Code<'_>) -> Result<(OwnedFd, Option<Figures>), ProgramError> {
        if !self.plan.figures
            && let Ok(descriptor) = bpf::load_program(code)
        {
            return Ok((descriptor, None));
        }
        let refusal = match bpf::load_program_with_log(code) {
            Ok((descriptor, log)) => return Ok((descriptor, Figures::of(&log, code.instructions))),
            Err(refusal) => refusal,
        };
        tracing::debug!(program = name, error = %refusal.error, log = refusal.log, "refused");
        if code.functions.take().is_some()
            && let Ok((descriptor, log)) = bpf::load_program_with_log(code)
        {
            return Ok((descriptor, Figures::of(&log, code.instructions)));
        }
        let source = Arc::new(refusal.error);
        Err(match reason(&refusal.log) {
            Some(verifier) => ProgramError::Verifier {
                source,
                verifier: verifier.to_owned(),
            },
            None => ProgramError::Refused(source),
        })
    }
}

fn function_info<'a>(
    function: &Function,
    types: &'a OwnedFd,
    functions: &'a [u8],
    lines: &'a [u8],
) -> FunctionInfo<'a> {
    FunctionInfo {
        types,
        functions: (functions, function.func_info_rec_size, function.func_info.len()),
        lines: (lines, function.line_info_rec_size, function.line_info.len()),
    }
}

/// The object's own type information. Without it the verifier refuses callbacks and says less.
fn load_types(object: &mut Object) -> Result<Option<OwnedFd>, ObjectError> {
    let Some(features) = aya::features().btf() else {
        return Ok(None);
    };
    let types = object.fixup_and_sanitize_btf(features)?;
    let bytes = types.ok_or(ObjectError::NoTypes)?.to_bytes();
    let types = bpf::load_types(&bytes).inspect_err(|refusal| {
        let reason = refusal.log.lines().rev().take(2).collect::<Vec<_>>();
        tracing::debug!(error = %refusal.error, ?reason, "type information of the object is left out");
    });
    Ok(types.ok())
}

/// Puts the maps and the called functions into the programs' code.
///
/// The object file has calls of functions in other sections, and loads of map addresses, as relocations only: the
/// kernel takes one sequence of instructions, with map descriptors in the loads and each called function behind its
/// caller. aya does this in its own loading, which cannot be used here, so its steps are repeated in its order: maps
/// first, because a called function is copied with its loads already patched.
fn link(object: &mut Object, ebpf: &Ebpf) -> Result<(), ObjectError> {
    let descriptors: HashMap<&str, RawFd> = ebpf
        .maps()
        .filter_map(|(name, map)| Some((name, descriptor(map)?)))
        .collect();
    let maps = object.maps.clone();
    let maps = maps
        .iter()
        .filter_map(|(name, map)| Some((name.as_str(), *descriptors.get(name.as_str())?, map)));
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_maps(maps, &sections)?;
    object.relocate_calls(&sections)?;
    object.sanitize_functions(aya::features());
    Ok(())
}

fn descriptor(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(data)
        | Map::CgroupArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}

impl Figures {
    /// By the verifier's log about these instructions. Linux 7.2 says itself how deep the deepest chain of calls
    /// is ("stack depth 328+8 max 320"); 6.18 and older name the functions' frames only.
    fn of(log: &str, instructions: &[bpf_insn]) -> Option<Self> {
        let rest = |start| log.lines().find_map(|line| line.strip_prefix(start));
        let depths = rest("stack depth ")?;
        let stack = if let Some((_, deepest)) = depths.split_once(" max ") {
            deepest.trim().parse().ok()?
        } else {
            let frames = depths.split('+').map(|frame| frame.trim().parse());
            let frames: Vec<u64> = frames.collect::<Result<_, _>>().ok()?;
            stack::deepest_chain(instructions, &frames)?
        };
        Some(Self {
            instructions: rest("processed ")?.split(' ').next()?.parse().ok()?,
            stack,
        })
    }
}

/// The verifier's last words before its statistics.
fn reason(log: &str) -> Option<&str> {
    let is_statistics = |line: &&str| {
        [
            "processed ",
            "insns processed ",
            "verification time ",
            "stack depth ",
        ]
        .iter()
        .any(|start| line.starts_with(start))
    };
    let mut lines = log.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.rfind(|line| !is_statistics(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "combined stack size of 3 calls is 576. Too large\n\
        verification time 4105 usec\nstack depth 240+16+280\n\
        processed 4711 insns (limit 1000000) max_states_per_insn 5 total_states 99 peak_states 90 mark_read 7\n";

    #[test]
    fn the_verifiers_figures_and_reason_are_found_in_its_log() {
        let log = "processed 4711 insns (limit 1000000) max_states_per_insn 5\nstack depth 240\n";
        let exit = aya_obj::copy_instructions(&[0x95, 0, 0, 0, 0, 0, 0, 0]).unwrap();
        let figures = Figures {
            instructions: 4711,
            stack: 256,
        };
        assert_eq!(Figures::of(log, &exit), Some(figures));
        assert_eq!(Figures::of(LOG, &exit), None, "the log of another program");
        assert_eq!(Figures::of("", &exit), None);
        assert_eq!(
            reason(LOG),
            Some("combined stack size of 3 calls is 576. Too large")
        );
        assert_eq!(reason("processed 1 insns\n"), None);
    }

    #[test]
    fn the_log_of_linux_7_2_says_itself_how_deep_the_deepest_chain_is() {
        // What 7.2.13 says of `call_return`.
        let log = "verification time 563219 usec\nstack depth 328+0+8+8 max 320\ninsns processed 18446+250\n\
            processed 18696 insns (limit 1000000) max_states_per_insn 9 total_states 1030 peak_states 783 mark_read 0\n";
        let figures = Figures {
            instructions: 18_696,
            stack: 320,
        };
        assert_eq!(Figures::of(log, &[]), Some(figures));
        let refusal = format!("misaligned stack access off 1\n{log}");
        assert_eq!(reason(&refusal), Some("misaligned stack access off 1"));
    }

    #[test]
    fn every_program_has_something_that_is_lost_without_it() {
        for program in Modules::ALL
            .programs()
            .into_iter()
            .chain(tracepoints::all(Modules::ALL))
        {
            assert!(!lost_without(program).is_empty(), "{program}");
        }
        assert_eq!(
            lost_without("call_return").matches(',').count(),
            3,
            "a long list is cut: {}",
            lost_without("call_return")
        );
    }
}
