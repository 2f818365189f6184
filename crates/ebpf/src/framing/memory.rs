//! Calls whose bytes are in memory: for tests of what the kernel hands over.

use super::{Beginning, Call, Framing, WINDOW_BYTES, step};

/// The bytes of a call. Content becomes zeros as it is handed over.
struct InMemory<'call> {
    bytes: &'call mut [u8],
    /// Those handed over.
    sent: usize,
    /// Only bytes before this position can be read.
    readable: usize,
}

impl Framing {
    /// Replaces the content in the bytes of a call by zeros, which user space has instead of it. Those from `readable` on
    /// cannot be read.
    pub fn leave_out(&mut self, direction: usize, call: &Beginning, bytes: &mut [u8], readable: usize) {
        self.begin_call(direction, call);
        let [first, second] = &mut self.streams;
        let (stream, other) = if direction & 1 == 0 {
            (first, &*second)
        } else {
            (second, &*first)
        };
        let mut call = InMemory {
            bytes,
            sent: 0,
            readable,
        };
        while !step(stream, other, &mut call) {}
    }
}

impl Call for InMemory<'_> {
    fn read(&mut self, ahead: u64, window: &mut [u64; WINDOW_BYTES / 8], length: u32) -> bool {
        let (at, length) = (self.sent + ahead as usize, length as usize);
        let Some(bytes) = self.bytes.get(at..at + length) else {
            return false;
        };
        if at + length > self.readable {
            return false;
        }
        for (word, bytes) in window.iter_mut().zip(bytes.chunks(8)) {
            let mut all = [0; 8];
            all[..bytes.len()].copy_from_slice(bytes);
            *word = u64::from_ne_bytes(all);
        }
        true
    }

    fn send(&mut self, is_content: bool, length: u64) {
        let to = self.sent + length as usize;
        if is_content {
            self.bytes[self.sent..to].fill(0);
        }
        self.sent = to;
    }
}
