//! The features of this kernel. The kernel itself is asked, because distributions add to old releases.

use std::fs;
use std::sync::LazyLock;

use aya::programs::ProgramType;
use aya::sys::{BpfHelper, is_helper_supported};

use crate::host;
use crate::kernel::btf::Types;
use crate::kernel::loading::uprobe_multi_works;
use crate::kernel::tracepoints;

/// Series of kernels of this architecture on which every row of `tests/kernels` was seen to be as expected, see
/// `tests/kernels.md`.
#[cfg(not(target_arch = "aarch64"))]
pub const TESTED: &[(u32, u32)] = &[(5, 10), (6, 1), (6, 12), (6, 18), (7, 2)];
/// The same of arm64, on emulated machines.
#[cfg(target_arch = "aarch64")]
pub const TESTED: &[(u32, u32)] = &[(6, 1), (6, 12), (7, 2)];

/// Something that a capture uses where the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// The kernel's name for it.
    pub name: &'static str,
    /// The release that introduced it.
    pub since: (u32, u32),
    /// True if this kernel has it.
    pub present: bool,
    /// The consequence of its absence.
    pub without: &'static str,
}

/// All features that a capture can use, and whether this kernel has them. Needs the privileges of a capture.
pub fn features() -> [Feature; 4] {
    let feature = |name, since, present, without| Feature {
        name,
        since,
        present,
        without,
    };
    [
        feature(
            "uprobe_multi",
            (6, 6),
            has_multi(),
            "attaching waits while another tracer attaches or detaches",
        ),
        feature(
            "bpf_loop",
            (5, 17),
            has_loop(),
            "a call is captured up to 1 MiB, with rustls up to 128 KiB of each of 4 parts; the rest is counted",
        ),
        feature(
            "bpf_get_attach_cookie",
            (5, 15),
            has_cookie(),
            "a connection that was opened before its library was found may be marked as joined late although it was not",
        ),
        feature(
            "tracepoints of sockets and mmap",
            (6, 14),
            has_cheap_tracepoints(),
            "every system call on the host takes some 40 ns longer during a capture",
        ),
    ]
}

/// Links of `uprobe_multi` (Linux 6.6).
pub(crate) fn has_multi() -> bool {
    static HAS_MULTI: LazyLock<bool> = LazyLock::new(uprobe_multi_works);
    *HAS_MULTI
}

/// The helper `bpf_loop` (Linux 5.17).
pub(crate) fn has_loop() -> bool {
    static HAS_LOOP: LazyLock<bool> = LazyLock::new(|| has_helper(BpfHelper::BPF_FUNC_loop));
    *HAS_LOOP
}

/// Whether the programs can tell heads and content apart on this kernel: that takes `bpf_loop` (Linux 5.17).
pub fn can_leave_content_out() -> bool {
    has_loop()
}

/// The helper `bpf_get_attach_cookie` (Linux 5.15).
pub(crate) fn has_cookie() -> bool {
    static HAS_COOKIE: LazyLock<bool> = LazyLock::new(|| has_helper(BpfHelper::BPF_FUNC_get_attach_cookie));
    *HAS_COOKIE
}

/// A kernel that does not answer, because this is not root, runs no programs either.
fn has_helper(helper: BpfHelper) -> bool {
    is_helper_supported(ProgramType::KProbe, helper).unwrap_or(false)
}

fn has_cheap_tracepoints() -> bool {
    let bytes = fs::read(host::BTF_PATH).unwrap_or_default();
    Types::parse(&bytes).is_ok_and(|types| tracepoints::are_cheap(&types))
}
