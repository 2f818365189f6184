//! Layouts that the kernel programs and user space share. Both sides compile this crate, so
//! neither can drift from the other; records are decoded field by field, never transmuted.
#![no_std]

pub mod config;
pub mod counter;
pub mod discovery;
pub mod framing;
pub mod limits;
pub mod packet;
pub mod record;
pub mod secret;
pub mod share;
pub mod sql;
pub mod table;
