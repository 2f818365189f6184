//! Which container a process runs in, by the path of its cgroup.

use std::fs;

/// Length of the names that Docker, containerd, CRI-O and Podman give: a hash in hexadecimal digits.
const HASH_LENGTH: usize = 64;
/// Longest name of an LXC container that is reported, in bytes.
const NAME_LIMIT: usize = 64;

/// The container that a process runs in now.
pub(crate) fn of(pid: u32) -> Option<String> {
    let cgroups = fs::read(super::folder(pid).join("cgroup")).ok()?;
    // Names of cgroups are bytes; one that is not text is not a container's.
    container_id(&String::from_utf8_lossy(&cgroups)).map(str::to_owned)
}

/// The innermost container that `/proc/PID/cgroup` names.
fn container_id(cgroups: &str) -> Option<&str> {
    let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.find_map(|path| {
        let folders: Vec<_> = path.split('/').collect();
        (0..folders.len())
            .rev()
            .find_map(|index| hash(folders[index]).or_else(|| lxc(&folders[..=index])))
    })
}

/// `HASH` as cgroupfs drivers name it, and `RUNTIME-HASH.scope` as systemd does. A `conmon` watches over a
/// container from outside.
fn hash(folder: &str) -> Option<&str> {
    let unit = folder.strip_suffix(".scope").unwrap_or(folder);
    let (runtime, hash) = unit.rsplit_once(['-', ':']).unwrap_or(("", unit));
    let is_hash = hash.len() == HASH_LENGTH && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hash && !runtime.ends_with("conmon")).then_some(hash)
}

/// `lxc.payload.NAME`, and before LXC 4 `lxc/NAME`.
fn lxc<'a>(folders: &[&'a str]) -> Option<&'a str> {
    let name = match folders {
        [.., "lxc" | "lxc.payload", name] => name,
        [.., folder] => folder.strip_prefix("lxc.payload.")?,
        [] => return None,
    };
    (1..=NAME_LIMIT).contains(&name.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[test]
    fn every_runtime_is_recognized() {
        for path in [
            "/docker/HASH",
            "/system.slice/docker-HASH.scope",
            "/system.slice/docker-HASH.scope/init.scope",
            "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-HASH.scope/container",
            "/machine.slice/libpod-HASH.scope",
            "/default/HASH",
            "/system.slice/containerd.service/kubepods-besteffort-pod1_2.slice:cri-containerd:HASH",
            "/kubepods/besteffort/pod12345678-9abc-def0-1234-56789abcdef0/HASH",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-HASH.scope",
            "/kubepods.slice/kubepods-pod1_2.slice/crio-HASH.scope",
            "/docker/OTHER/kubelet/kubepods/pod1/HASH",
            "/../../docker/HASH",
        ] {
            let path = path.replace("HASH", HASH).replace("OTHER", OTHER);
            for line in [format!("0::{path}\n"), format!("5:cpu,cpuacct:{path}\n0::/\n")] {
                assert_eq!(container_id(&line), Some(HASH), "{line}");
            }
        }
        for path in [
            "/lxc/web",
            "/lxc.payload.web",
            "/lxc.payload/web",
            "/lxc.payload.web/system.slice/a.service",
        ] {
            assert_eq!(container_id(&format!("0::{path}\n")), Some("web"), "{path}");
        }
    }

    #[test]
    fn what_is_no_container_has_no_name() {
        let conmon = format!("0::/machine.slice/libpod-conmon-{HASH}.scope\n");
        let short = "0::/docker/0123456789ab\n";
        let long = format!("0::/docker/{HASH}0\n");
        for cgroups in [
            "",
            "0::/\n",
            "nonsense",
            "0::/system.slice/ssh.service\n",
            "0::/lxc.monitor.web\n",
            "0::/lxc/\n",
            short,
            &conmon,
            &long,
        ] {
            assert_eq!(container_id(cgroups), None, "{cgroups}");
        }
    }
}
