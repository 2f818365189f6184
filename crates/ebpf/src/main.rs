//! The kernel programs. On any other target than BPF this is an empty program, so that the
//! whole workspace builds with a stable compiler.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
