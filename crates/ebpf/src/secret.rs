//! Secrets of TLS handshakes: their record in the ring buffer, and where a library keeps the client's random.

use core::mem::offset_of;

use crate::record::{DecodeError, Fields};

/// [`SecretRecord::kind`].
pub const KIND_SECRET: u32 = 16;
/// Bytes of the client's random.
pub const RANDOM_BYTES: usize = 32;
/// Room for a label: `CLIENT_HANDSHAKE_TRAFFIC_SECRET` and a NUL.
pub const LABEL_BYTES: usize = 32;
/// Room for a secret: the output of SHA-512.
pub const SECRET_BYTES: usize = 64;

/// A secret that a library derived.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretRecord {
    /// [`KIND_SECRET`].
    pub kind: u32,
    /// Bytes of [`Self::secret`].
    pub secret_length: u32,
    /// `CLOCK_MONOTONIC` in nanoseconds.
    pub timestamp_ns: u64,
    /// Thread group id.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Real user id.
    pub uid: u32,
    /// Bytes of [`Self::label`].
    pub label_length: u32,
    /// Thread name.
    pub comm: [u8; 16],
    /// `ClientHello.random`
    pub client_random: [u8; RANDOM_BYTES],
    /// The label of the derivation, without `tls13 `, or that in a key log.
    pub label: [u8; LABEL_BYTES],
    /// The secret.
    pub secret: [u8; SECRET_BYTES],
}

/// Bytes of a [`SecretRecord`].
pub const SECRET_RECORD_BYTES: usize = size_of::<SecretRecord>();

const _: () = assert!(SECRET_RECORD_BYTES == 176);
const _: () = assert!(offset_of!(SecretRecord, client_random) == 48);

impl SecretRecord {
    /// Reads the record as it lies in the ring.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut fields = Fields::new(bytes, SECRET_RECORD_BYTES)?;
        Ok(Self {
            kind: fields.u32(),
            secret_length: fields.u32(),
            timestamp_ns: fields.u64(),
            pid: fields.u32(),
            tid: fields.u32(),
            uid: fields.u32(),
            label_length: fields.u32(),
            comm: fields.array(),
            client_random: fields.array(),
            label: fields.array(),
            secret: fields.array(),
        })
    }

    /// Returns the label, as far as it is in the record.
    pub fn label(&self) -> &[u8] {
        prefix(&self.label, self.label_length)
    }

    /// Returns the secret, as far as it is in the record.
    pub fn secret(&self) -> &[u8] {
        prefix(&self.secret, self.secret_length)
    }
}

fn prefix(bytes: &[u8], length: u32) -> &[u8] {
    bytes.get(..length as usize).unwrap_or(bytes)
}

/// Where a library keeps the client's random, seen from its session object. The upper half of a probe's cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomPlace {
    /// Offset of the pointer to the structure that contains it; `None` if the session object does itself.
    pub pointer: Option<u16>,
    /// Offset in that structure.
    pub offset: u16,
}

impl RandomPlace {
    /// Returns it as a number; 0 stands for an unknown place. No library has the random at the beginning.
    pub const fn encode(self) -> u32 {
        let pointer = match self.pointer {
            Some(pointer) => pointer as u32,
            None => 0,
        };
        pointer << 16 | self.offset as u32
    }

    /// Returns the place that a number stands for.
    pub const fn decode(number: u32) -> Option<Self> {
        let pointer = (number >> 16) as u16;
        match number {
            0 => None,
            number => Some(Self {
                pointer: if pointer == 0 { None } else { Some(pointer) },
                offset: (number & 0xFFFF) as u16,
            }),
        }
    }
}

/// Where rustls keeps the length of a secret, in bytes from its beginning: `OkmBlock { buf: [u8; 64], used: usize }`.
pub const OKM_LENGTH_AT: u32 = 64;

/// A register that functions keep, or the stack pointer (System V ABI for x86-64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names of registers")]
pub enum HeldRegister {
    Rbx,
    Rbp,
    StackPointer,
    R12,
    R13,
    R14,
    R15,
}

/// What a register leads to. Two of them are the cookie of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPlace {
    /// The register.
    pub register: HeldRegister,
    /// So many bytes from where it points, less than 2^23 in either direction.
    pub offset: i32,
    /// There is the address of what is meant, not itself.
    pub is_pointer: bool,
}

impl HeldPlace {
    /// `None` if the offset is too large.
    pub const fn new(register: HeldRegister, offset: i32, is_pointer: bool) -> Option<Self> {
        if offset << 8 >> 8 != offset {
            return None;
        }
        Some(Self {
            register,
            offset,
            is_pointer,
        })
    }

    /// Returns it as a number that is not 0.
    pub const fn encode(self) -> u32 {
        let flag = if self.is_pointer { 0x80 } else { 0 };
        self.offset.cast_unsigned() << 8 | flag | (self.register as u32 + 1)
    }

    /// Returns the place that a number stands for.
    pub const fn decode(number: u32) -> Option<Self> {
        let register = match number & 0x7F {
            1 => HeldRegister::Rbx,
            2 => HeldRegister::Rbp,
            3 => HeldRegister::StackPointer,
            4 => HeldRegister::R12,
            5 => HeldRegister::R13,
            6 => HeldRegister::R14,
            7 => HeldRegister::R15,
            _ => return None,
        };
        Some(Self {
            register,
            offset: number.cast_signed() >> 8,
            is_pointer: number & 0x80 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    extern crate std;
    use std::vec::Vec;

    #[test]
    fn fields_stand_where_the_kernel_writes_them() {
        let mut bytes = Vec::new();
        for word in [KIND_SECRET, 48] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(7u64.to_ne_bytes());
        for word in [1u32, 2, 3, 12] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend([1; RANDOM_BYTES]);
        bytes.extend(*b"c hs traffic\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend([9; SECRET_BYTES]);
        let record = SecretRecord::decode(&bytes).unwrap();
        assert_eq!(record.label(), b"c hs traffic");
        assert_eq!(record.secret(), [9; 48]);
        assert_eq!(
            (record.timestamp_ns, record.pid, record.tid, record.uid),
            (7, 1, 2, 3)
        );
        assert_eq!(record.client_random, [1; 32]);
        for length in 0..bytes.len() {
            assert!(SecretRecord::decode(&bytes[..length]).is_err());
        }
    }

    #[test]
    fn a_place_is_a_number() {
        let places = [(None, 0x160), (Some(0xa8), 0xb8), (Some(0x30), 0)];
        for (pointer, offset) in places {
            let place = RandomPlace { pointer, offset };
            assert_eq!(RandomPlace::decode(place.encode()), Some(place));
        }
        assert_eq!(RandomPlace::decode(0), None);
    }

    #[test]
    fn what_a_register_leads_to_is_a_number() {
        for register in [HeldRegister::Rbx, HeldRegister::StackPointer, HeldRegister::R15] {
            for offset in [0, -8, 0x578, 0x7F_FFFF, -0x80_0000] {
                for is_pointer in [false, true] {
                    let place = HeldPlace::new(register, offset, is_pointer).unwrap();
                    assert_eq!(HeldPlace::decode(place.encode()), Some(place));
                }
            }
        }
        assert_eq!(HeldPlace::new(HeldRegister::Rbx, 0x80_0000, false), None);
        assert_eq!(HeldPlace::decode(0), None);
    }
}
