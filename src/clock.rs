//! Time as an argument: wall clock for run ids and rates, and calendar months.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Kind};

/// Where the time comes from; tests pass a fixed one.
pub trait Clock: Send + Sync {
    /// Seconds since 1970-01-01 UTC.
    fn unix_seconds(&self) -> u64;
    /// Time since an arbitrary fixed point, never going back.
    fn elapsed(&self) -> Duration;
    /// Processor time that all threads of the process have taken; 0 where it is not known.
    fn busy(&self) -> Duration {
        Duration::ZERO
    }
}

/// The machine's clock.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    #[expect(clippy::new_without_default, reason = "a default would hide a look at the clock")]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    #[cfg(unix)]
    fn busy(&self) -> Duration {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        #[expect(unsafe_code, reason = "the standard library does not tell it")]
        // SAFETY: the C library writes the one `timespec` that it is given.
        let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        match failed {
            0 => Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default()),
            _ => Duration::ZERO,
        }
    }
}

/// A calendar month, counted from January of year 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Month(pub i32);

impl Month {
    pub fn new(year: i32, month_1_to_12: u32) -> Self {
        Month(year * 12 + month_1_to_12 as i32 - 1)
    }

    /// The month that holds a day, given in days since 1970-01-01.
    pub fn of_day(days: i32) -> Self {
        let (year, month, _) = civil_of_days(days);
        Month::new(year, month)
    }

    pub fn year(self) -> i32 {
        self.0.div_euclid(12)
    }

    /// 1 = January.
    pub fn of_year(self) -> u32 {
        self.0.rem_euclid(12) as u32 + 1
    }

    pub fn plus(self, months: i32) -> Self {
        Month(self.0 + months)
    }

    /// First day, in days since 1970-01-01.
    pub fn first_day(self) -> i32 {
        days_of_civil(self.year(), self.of_year(), 1)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year(), self.of_year())
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Month> for String {
    fn from(month: Month) -> String {
        month.to_string()
    }
}

impl TryFrom<String> for Month {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl FromStr for Month {
    type Err = Error;

    /// `2017-03`, or any date that [`parse_day`] reads.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Kind::Data.msg(format!("`{text}` is no month")).hint("write it as 2017-03");
        if let Some(day) = parse_day(text) {
            return Ok(Month::of_day(day));
        }
        let (year, month) = text.split_once('-').ok_or_else(wrong)?;
        match (year.len(), year.parse::<i32>(), month.parse::<u32>()) {
            (4, Ok(year), Ok(month @ 1..=12)) => Ok(Month::new(year, month)),
            _ => Err(wrong()),
        }
    }
}

/// Days since 1970-01-01 of `2017-03-31`, with or without a time after it; None if it is no date.
pub fn parse_day(text: &str) -> Option<i32> {
    let date = text.get(..10)?;
    match text.as_bytes().get(10) {
        None | Some(b'T' | b' ') => {}
        Some(_) => return None,
    }
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if year.len() != 4 || month.len() != 2 || day.len() != 2 {
        return None;
    }
    let (year, month, day) = (year.parse().ok()?, month.parse().ok()?, day.parse().ok()?);
    let days = days_of_civil(year, month, day);
    (civil_of_days(days) == (year, month, day)).then_some(days)
}

/// `2017-03-31` of days since 1970-01-01.
pub fn format_day(days: i32) -> String {
    let (year, month, day) = civil_of_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Proleptic Gregorian calendar, algorithm of H. Hinnant, "chrono-compatible date algorithms".
fn days_of_civil(year: i32, month: u32, day: u32) -> i32 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let month_from_march = (month as i32 + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day as i32 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil_of_days(days: i32) -> (i32, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i32::from(month <= 2), month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for (text, days) in [("1970-01-01", 0), ("2000-02-29", 11_016), ("2017-12-31", 17_531)] {
            assert_eq!(parse_day(text), Some(days));
            assert_eq!(format_day(days), text);
        }
        for days in (-800_000..800_000).step_by(331) {
            assert_eq!(
                parse_day(&format_day(days)),
                Some(days)
                    .filter(|_| format_day(days).len() == 10 && !format_day(days).starts_with('-'))
            );
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["2017-02-29", "2017-13-01", "17-01-01", "2017-01-1", "2017-01-01x", "", "x"] {
            assert_eq!(parse_day(text), None, "{text}");
        }
        assert_eq!(parse_day("2017-01-01T10:00:00Z"), parse_day("2017-01-01"));
    }

    #[cfg(unix)]
    #[test]
    fn work_takes_processor_time() {
        let clock = SystemClock::new();
        let before = clock.busy();
        while clock.busy() == before {
            std::hint::black_box(civil_of_days(std::hint::black_box(1)));
        }
        assert!(clock.busy() > before);
    }

    #[test]
    fn months() {
        let march: Month = "2017-03".parse().expect("a month");
        assert_eq!(march, "2017-03-31".parse().expect("a date"));
        assert_eq!(march.plus(10).to_string(), "2018-01");
        assert_eq!(Month::of_day(march.first_day()), march);
        assert!("2017-13".parse::<Month>().is_err());
    }
}
