//! The programs that run in the kernel, one file per family of hooks.
//!
//! ```text
//! openssl, gnutls, nss,
//! rustls_ffi, rustls ───► call ─► delivery ─► record ─► EVENTS (ring buffer) ─► user space
//!                          ▲   ▲      ▲
//!        syscall ─► thread ┘   │      │
//!                              │      │
//!   identity (fd → socket) ────┴─ go ─┘
//!          socket, process ─────────► close records
//!                       shell ──────► EVENTS
//!                    delivery ─► content ─► record: heads alone, where content is not wanted
//!          pressure: who may put how much into the ring
//!         secrets ───────────────► EVENTS: with the sessions of calls in progress
//!  syscall, process ─► discovery ──► FILES (ring buffer) ─► user space
//!  packet, owner ─► PACKETS (ring buffer) ─► user space
//!       └ expression: packets that nobody wants
//! ```

mod call;
mod content;
mod counters;
mod delivery;
mod discovery;
mod expression;
mod filter;
mod gnutls;
mod go;
mod identity;
mod lateness;
mod maps;
mod memory;
mod nss;
mod openssl;
mod owner;
mod packet;
mod pressure;
mod process;
mod record;
mod rustls;
mod rustls_ffi;
mod secrets;
mod shell;
mod socket;
mod sql;
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
