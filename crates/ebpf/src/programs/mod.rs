//! The programs that run in the kernel, one file per family of hooks.
//!
//! ```text
//! openssl, gnutls, nss,
//! rustls_ffi, rustls ───► call ─► delivery ─► EVENTS (ring buffer) ─► user space
//!                          ▲   ▲      ▲
//!        syscall ─► thread ┘   │      │
//!                              │      │
//!   identity (fd → socket) ────┴─ go ─┘
//!          socket, process ─────────► close records
//!          pressure: who may put how much into the ring
//!  syscall, process ─► discovery ──► FILES (ring buffer) ─► user space
//! ```

mod call;
mod counters;
mod delivery;
mod discovery;
mod filter;
mod gnutls;
mod go;
mod identity;
mod lateness;
mod maps;
mod memory;
mod nss;
mod openssl;
mod pressure;
mod process;
mod rustls;
mod rustls_ffi;
mod socket;
mod state;
mod syscall;
mod tables;
mod thread;

/// Programs that use the kernel's GPL-only helpers must say so.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
