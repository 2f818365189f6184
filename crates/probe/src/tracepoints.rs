//! Which of the kernel's tracepoints the programs of the same name are attached to.

use crate::btf::Types;

/// Who connects, and which processes and connections begin and end.
const ALWAYS: [&str; 5] = [
    "inet_sock_set_state",
    "tcp_destroy_sock",
    "sched_process_fork",
    "sched_process_exec",
    "sched_process_exit",
];

/// Which sockets a thread uses (Linux 6.3) and which files it maps, with the number of arguments. Up to Linux
/// 6.13 the last one has one more, a path that the kernel composes each time: that costs too much.
const OF_THEIR_OWN: [(&str, u32); 3] = [
    ("sock_send_length", 3),
    ("sock_recv_length", 3),
    ("mmap_lock_start_locking", 2),
];

/// The same from system calls, every one of which becomes a little slower.
const OF_SYSTEM_CALLS: &str = "sys_enter";

/// All that there are programs for.
pub(crate) fn all() -> Vec<&'static str> {
    let own = OF_THEIR_OWN.iter().map(|&(name, _)| name);
    ALWAYS.into_iter().chain(own).chain([OF_SYSTEM_CALLS]).collect()
}

/// Those to attach to in a kernel with these types.
pub(crate) fn chosen(types: &Types<'_>, system_calls: bool) -> Vec<&'static str> {
    let as_expected = |&(name, arguments)| types.tracepoint_arguments(name) == Some(arguments);
    let left_out = if !system_calls && OF_THEIR_OWN.iter().all(as_expected) {
        &[OF_SYSTEM_CALLS][..]
    } else {
        &OF_THEIR_OWN.map(|(name, _)| name)
    };
    let mut chosen = all();
    chosen.retain(|name| !left_out.contains(name));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::btf::tests::with_tracepoints;

    fn chosen_of(tracepoints: &[(&str, u32)], system_calls: bool) -> Vec<&'static str> {
        let bytes = with_tracepoints(tracepoints);
        chosen(&Types::parse(&bytes).unwrap(), system_calls)
    }

    #[test]
    fn system_calls_are_looked_at_only_where_there_is_no_other_way() {
        let own = OF_THEIR_OWN.map(|(name, _)| name);
        assert_eq!(chosen_of(&OF_THEIR_OWN, false), [&ALWAYS[..], &own].concat());
        let from_system_calls = [&ALWAYS[..], &[OF_SYSTEM_CALLS]].concat();
        assert_eq!(chosen_of(&OF_THEIR_OWN, true), from_system_calls);
        assert_eq!(chosen_of(&OF_THEIR_OWN[..2], false), from_system_calls);
        let older =
            OF_THEIR_OWN.map(|(name, arguments)| (name, arguments + u32::from(name.starts_with("mmap"))));
        assert_eq!(chosen_of(&older, false), from_system_calls);
    }
}
