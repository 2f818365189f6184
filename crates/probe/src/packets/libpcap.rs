//! Compiles filter expressions with the host's libpcap, which is loaded when an expression is given: its language is
//! what users know, and a second implementation of it would differ.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use ecapture_protocols::packet::{Filter, Instruction};
use ecapture_protocols::pcapng::LinkType;

use super::PacketError;

/// The library's names: of Debian, and of others.
const NAMES: [&CStr; 3] = [c"libpcap.so.0.8", c"libpcap.so.1", c"libpcap.so"];
/// The expression has no network mask: only `ip broadcast` needs one.
const MASK_UNKNOWN: u32 = u32::MAX;

/// `struct bpf_program`
#[repr(C)]
struct Program {
    length: u32,
    instructions: *const RawInstruction,
}

/// `struct bpf_insn`
#[repr(C)]
#[derive(Clone, Copy)]
struct RawInstruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    operand: u32,
}

type OpenDead = unsafe extern "C" fn(c_int, c_int) -> *mut c_void;
type Compile = unsafe extern "C" fn(*mut c_void, *mut Program, *const c_char, c_int, u32) -> c_int;
type GetError = unsafe extern "C" fn(*mut c_void) -> *const c_char;
type FreeCode = unsafe extern "C" fn(*mut Program);
type Close = unsafe extern "C" fn(*mut c_void);

/// The functions of the library, which stays loaded.
struct Library {
    open_dead: OpenDead,
    compile: Compile,
    get_error: GetError,
    free_code: FreeCode,
    close: Close,
}

/// Compiles an expression for packets of a link type that are cut to `snap_length` bytes.
pub(super) fn compile(
    expression: &str,
    link_type: LinkType,
    snap_length: u32,
) -> Result<Filter, PacketError> {
    let library = Library::load().ok_or(PacketError::NoLibpcap)?;
    let invalid = |reason: &str| PacketError::Expression {
        expression: expression.to_owned(),
        reason: reason.to_owned(),
    };
    let text = CString::new(expression).map_err(|_| invalid("it contains a NUL"))?;
    let instructions = library.run(&text, link_type, snap_length);
    let instructions = instructions.map_err(|reason| invalid(&reason))?;
    Filter::new(instructions).map_err(|error| invalid(&error.to_string()))
}

impl Library {
    #[expect(unsafe_code, reason = "only the dynamic loader knows the library")]
    fn load() -> Option<Self> {
        // SAFETY: the names are C strings; libpcap has no constructors that loading would run.
        let handle = NAMES.iter().find_map(|name| unsafe {
            let handle = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL);
            (!handle.is_null()).then_some(handle)
        })?;
        let symbol = |name: &CStr| {
            // SAFETY: the handle is open, the name a C string.
            let found = unsafe { libc::dlsym(handle, name.as_ptr()) };
            (!found.is_null()).then_some(found)
        };
        // SAFETY: these functions have these types in every release of libpcap (pcap.h).
        unsafe {
            Some(Self {
                open_dead: std::mem::transmute::<*mut c_void, OpenDead>(symbol(c"pcap_open_dead")?),
                compile: std::mem::transmute::<*mut c_void, Compile>(symbol(c"pcap_compile")?),
                get_error: std::mem::transmute::<*mut c_void, GetError>(symbol(c"pcap_geterr")?),
                free_code: std::mem::transmute::<*mut c_void, FreeCode>(symbol(c"pcap_freecode")?),
                close: std::mem::transmute::<*mut c_void, Close>(symbol(c"pcap_close")?),
            })
        }
    }

    #[expect(unsafe_code, reason = "calls of a C library")]
    fn run(&self, text: &CStr, link_type: LinkType, snap_length: u32) -> Result<Vec<Instruction>, String> {
        // `DLT_RAW` is 12 on Linux; all other link types here have the number of their DLT.
        let link = if link_type == LinkType::RAW {
            12
        } else {
            c_int::from(link_type.0)
        };
        let snap_length = c_int::try_from(snap_length).unwrap_or(c_int::MAX);
        // SAFETY: pcap_open_dead takes numbers, and its result is checked. pcap_compile fills the program only if it
        // returns 0; then it points to `length` instructions until pcap_freecode. The message belongs to the handle
        // and is copied before that is closed.
        unsafe {
            let handle = (self.open_dead)(link, snap_length);
            if handle.is_null() {
                return Err("libpcap does not know this kind of interface".to_owned());
            }
            let mut program = Program {
                length: 0,
                instructions: ptr::null(),
            };
            let compiled = (self.compile)(handle, &raw mut program, text.as_ptr(), 1, MASK_UNKNOWN);
            let result = if compiled == 0 && !program.instructions.is_null() {
                let raw = std::slice::from_raw_parts(program.instructions, program.length as usize);
                let instructions = raw.iter().copied().map(RawInstruction::checked).collect();
                (self.free_code)(&raw mut program);
                Ok(instructions)
            } else {
                let message = CStr::from_ptr((self.get_error)(handle));
                Err(message.to_string_lossy().into_owned())
            };
            (self.close)(handle);
            result
        }
    }
}

impl RawInstruction {
    const fn checked(self) -> Instruction {
        Instruction {
            code: self.code,
            if_true: self.if_true,
            if_false: self.if_false,
            operand: self.operand,
        }
    }
}
