//! Support for several tests: the program as a process, servers to talk to, fixtures.

pub(crate) mod apache;
pub(crate) mod audit;
pub(crate) mod capture;
pub(crate) mod detached;
pub(crate) mod ends;
pub(crate) mod exchanges;
pub(crate) mod flows;
pub(crate) mod otlp;
pub(crate) mod program;
pub(crate) mod servers;
pub(crate) mod tshark;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The folder with the shared fixtures. Where it is not given the caller returns early; under CI its
/// absence is a failure.
pub(crate) fn shared() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("ECAPTURE_SHARED") {
        let folder = PathBuf::from(folder);
        assert!(
            folder.join("fixtures").is_dir(),
            "ECAPTURE_SHARED={} has no fixtures",
            folder.display()
        );
        return Some(folder);
    }
    assert!(
        std::env::var_os("ECAPTURE_REQUIRE_SHARED").is_none(),
        "ECAPTURE_SHARED is not set"
    );
    println!("SKIPPED: set ECAPTURE_SHARED to the folder with the shared fixtures");
    None
}

/// Only one capture at a time: each sees the whole host, other tests' transfers too.
static CAPTURE: Mutex<()> = Mutex::new(());

/// Checks that real capture can run: root, BTF, and the named programs. Says why not; under CI that fails.
/// While the guard lives no other test captures.
pub(crate) fn can_capture(programs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    let missing = programs.iter().find(|program| !on_path(program));
    let reason = if !nix_root() {
        Some("it needs root".to_owned())
    } else if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        Some("the kernel has no BTF".to_owned())
    } else {
        missing.map(|program| format!("{program} is not installed; `tests/run` installs it"))
    };
    let Some(reason) = reason else {
        return Some(CAPTURE.lock().unwrap_or_else(PoisonError::into_inner));
    };
    assert!(
        std::env::var_os("ECAPTURE_REQUIRE_PRIVILEGED").is_none(),
        "privileged test cannot run: {reason}"
    );
    println!("SKIPPED: {reason}");
    None
}

/// A stripped program with BoringSSL, which `tests/run` installs.
pub(crate) fn bun() -> String {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tmp/bun/node_modules/@oven");
    let name = if cfg!(target_arch = "x86_64") {
        "bun-linux-x64"
    } else {
        "bun-linux-aarch64"
    };
    let program = folder.join(name).join("bin/bun");
    program.to_str().expect("a plain path").to_owned()
}

fn nix_root() -> bool {
    // SAFETY: geteuid has no preconditions and cannot fail.
    #[expect(unsafe_code, reason = "no safe wrapper among the test's dependencies")]
    unsafe {
        libc::geteuid() == 0
    }
}

pub(crate) fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    program.starts_with('/') && std::path::Path::new(program).exists()
        || std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
