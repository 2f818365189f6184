//! The kernel's side: the object and its programs, how they are loaded, attached and detached.

pub(crate) mod attach;
pub(crate) mod attach_times;
pub(crate) mod btf;
pub(crate) mod detach;
pub(crate) mod grace_period;
pub(crate) mod loading;
pub(crate) mod object;
mod rcu_workers;
pub(crate) mod tables;
pub(crate) mod tracepoints;
