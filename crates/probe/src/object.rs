//! The kernel object: embedded, or named by the environment for developers.

use std::borrow::Cow;
use std::env;
use std::fs;
use std::path::PathBuf;

use crate::Error;

/// Environment variable with the path of an object to use instead of the embedded one.
pub(crate) const OVERRIDE: &str = "ECAPTURE_BPF_OBJECT";

#[cfg(target_arch = "x86_64")]
static EMBEDDED: &[u8] = aya::include_bytes_aligned!("../../ebpf/object/ecapture-x86_64.bpf.o");

#[cfg(not(target_arch = "x86_64"))]
compile_error!("there is no kernel object for this architecture yet: crates/ebpf/README.md");

/// The object's bytes.
pub(crate) fn bytes() -> Result<Cow<'static, [u8]>, Error> {
    match env::var_os(OVERRIDE) {
        None => Ok(Cow::Borrowed(EMBEDDED)),
        Some(path) => {
            let path = PathBuf::from(path);
            tracing::info!(path = %path.display(), "kernel object from {OVERRIDE}");
            match fs::read(&path) {
                Ok(bytes) => Ok(Cow::Owned(bytes)),
                Err(source) => Err(Error::Object { path, source }),
            }
        }
    }
}
