//! What captures of statements take.

/// Reads an offset as the original does.
pub(super) fn offset(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| "expected a number of bytes, such as 8388608 or 0x800000".to_owned())
}
