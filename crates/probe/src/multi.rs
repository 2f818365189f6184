//! Uprobes by `BPF_LINK_CREATE` with `uprobe_multi` (Linux 6.6), which aya 0.14 does not know: the
//! programs must be loaded for it, so they are loaded here, from the same object and with aya's maps.
//!
//! A uprobe by `perf_event_open` is registered and removed under one lock of the whole host
//! (`event_mutex`), and its removal waits for two grace periods of RCU tasks trace with that lock
//! held: whatever else attaches meanwhile, as the next capture, waits for each probe of the last one.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya::Ebpf;
use aya::maps::Map;
use aya_obj::btf::BtfFeatures;
use aya_obj::generated::{bpf_attach_type, bpf_cmd, bpf_prog_type};
use aya_obj::{Features, Function, Object, ProgramSection};

/// `BPF_F_UPROBE_MULTI_RETURN`
const AT_RETURN: u32 = 1;

/// Loaded programs with their links.
pub(crate) struct MultiUprobes {
    programs: HashMap<&'static str, Program>,
    links: Vec<OwnedFd>,
}

struct Program {
    descriptor: OwnedFd,
    flags: u32,
}

impl MultiUprobes {
    /// Loads the programs `names` of an object whose maps `ebpf` has made. The error says why this
    /// kernel or object cannot be used that way.
    pub(crate) fn load(object: &[u8], ebpf: &Ebpf, names: &[&'static str]) -> Result<Self, String> {
        let mut object = Object::parse(object).map_err(|error| error.to_string())?;
        let types = load_types(&mut object)?;
        link(&mut object, ebpf)?;
        let mut programs = HashMap::new();
        for &name in names {
            let program = object
                .programs
                .get(name)
                .ok_or_else(|| format!("no program {name}"))?;
            let function = object.functions.get(&program.function_key());
            let function = function.ok_or_else(|| format!("no code of {name}"))?;
            let descriptor = load_program(function, &object.license, &types)
                .map_err(|error| format!("program {name}: {error}"))?;
            let flags = match program.section {
                ProgramSection::URetProbe { .. } => AT_RETURN,
                _ => 0,
            };
            programs.insert(name, Program { descriptor, flags });
        }
        Ok(Self {
            programs,
            links: Vec::new(),
        })
    }

    /// Attaches a program at these offsets of the file `path`, for one process when `pid` is not 0. It can
    /// ask for the `cookie`.
    pub(crate) fn attach(
        &mut self,
        program: &str,
        offsets: &[u64],
        path: &Path,
        pid: u32,
        cookie: u64,
    ) -> io::Result<()> {
        let program = self.programs.get(program).ok_or(io::ErrorKind::NotFound)?;
        let path = CString::new(path.as_os_str().as_bytes())?;
        let cookies = vec![cookie; offsets.len()];
        let attributes = CreateLink {
            program: program.descriptor.as_raw_fd(),
            attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
            path: address(path.as_bytes_with_nul()),
            offsets: address(offsets),
            cookies: address(&cookies),
            count: length(offsets.len()),
            uprobe_flags: program.flags,
            pid,
            ..CreateLink::default()
        };
        self.links.push(call(bpf_cmd::BPF_LINK_CREATE, &attributes)?);
        Ok(())
    }
}

/// The object's own type information, without which the verifier refuses callbacks.
fn load_types(object: &mut Object) -> Result<OwnedFd, String> {
    let all = BtfFeatures::new(true, true, true, true, true, true, true, true);
    let types = object
        .fixup_and_sanitize_btf(&all)
        .map_err(|error| error.to_string())?;
    let bytes = types.ok_or("no type information in the object")?.to_bytes();
    let attributes = LoadTypes {
        types: address(&bytes),
        size: length(bytes.len()),
        ..LoadTypes::default()
    };
    call(bpf_cmd::BPF_BTF_LOAD, &attributes).map_err(|error| format!("type information: {error}"))
}

/// Puts the maps and the called functions into the programs' code.
fn link(object: &mut Object, ebpf: &Ebpf) -> Result<(), String> {
    let descriptors: HashMap<&str, RawFd> = ebpf
        .maps()
        .filter_map(|(name, map)| Some((name, descriptor(map)?)))
        .collect();
    let maps = object.maps.clone();
    let maps = maps
        .iter()
        .filter_map(|(name, map)| Some((name.as_str(), *descriptors.get(name.as_str())?, map)));
    let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    object
        .relocate_maps(maps, &sections)
        .map_err(|error| error.to_string())?;
    object
        .relocate_calls(&sections)
        .map_err(|error| error.to_string())?;
    let all = BtfFeatures::new(true, true, true, true, true, true, true, true);
    object.sanitize_functions(&Features::new(
        true,
        true,
        true,
        true,
        true,
        true,
        true,
        Some(all),
    ));
    Ok(())
}

fn descriptor(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(data)
        | Map::CgroupArray(data)
        | Map::HashMap(data)
        | Map::LruHashMap(data)
        | Map::PerCpuArray(data)
        | Map::RingBuf(data) => Some(data.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}

fn load_program(function: &Function, license: &CString, types: &OwnedFd) -> io::Result<OwnedFd> {
    let functions = function.func_info.func_info_bytes();
    let lines = function.line_info.line_info_bytes();
    let attributes = LoadProgram {
        program_type: bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32,
        instruction_count: length(function.instructions.len()),
        instructions: address(&function.instructions),
        license: address(license.as_bytes_with_nul()),
        expected_attach_type: bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32,
        types: types.as_raw_fd(),
        function_record_size: length(function.func_info_rec_size),
        functions: address(&functions),
        function_count: length(function.func_info.len()),
        line_record_size: length(function.line_info_rec_size),
        lines: address(&lines),
        line_count: length(function.line_info.len()),
        ..LoadProgram::default()
    };
    call(bpf_cmd::BPF_PROG_LOAD, &attributes)
}

/// `bpf_attr` of `BPF_BTF_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadTypes {
    types: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    log_true_size: u32,
}

/// `bpf_attr` of `BPF_PROG_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadProgram {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
    types: RawFd,
    function_record_size: u32,
    functions: u64,
    function_count: u32,
    line_record_size: u32,
    lines: u64,
    line_count: u32,
    attach_type_id: u32,
}

/// `bpf_attr` of `BPF_LINK_CREATE`.
#[repr(C)]
#[derive(Default)]
struct CreateLink {
    program: RawFd,
    target: u32,
    attach_type: u32,
    flags: u32,
    path: u64,
    offsets: u64,
    reference_counters: u64,
    cookies: u64,
    count: u32,
    uprobe_flags: u32,
    pid: u32,
    padding: u32,
}

const _: () = assert!(size_of::<LoadTypes>() == 32);
const _: () = assert!(size_of::<LoadProgram>() == 112);
const _: () = assert!(size_of::<CreateLink>() == 64);

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Where the kernel finds the values. They must live until the call returns.
fn address<T>(values: &[T]) -> u64 {
    values.as_ptr().addr() as u64
}

/// A `bpf` system call that gives a descriptor. `attributes` is one of the structures above.
#[expect(unsafe_code, reason = "aya offers no way to load or attach for uprobe_multi")]
fn call<T>(command: bpf_cmd, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the structures are laid out as the kernel's and hold addresses of what lives until
    // the call returns; the kernel only reads them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_long,
            &raw const *attributes,
            size_of::<T>(),
        )
    };
    match RawFd::try_from(result) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}
