//! Header compression for HTTP/2 (RFC 7541), as a bystander has to read it.
//!
//! ```text
//!                 gap, stray or unreadable block
//!        ┌───────────────────────────────────────────┐
//!        ▼                                           │
//!   ┌──────────┐  block with insertions        ┌─────┴─────┐
//!   │ attached │ ────────────────────────────► │ attached, │
//!   │ table    │                               │ entries   │
//!   │ empty    │ ◄──── blocks ────┐            │ known from│
//!   └──────────┘                  └─────────── │ newest on │
//!        ▲                                     └───────────┘
//!        │ start of the connection: the empty table is the sender's own, nothing is unknown
//! ```
//!
//! A reference counts from the newest entry (RFC 7541 §2.3.3), so every entry inserted after the
//! decoder attached is found at the sender's own index. A reference beyond those is to an entry
//! that was never seen: its name and value are `None`, never a guess, and decoding continues.
//! Keeping an entry longer than the sender does is harmless, because the sender no longer refers to
//! it; losing count of insertions is not, so a caller that loses bytes must call
//! [`Decoder::forget`].

mod decoder;
mod huffman;
mod primitive;
mod static_table;
mod table;

pub use crate::message::BlockError;
pub use decoder::Decoder;
pub(crate) use decoder::reads_as_block;
