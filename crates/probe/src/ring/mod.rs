//! The ring buffer and the counters: from the kernel's records to events.

pub(crate) mod buffer;
pub(crate) mod counters;
pub(crate) mod decode;
pub(crate) mod events;
pub(crate) mod excluded;
pub(crate) mod joined_late;
pub(crate) mod origin;
pub(crate) mod secrets;
