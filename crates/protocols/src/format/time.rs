//! Times as formats write them.

use crate::write::{decimal_digit, push_number};

const NANOSECONDS: i64 = 1_000_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// Days in the 400 years after which the Gregorian calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

/// Appends `YYYY-MM-DDThh:mm:ss.nnnnnnnnnZ` for nanoseconds since 1970.
pub(super) fn push(nanoseconds: i64, out: &mut Vec<u8>) {
    let seconds = nanoseconds.div_euclid(NANOSECONDS);
    let (year, month, day) = date(seconds.div_euclid(SECONDS_PER_DAY));
    let second = seconds.rem_euclid(SECONDS_PER_DAY);
    let mut text = *b"0000-00-00T00:00:00.000000000Z";
    fill(&mut text[0..4], year);
    fill(&mut text[5..7], month);
    fill(&mut text[8..10], day);
    fill(&mut text[11..13], second / 3600);
    fill(&mut text[14..16], second / 60 % 60);
    fill(&mut text[17..19], second % 60);
    fill(&mut text[20..29], nanoseconds.rem_euclid(NANOSECONDS));
    out.extend_from_slice(&text);
}

/// Appends `YYYY-MM-DDThh:mm:ss.uuuuuu+hh:mm` for nanoseconds since 1970, in a zone whose time is
/// `utc_offset_s` seconds ahead of UTC.
pub fn push_local(nanoseconds: i64, utc_offset_s: i32, out: &mut Vec<u8>) {
    let start = out.len();
    push(local(nanoseconds, utc_offset_s), out);
    out.truncate(start + "0000-00-00T00:00:00.000000".len());
    let minutes = i64::from(utc_offset_s / 60);
    let mut zone = *b"+00:00";
    if minutes < 0 {
        zone[0] = b'-';
    }
    fill(&mut zone[1..3], minutes.abs() / 60);
    fill(&mut zone[4..6], minutes.abs() % 60);
    out.extend_from_slice(&zone);
}

/// Appends `hh:mm:ss.uuuuuu` of that time.
pub(super) fn push_time_of_day(nanoseconds: i64, utc_offset_s: i32, out: &mut Vec<u8>) {
    push_clock(
        local(nanoseconds, utc_offset_s).rem_euclid(SECONDS_PER_DAY * NANOSECONDS),
        out,
    );
}

/// Appends `hh:mm:ss.uuuuuu` for nanoseconds since any moment; hours have at least two digits.
pub(super) fn push_clock(nanoseconds: i64, out: &mut Vec<u8>) {
    let seconds = nanoseconds / NANOSECONDS;
    let hours = seconds / 3600;
    if hours < 10 {
        out.push(b'0');
    }
    push_number(hours.unsigned_abs(), out);
    let mut text = *b":00:00.000000";
    fill(&mut text[1..3], seconds / 60 % 60);
    fill(&mut text[4..6], seconds % 60);
    fill(&mut text[7..13], nanoseconds % NANOSECONDS / 1000);
    out.extend_from_slice(&text);
}

fn local(nanoseconds: i64, utc_offset_s: i32) -> i64 {
    nanoseconds.saturating_add(i64::from(utc_offset_s) * NANOSECONDS)
}

/// Returns year, month and day of a day counted from 1970-01-01. Years are counted from March, so
/// that the leap day is the last day of a year.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + EPOCH;
    let day_of_era = day.rem_euclid(DAYS_PER_ERA);
    // Leap days before this day: one every 4 years, none every 100, one every 400.
    let leap_days = day_of_era / 1_460 - day_of_era / 36_524 + day_of_era / (DAYS_PER_ERA - 1);
    let year_of_era = (day_of_era - leap_days) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // From March on the months have 31, 30, 31, 30, 31 days, over and over: 153 in five.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + day.div_euclid(DAYS_PER_ERA) * 400 + i64::from(month <= 2);
    (year, month, day_of_month)
}

/// Writes the last decimal digits.
fn fill(digits: &mut [u8], value: i64) {
    let mut rest = value.unsigned_abs();
    for digit in digits.iter_mut().rev() {
        *digit = decimal_digit(rest);
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(nanoseconds: i64) -> String {
        let mut out = Vec::new();
        push(nanoseconds, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_times() {
        for (nanoseconds, expected) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400 * NANOSECONDS, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199 * NANOSECONDS + 5, "2024-02-29T23:59:59.000000005Z"),
            (1_735_689_600 * NANOSECONDS, "2025-01-01T00:00:00.000000000Z"),
            (4_107_542_400 * NANOSECONDS, "2100-03-01T00:00:00.000000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(written(nanoseconds), expected);
        }
    }

    #[test]
    fn local_times_name_their_zone() {
        let nanoseconds = 1_709_251_199 * NANOSECONDS + 123_456_789;
        for (offset, full, of_day) in [
            (0, "2024-02-29T23:59:59.123456+00:00", "23:59:59.123456"),
            (3600, "2024-03-01T00:59:59.123456+01:00", "00:59:59.123456"),
            (-12_600, "2024-02-29T20:29:59.123456-03:30", "20:29:59.123456"),
            (20_700, "2024-03-01T05:44:59.123456+05:45", "05:44:59.123456"),
        ] {
            let (mut both, mut time) = (Vec::new(), Vec::new());
            push_local(nanoseconds, offset, &mut both);
            push_time_of_day(nanoseconds, offset, &mut time);
            assert_eq!((both, time), (full.into(), of_day.into()));
        }
    }

    #[test]
    fn clocks_count_hours() {
        for (seconds, expected) in [
            (0, "00:00:00.000000"),
            (3_723, "01:02:03.000000"),
            (360_000, "100:00:00.000000"),
        ] {
            let mut out = Vec::new();
            push_clock(seconds * NANOSECONDS, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn dates_are_consecutive() {
        let mut expected = (1600, 1, 1);
        for day in -135_140..300_000 {
            assert_eq!(date(day), expected);
            let (year, month, day) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, day) {
                (12, 31) => (year + 1, 1, 1),
                (_, day) if day == length => (year, month + 1, 1),
                _ => (year, month, day + 1),
            };
        }
    }
}
