//! Processes of which a connection was ended here while the kernel may go on counting its bytes.
//!
//! A session may go on behind the end of its socket, or after its connection was let go. Its next event
//! does not begin at offset 0, and nothing is missing before it; so nothing is claimed there.

use std::collections::{HashSet, VecDeque};

use crate::limits::PipelineLimits;

/// The latest of them, at most [`PipelineLimits::ENDED_SESSIONS`].
#[derive(Debug, Default)]
pub(super) struct EndedSessions {
    pids: HashSet<u32>,
    order: VecDeque<u32>,
}

impl EndedSessions {
    pub(super) fn add(&mut self, pid: u32) {
        if !self.pids.insert(pid) {
            return;
        }
        self.order.push_back(pid);
        if self.order.len() > PipelineLimits::ENDED_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.pids.remove(&oldest);
        }
    }

    pub(super) fn contains(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }
}
