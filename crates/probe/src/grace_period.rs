//! Attaching a probe waits for a grace period of RCU (`percpu_down_write` of `dup_mmap_sem` in the
//! kernel's `uprobe_register`). An ordinary one takes some timer ticks, 7 to 25 ms: enough for a
//! program that has just mapped its TLS library to send its first request. An expedited one takes
//! less than a millisecond, at the price of an interrupt on every processor.

use std::fs;

/// The kernel's switch (documentation, `ABI/testing/sysfs-kernel-rcu_expedited`), for the whole host.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// Grace periods are expedited while this lives.
pub(crate) struct Expedited {
    switched: bool,
}

impl Expedited {
    /// Where the switch is on already, or cannot be turned, nothing changes.
    pub(crate) fn begin() -> Self {
        let is_off = fs::read_to_string(SWITCH).is_ok_and(|value| value.trim() == "0");
        Self {
            switched: is_off && fs::write(SWITCH, "1").is_ok(),
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if self.switched
            && let Err(error) = fs::write(SWITCH, "0")
        {
            tracing::warn!("{SWITCH} stays 1: {error}; write 0 to it");
        }
    }
}
