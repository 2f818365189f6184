//! A host that no capture has touched: no probes of another one, and a library that was never mapped.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::support::program::PATIENCE;

/// A folder with an OpenSSL of its own: other inodes than any that was ever mapped.
pub(crate) fn private_openssl(folder: &Path, name: &str) -> PathBuf {
    let copy = folder.join(name);
    fs::create_dir(&copy).expect("a new folder");
    for library in ["libssl.so.3", "libcrypto.so.3"] {
        fs::copy(system_library(library), copy.join(library)).expect("a copied library");
    }
    copy
}

fn system_library(name: &str) -> PathBuf {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"]
        .map(|folder| Path::new(folder).join(name))
        .into_iter()
        .find(|path| path.exists())
        .expect("OpenSSL 3 is installed")
}

/// Waits until no other capture's probes are being detached: until then none can be attached.
pub(crate) fn wait_until_detached() {
    let started = SystemTime::now();
    while is_detaching() {
        assert!(
            started.elapsed().unwrap_or_default() < 4 * PATIENCE,
            "probes are still being detached"
        );
        std::thread::yield_now();
    }
}

/// Returns true if probes of a capture that has ended are being detached.
pub(crate) fn is_detaching() -> bool {
    let is_name = |comm: String| comm.trim_end() == "ecapture-detach";
    fs::read_dir("/proc")
        .expect("proc")
        .flatten()
        .any(|entry| fs::read_to_string(entry.path().join("comm")).is_ok_and(is_name))
}
