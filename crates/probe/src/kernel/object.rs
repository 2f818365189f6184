//! The kernel object: embedded, or named by the environment for developers.

use std::borrow::Cow;
use std::env;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::file::library::Located;

/// Environment variable with the path of an object to use instead of the embedded one.
pub(crate) const OVERRIDE: &str = "ECAPTURE_BPF_OBJECT";

/// Far more than any object has, in bytes.
const OBJECT_BYTES: u64 = 64 * 1024 * 1024;
const OTHERS_WRITE: u32 = 0o022;

#[cfg(target_arch = "x86_64")]
static EMBEDDED: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/ecapture-x86_64.bpf.o");

#[cfg(target_arch = "aarch64")]
static EMBEDDED: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/ecapture-aarch64.bpf.o");

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("there is no kernel object for this architecture; see crates/ebpf/README.md");

/// The object's bytes. Whoever started this program may not choose what is loaded with privileges that he
/// does not have: with privileges gained by the file (set-user-ID, capabilities) the variable is ignored, as by
/// `secure_getenv(3)`, and the object must belong to root or to the effective user (`sudo -E`).
pub(crate) fn bytes() -> Result<Cow<'static, [u8]>, Error> {
    let Some(path) = env::var_os(OVERRIDE) else {
        return Ok(Cow::Borrowed(EMBEDDED));
    };
    if has_gained_privileges() {
        tracing::warn!("{OVERRIDE} is ignored: this program has privileges that its user does not have");
        return Ok(Cow::Borrowed(EMBEDDED));
    }
    let path = PathBuf::from(path);
    tracing::info!(path = %path.display(), "kernel object from {OVERRIDE}");
    match read(&path) {
        Ok(bytes) => Ok(Cow::Owned(bytes)),
        Err(source) => Err(Error::Object { path, source }),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let object = Located::at(path)?;
    let metadata = object.metadata();
    let owners = [0, effective_user()];
    if !owners.contains(&metadata.uid()) || metadata.mode() & OTHERS_WRITE != 0 {
        let refused = "others may write to it; make it root's own (chown root, chmod go-w)";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, refused));
    }
    let mut bytes = Vec::new();
    let opened = object.open(path.to_owned())?;
    opened.file().take(OBJECT_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// `AT_SECURE` of the auxiliary vector.
fn has_gained_privileges() -> bool {
    // SAFETY: it takes a plain number and returns one.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        libc::getauxval(libc::AT_SECURE) != 0
    }
}

fn effective_user() -> u32 {
    // SAFETY: it has no preconditions and cannot fail.
    #[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
    unsafe {
        libc::geteuid()
    }
}
