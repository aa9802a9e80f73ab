//! Instants and spans. Nobody here reads a clock: `sys::clock` does.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant on CLOCK_MONOTONIC (clock_gettime(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, span: Duration) -> Moment {
        Moment(self.0.saturating_add(span))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// Returns the span between the two; zero if `earlier` is later.
    fn sub(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// An instant on CLOCK_REALTIME, as time since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallTime(pub Duration);

/// When an event became true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The time of day.
    pub wall: WallTime,
    /// Since the run began.
    pub elapsed: Duration,
}

/// Year, month, day, hour, minute, second, microsecond, in UTC.
type Civil = (u64, u64, u64, u64, u64, u64, u32);

impl WallTime {
    /// Splits it by the proleptic Gregorian calendar, counting days from 1 March so that the
    /// leap day is the last one of its year.
    fn civil(self) -> Civil {
        let seconds = self.0.as_secs();
        let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        let (hour, minute) = (second / 3_600, second / 60 % 60);
        (year, month, day, hour, minute, second % 60, self.0.subsec_micros())
    }

    /// Shows it as RFC 3339 in UTC with microseconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let (year, month, day, hour, minute, second, micros) = self.civil();
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
    }

    /// Reads what [`WallTime::rfc3339`] shows, and nothing else.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<WallTime> {
        let bytes = text.as_bytes();
        let number = |from: usize, width: usize| {
            let digits = text.get(from..from + width)?;
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| digits.parse::<u64>().ok())?
        };
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.')];
        if bytes.len() != 27
            || marks.iter().any(|(at, mark)| bytes[*at] != *mark)
            || bytes[26] != b'Z'
        {
            return None;
        }
        let (year, month, day) = (number(0, 4)?, number(5, 2)?, number(8, 2)?);
        // As in `civil`, backwards: years begin on 1 March.
        let shifted_year = year.checked_sub(u64::from(month <= 2))?;
        let shifted_month = (month + 9) % 12;
        let day_of_year = (153 * shifted_month + 2) / 5 + day.checked_sub(1)?;
        let year_of_era = shifted_year % 400;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (shifted_year / 400 * 146_097 + day_of_era).checked_sub(719_468)?;
        let seconds = days * 86_400 + number(11, 2)? * 3_600 + number(14, 2)? * 60 + number(17, 2)?;
        Some(WallTime(Duration::new(seconds, u32::try_from(number(20, 6)?).ok()? * 1_000)))
    }
}

impl fmt::Display for WallTime {
    /// Writes `YYYYMMDDTHHMMSS.uuuuuu`, as the log has it. Every line has one, so the digits are
    /// set one by one: `write!` would be a quarter of the work for a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day, hour, minute, second, micros) = self.civil();
        let mut text = *b"00000000T000000.000000";
        let fields = [(0, 4, year), (4, 2, month), (6, 2, day), (9, 2, hour), (11, 2, minute)];
        for (at, width, value) in
            fields.into_iter().chain([(13, 2, second), (16, 6, micros.into())])
        {
            let mut rest = value;
            for digit in text[at..at + width].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
        }
        // Only digits were put in.
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// Shows a span as seconds with microseconds, `12.000345`.
pub struct Seconds(pub Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.0.as_secs(), self.0.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(seconds: u64) -> String {
        WallTime(Duration::new(seconds, 7_000)).to_string()
    }

    #[test]
    fn known_instants_are_shown_in_utc() {
        assert_eq!(shown(0), "19700101T000000.000007");
        assert_eq!(shown(951_782_399), "20000228T235959.000007");
        assert_eq!(shown(951_782_400), "20000229T000000.000007");
        assert_eq!(shown(1_709_251_199), "20240229T235959.000007");
        assert_eq!(shown(4_107_542_400), "21000301T000000.000007");
        assert_eq!(
            WallTime(Duration::new(1_795_363_199, 999_999_999)).rfc3339(),
            "2026-11-22T15:59:59.999999Z"
        );
    }

    #[test]
    fn the_span_to_an_earlier_instant_is_zero() {
        let early = Moment(Duration::from_secs(1));
        assert_eq!(early - (early + Duration::from_secs(5)), Duration::ZERO);
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for seconds in [0, 951_782_399, 951_782_400, 1_709_251_199, 4_107_542_400] {
            let time = WallTime(Duration::new(seconds, 999_999_000));
            assert_eq!(WallTime::from_rfc3339(&time.rfc3339()), Some(time));
        }
        for wrong in ["", "2026-11-22", "2026-11-22T15:59:59Z", "2026-11-22T15:59:59.99999xZ"] {
            assert_eq!(WallTime::from_rfc3339(wrong), None, "{wrong}");
        }
    }
}
