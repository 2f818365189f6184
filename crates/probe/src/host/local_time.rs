//! The time zone of this host, or the one that the variable TZ names.

/// Local time minus UTC, in seconds, at a time in seconds since 1970. 0 where the zone is not known.
#[expect(unsafe_code, reason = "no safe wrapper among the dependencies")]
pub fn utc_offset_s(seconds: i64) -> i32 {
    // SAFETY: all-zero bytes are a valid `tm`; its pointer is only read by C code that sets it.
    let mut local: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to initialized memory of this frame.
    let found = unsafe { libc::localtime_r(&raw const seconds, &raw mut local) };
    if found.is_null() {
        return 0;
    }
    i32::try_from(local.tm_gmtoff).unwrap_or(0)
}
