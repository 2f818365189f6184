//! Which of the kernel's tracepoints the programs of the same name are attached to.

use crate::kernel::btf::Types;
use crate::modules::{Modules, Tracepoint};

/// Which processes begin and end. Every capture has them.
const ALWAYS: [Tracepoint; 3] = [
    Tracepoint {
        name: "sched_process_fork",
        lost: "children of a command or of a process that is followed",
    },
    Tracepoint {
        name: "sched_process_exec",
        lost: "programs that start later",
    },
    Tracepoint {
        name: "sched_process_exit",
        lost: "when processes end",
    },
];

/// Which sockets a thread uses (Linux 6.3), with the number of arguments: [`SOCKETS`] of them; and which files it
/// maps. Up to Linux 6.13 the last one has one more, a path that the kernel composes each time: that costs too much.
const OF_THEIR_OWN: [(&str, u32); 3] = [
    ("sock_send_length", 3),
    ("sock_recv_length", 3),
    ("mmap_lock_start_locking", 2),
];
const SOCKETS: usize = 2;

/// The same from system calls; every system call becomes a little slower.
const OF_SYSTEM_CALLS: &str = "sys_enter";

/// All that there are programs for.
pub(crate) fn all(modules: Modules) -> Vec<&'static str> {
    let wanted = modules.tracepoints().chain(&ALWAYS);
    wanted
        .map(|tracepoint| tracepoint.name)
        .chain(of_their_own())
        .chain([OF_SYSTEM_CALLS])
        .collect()
}

/// Those that provide what [`OF_SYSTEM_CALLS`] provides, at less cost.
pub(crate) fn of_their_own() -> [&'static str; 3] {
    OF_THEIR_OWN.map(|(name, _)| name)
}

/// The information that is missing without one of them, for a message.
pub(crate) fn lost_without(name: &str) -> Option<&'static str> {
    let mut known = Modules::ALL.tracepoints().chain(&ALWAYS);
    if let Some(tracepoint) = known.find(|tracepoint| tracepoint.name == name) {
        return Some(tracepoint.lost);
    }
    if name == OF_SYSTEM_CALLS {
        return Some("addresses of connections, and libraries that are loaded later");
    }
    of_their_own()
        .contains(&name)
        .then_some("a cheaper way than system calls")
}

/// Returns true if a kernel with these types has all of [`of_their_own`].
pub(crate) fn are_cheap(types: &Types<'_>) -> bool {
    let as_expected = |&(name, arguments)| types.tracepoint_arguments(name) == Some(arguments);
    OF_THEIR_OWN.iter().all(as_expected)
}

/// The one beside those of sockets by which the owners of packets are known.
const OF_PACKETS: &str = "inet_sock_set_state";

/// Those to attach to in a kernel with these types, where `packets` are captured too.
pub(crate) fn chosen_with(
    modules: Modules,
    packets: bool,
    types: &Types<'_>,
    system_calls: bool,
) -> Vec<&'static str> {
    let mut chosen = chosen(modules, types, system_calls);
    if packets {
        let sockets = &of_their_own()[..SOCKETS];
        let by_system_calls = chosen.contains(&OF_SYSTEM_CALLS);
        let of_sockets = sockets.iter().copied().filter(|_| !by_system_calls);
        for name in of_sockets.chain([OF_PACKETS]) {
            if !chosen.contains(&name) {
                chosen.push(name);
            }
        }
    }
    chosen
}

/// Those to attach to in a kernel with these types.
pub(crate) fn chosen(modules: Modules, types: &Types<'_>, system_calls: bool) -> Vec<&'static str> {
    let left_out = if !system_calls && are_cheap(types) {
        &[OF_SYSTEM_CALLS][..]
    } else {
        &of_their_own()
    };
    let sockets = if modules.need_sockets() {
        &[]
    } else {
        &of_their_own()[..SOCKETS]
    };
    let mut chosen = all(modules);
    chosen.retain(|name| !left_out.contains(name) && !sockets.contains(name));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::btf::tests::with_tracepoints;

    fn chosen_of(tracepoints: &[(&str, u32)], system_calls: bool) -> Vec<&'static str> {
        let bytes = with_tracepoints(tracepoints);
        chosen(Modules::TLS, &Types::parse(&bytes).unwrap(), system_calls)
    }

    #[test]
    fn only_modules_with_sockets_look_at_them() {
        let bytes = with_tracepoints(&OF_THEIR_OWN);
        let types = Types::parse(&bytes).unwrap();
        let chosen = chosen(Modules::named("bash").unwrap(), &types, false);
        let of_processes = ["sched_process_fork", "sched_process_exec", "sched_process_exit"];
        assert_eq!(chosen, [&of_processes[..], &["mmap_lock_start_locking"]].concat());
    }

    #[test]
    fn system_calls_are_looked_at_only_where_there_is_no_other_way() {
        let always = [
            "inet_sock_set_state",
            "tcp_destroy_sock",
            "sched_process_fork",
            "sched_process_exec",
            "sched_process_exit",
        ];
        assert_eq!(
            chosen_of(&OF_THEIR_OWN, false),
            [&always[..], &of_their_own()].concat()
        );
        let from_system_calls = [&always[..], &[OF_SYSTEM_CALLS]].concat();
        assert_eq!(chosen_of(&OF_THEIR_OWN, true), from_system_calls);
        assert_eq!(chosen_of(&OF_THEIR_OWN[..2], false), from_system_calls);
        let older =
            OF_THEIR_OWN.map(|(name, arguments)| (name, arguments + u32::from(name.starts_with("mmap"))));
        assert_eq!(chosen_of(&older, false), from_system_calls);
    }
}
