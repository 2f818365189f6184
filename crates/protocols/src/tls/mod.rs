//! Decrypts TLS 1.2 (RFC 5246) and 1.3 (RFC 8446) as a bystander who has the key log.
//!
//! [`KeyLog`] holds the secrets, [`Session`] follows one connection: bytes of both directions in, plaintext
//! out. Nothing is verified but what has to be: whoever captured the packets was not a party to the handshake.

mod cbc;
mod cipher;
mod derive;
mod half;
mod handshake;
mod key_log;
mod record;
mod session;
mod suite;
#[cfg(test)]
mod tests;

pub use key_log::{Added, KeyLog};
pub use session::{Obstacle, Plaintext, Session};
