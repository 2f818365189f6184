//! Connections to decode: built frame by frame, made by h2, or recorded.

pub(crate) mod exchange;
pub(crate) mod frames;
pub(crate) mod halves;

/// Returns one direction as printed text.
pub(crate) fn shown(pieces: &[Vec<u8>]) -> String {
    frames::text(halves::decode(halves::TEXT, pieces))
}
