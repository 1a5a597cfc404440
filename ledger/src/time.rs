//! Times and UTC days as the protocol writes them. Reads no clock.
use core::fmt;
use core::str::FromStr;

use bincode::{Decode, Encode};

use crate::limits;

/// Milliseconds in a UTC day, leap seconds not counted.
pub const DAY_MILLIS: u64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Millis(pub u64);

/// Days since 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Day(pub u32);

/// Why a time or date was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// Not `YYYY-MM-DDTHH:MM:SS.mmmZ`, or not a real date in the years 2020 to 9999.
    #[error("want a time like 2026-11-22T05:00:00.000Z in the years 2020 to 9999")]
    Time,
    /// Not `YYYY-MM-DD`, or not a real date in the years 2020 to 9999.
    #[error("want a date like 2026-11-22 in the years 2020 to 9999")]
    Day,
}

impl Millis {
    /// The first time that a text can have: the beginning of [`limits::YEAR_MIN`].
    pub const FIRST: Self = Self(1_577_836_800_000);

    /// The UTC day that contains this time.
    #[must_use]
    pub fn day(self) -> Day {
        // 2^64 ms are 213,503,982,334 days, more than fits a u32; no clock or entry reaches that.
        Day(u32::try_from(self.0 / DAY_MILLIS).unwrap_or(u32::MAX))
    }

    /// The time `millis` later; saturates at the largest time.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// Gregorian (year, month, day) of a day counted from 1970, by Howard Hinnant's `civil_from_days`.
fn civil(day: u32) -> (u64, u64, u64) {
    let z = u64::from(day).saturating_add(719_468);
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = doe.saturating_sub(doe / 1_460).saturating_add(doe / 36_524).saturating_sub(doe / 146_096) / 365;
    let doy = doe.saturating_sub((yoe.saturating_mul(365)).saturating_add(yoe / 4).saturating_sub(yoe / 100));
    let mp = doy.saturating_mul(5).saturating_add(2) / 153;
    let d = doy.saturating_sub(mp.saturating_mul(153).saturating_add(2) / 5).saturating_add(1);
    let m = if mp < 10 { mp.saturating_add(3) } else { mp.saturating_sub(9) };
    let y = era.saturating_mul(400).saturating_add(yoe).saturating_add(u64::from(m <= 2));
    (y, m, d)
}

/// Days since 1970 of a Gregorian date (`days_from_civil`); `None` if the date does not exist or is out of range.
fn days(y: u32, m: u32, d: u32) -> Option<u32> {
    let leap = y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let length = match m {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return None,
    };
    let years = u32::from(limits::YEAR_MIN)..=u32::from(limits::YEAR_MAX);
    if !(1..=length).contains(&d) || !years.contains(&y) {
        return None;
    }
    let y = if m <= 2 { y.checked_sub(1)? } else { y };
    let (era, yoe) = (y / 400, y % 400);
    let mp = if m > 2 { m.checked_sub(3)? } else { m.checked_add(9)? };
    let doy = mp.checked_mul(153)?.checked_add(2)?.checked_div(5)?.checked_add(d)?.checked_sub(1)?;
    let doe = yoe.checked_mul(365)?.checked_add(yoe / 4)?.checked_sub(yoe / 100)?.checked_add(doy)?;
    era.checked_mul(146_097)?.checked_add(doe)?.checked_sub(719_468)
}

/// The number that ASCII digits spell; `None` for any other character or an overflow.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |n, c| {
        let digit = c.is_ascii_digit().then(|| u32::from(c.wrapping_sub(b'0')))?;
        n.checked_mul(10)?.checked_add(digit)
    })
}

fn parse_day(text: &[u8]) -> Option<u32> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text else { return None };
    days(digits(&[*y0, *y1, *y2, *y3])?, digits(&[*m0, *m1])?, digits(&[*d0, *d1])?)
}

fn parse_time(text: &[u8]) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [b'T', h0, h1, b':', m0, m1, b':', s0, s1, b'.', f0, f1, f2, b'Z'] = rest else { return None };
    let (h, m, s) = (digits(&[*h0, *h1])?, digits(&[*m0, *m1])?, digits(&[*s0, *s1])?);
    if h > 23 || m > 59 || s > 59 {
        return None;
    }
    let seconds = h.checked_mul(3_600)?.checked_add(m.checked_mul(60)?)?.checked_add(s)?;
    let millis = seconds.checked_mul(1_000)?.checked_add(digits(&[*f0, *f1, *f2])?)?;
    u64::from(parse_day(date)?).checked_mul(DAY_MILLIS)?.checked_add(u64::from(millis))
}

impl FromStr for Millis {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse_time(text.as_bytes()).map(Self).ok_or(TimeError::Time)
    }
}

impl FromStr for Day {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse_day(text.as_bytes()).map(Self).ok_or(TimeError::Day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (y, m, d) = civil(self.0);
        write!(f, "{y:04}-{m:02}-{d:02}")
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 % DAY_MILLIS;
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{}T{h:02}:{m:02}:{s:02}.{:03}Z", self.day(), ms % 1_000)
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn every_day_of_the_range_round_trips() {
        let (mut day, last) = (days(2020, 1, 1).unwrap(), days(9999, 12, 31).unwrap());
        assert_eq!(day, 18_262);
        while day <= last {
            assert_eq!(Day(day).to_string().parse(), Ok(Day(day)));
            day += 1;
        }
    }

    #[test]
    fn times() {
        let check =
            |text: &str, expect: Option<u64>| assert_eq!(text.parse::<Millis>().ok().map(|t| t.0), expect, "{text}");
        check("2026-11-22T05:00:00.000Z", Some(1_795_323_600_000));
        check("2024-02-29T23:59:59.999Z", Some(1_709_251_199_999));
        for bad in [
            "2023-02-29T00:00:00.000Z",
            "2026-11-22T05:00:60.000Z",
            "2026-11-22T24:00:00.000Z",
            "2019-12-31T23:59:59.999Z",
            "2026-11-22T05:00:00Z",
            "2026-11-22T05:00:00.000",
            "2026-11-22 05:00:00.000Z",
            "2026-11-22T05:00:00.000z",
            "2026-00-22T05:00:00.000Z",
            "2026-13-22T05:00:00.000Z",
            "2026-11-00T05:00:00.000Z",
            "+026-11-22T05:00:00.000Z",
            "",
        ] {
            check(bad, None);
        }
    }
}
