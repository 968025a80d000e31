//! When a day or a month ends, in UTC. Leap seconds do not exist in Unix time: the second before midnight is told twice.

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// From midnight to midnight.
    Day,
    /// From the first to the first.
    Month,
}

const DAY_MS: u64 = 86_400_000;

impl Period {
    /// Unix milliseconds at which the period of this moment is over.
    pub(crate) fn end(self, unix_ms: u64) -> u64 {
        let day = unix_ms / DAY_MS;
        let end = match self {
            Self::Day => day + 1,
            Self::Month => day + days_left(day),
        };
        end.saturating_mul(DAY_MS)
    }
}

/// In the month of a day since 1970, that day included, by Hinnant's `civil_from_days`: years begin in March, so that the
/// leap day is the last one. Asked twice for each request: arithmetic alone, no search.
const fn days_left(day: u64) -> u64 {
    const FEBRUARY: u64 = 11;
    let day = (day + 719_468) % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    // January and February belong to the year that began in March.
    let year = year + 1;
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let end = match month {
        FEBRUARY if leap => 366,
        FEBRUARY => 365,
        month => (153 * (month + 1) + 2) / 5,
    };
    end - day
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_end_where_the_calendar_says() {
        // 2024-02-28T12:00:00Z, 2024-12-31T23:59:59.999Z, 2026-11-30T00:00:00Z, 1970-01-01.
        for (at, day, month) in [
            (1_709_121_600_000, 1_709_164_800_000, 1_709_251_200_000),
            (1_735_689_599_999, 1_735_689_600_000, 1_735_689_600_000),
            (1_795_996_800_000, 1_796_083_200_000, 1_796_083_200_000),
            (0, 86_400_000, 31 * 86_400_000),
        ] {
            assert_eq!((Period::Day.end(at), Period::Month.end(at)), (day, month), "{at}");
        }
        // All months of four centuries, one after the other.
        let (mut at, mut months) = (0, 0);
        while months < 4800 {
            let end = Period::Month.end(at);
            assert!((28..=31).contains(&((end - at) / DAY_MS)));
            assert!((at..end).step_by(40_000_000).all(|within| Period::Month.end(within) == end), "{at}");
            assert_eq!(Period::Month.end(end - 1), end);
            (at, months) = (end, months + 1);
        }
        assert_eq!(at, 146_097 * DAY_MS);
    }
}
