//! What one rule has counted on this node. Exact in whole numbers, the clock an argument.
//!
//! A rolling window is a bucket (GCRA told the other way round): what is taken fills it, and it flows off at
//! limit / window. In any window at most twice the limit passes: what flows off, and one burst. A calendar period counts
//! up and begins again at nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::calendar::Period;

/// One moment, on two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the node's start: never goes back, whatever becomes of the wall clock.
    pub since: Duration,
    /// Milliseconds since 1970, for the calendar.
    pub unix_ms: u64,
}

/// In which time something is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Window {
    /// Rolling.
    Rolling(Duration),
    /// A period of the calendar, in UTC.
    Calendar(Period),
    /// As long as it lasts.
    InFlight,
}

/// The count of one rule.
#[derive(Debug)]
pub(crate) struct Meter {
    window: Window,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of a rolling window in units times its nanoseconds, so that nothing is ever rounded; else in units.
    level: u128,
    /// Up to here it has flowed off.
    at_ns: u64,
    /// At which it flows off.
    limit: u64,
    /// When the calendar's period ends.
    ends_ms: u64,
}

/// It would be too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short {
    /// Counted already.
    pub(crate) measured: u64,
    /// After this it would not be too much; `None`: no time alone frees it.
    pub(crate) frees_in: Option<Duration>,
}

/// More is never counted at once: keeps the arithmetic far from its ends.
pub(crate) const MOST: u64 = 1_000_000_000_000_000;

impl Meter {
    pub(crate) fn new(window: Window) -> Self {
        Self { window, state: Mutex::default() }
    }

    /// Takes so much, or nothing and says why. Returns the period it was taken from.
    pub(crate) fn take(&self, limit: u64, amount: u64, now: Now) -> Result<u64, Short> {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        state.limit = limit;
        let (scale, amount) = (self.scale(), amount.min(MOST));
        let (level, room) = (state.level + u128::from(amount) * scale, u128::from(limit) * scale);
        if level <= room {
            state.level = level;
            return Ok(state.ends_ms);
        }
        let frees_in = match self.window {
            _ if amount > limit => None,
            // Room for it is there when the excess has flowed off.
            Window::Rolling(_) => Some(nanoseconds((level - room).div_ceil(u128::from(limit.max(1))))),
            Window::Calendar(_) => Some(Duration::from_millis(state.ends_ms.saturating_sub(now.unix_ms))),
            Window::InFlight => Some(Duration::from_secs(1)),
        };
        let measured = u64::try_from(state.level.div_ceil(scale)).unwrap_or(u64::MAX);
        Err(Short { measured, frees_in })
    }

    /// Takes it even where it is too much. Returns the period it was taken from, and whether it was.
    pub(crate) fn take_anyway(&self, limit: u64, amount: u64, now: Now) -> (u64, bool) {
        if let Ok(period) = self.take(limit, amount, now) {
            return (period, false);
        }
        let mut state = self.lock();
        state.level += u128::from(amount.min(MOST)) * self.scale();
        (state.ends_ms, true)
    }

    /// It was more: known only now, so it is counted without asking.
    pub(crate) fn add(&self, period: u64, amount: u64, now: Now) {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        // What belongs to a period that is over is nothing to the next.
        if state.ends_ms == period {
            state.level += u128::from(amount.min(MOST)) * self.scale();
        }
    }

    /// It was less. Needs no clock: what flows off, flows off before or after alike.
    pub(crate) fn give_back(&self, period: u64, amount: u64) {
        let mut state = self.lock();
        if state.ends_ms == period {
            state.level = state.level.saturating_sub(u128::from(amount.min(MOST)) * self.scale());
        }
    }

    /// Whether forgetting it would change nothing.
    pub(crate) fn is_empty(&self, now: Now) -> bool {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        state.level == 0
    }

    fn scale(&self) -> u128 {
        match self.window {
            Window::Rolling(window) => window.as_nanos().max(1),
            Window::Calendar(_) | Window::InFlight => 1,
        }
    }

    fn proceed(&self, state: &mut State, now: Now) {
        match self.window {
            Window::Rolling(_) => {
                let now = u64::try_from(now.since.as_nanos()).unwrap_or(u64::MAX);
                // Threads read the clock before they get here, in any order.
                let elapsed = now.saturating_sub(state.at_ns);
                state.level = state.level.saturating_sub(u128::from(elapsed) * u128::from(state.limit));
                state.at_ns = state.at_ns.max(now);
            }
            Window::Calendar(period) => {
                let ends = period.end(now.unix_ms);
                if now.unix_ms >= state.ends_ms {
                    (state.level, state.ends_ms) = (0, ends);
                } else if state.ends_ms > period.end(ends) {
                    // The clock was far ahead. What was counted stays; the period is today's again.
                    state.ends_ms = ends;
                }
                // A clock that went back over midnight stays in the new period: none is counted twice from nothing.
            }
            Window::InFlight => {}
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Held for some arithmetic that cannot panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: u64) -> Now {
        Now { since: Duration::from_millis(ms), unix_ms: 1_700_000_000_000 + ms }
    }

    const MINUTE: Window = Window::Rolling(Duration::from_mins(1));

    #[test]
    fn a_burst_then_an_even_flow() {
        let meter = Meter::new(MINUTE);
        for _ in 0..3 {
            meter.take(3, 1, at(0)).unwrap();
        }
        let short = meter.take(3, 1, at(0)).unwrap_err();
        assert_eq!(short, Short { measured: 3, frees_in: Some(Duration::from_secs(20)) });
        assert!(meter.take(3, 1, at(19_999)).is_err());
        meter.take(3, 1, at(20_000)).unwrap();
        assert!(meter.take(3, 1, at(20_000)).is_err());
        assert_eq!(meter.take(3, 4, at(20_000)).unwrap_err().frees_in, None, "it never fits");
    }

    #[test]
    fn another_limit_keeps_what_is_counted() {
        let meter = Meter::new(MINUTE);
        meter.take(100, 50, at(0)).unwrap();
        let short = meter.take(10, 1, at(0)).unwrap_err();
        assert_eq!(short.measured, 50, "lowered below what is spent");
        assert_eq!(short.frees_in, Some(Duration::from_secs(246)), "41 units at ten a minute");
        meter.take(100, 50, at(0)).unwrap();
        assert!(meter.take(100, 1, at(0)).is_err(), "raised again, and nothing was forgotten");
    }

    #[test]
    fn a_month_begins_at_nothing_and_what_was_reserved_in_the_last_one_stays_there() {
        let meter = Meter::new(Window::Calendar(Period::Month));
        let end = 1_701_388_800_000; // 2023-12-01
        let wall = |unix_ms| Now { since: Duration::ZERO, unix_ms };
        let period = meter.take(10, 10, wall(end - 1)).unwrap();
        assert_eq!(meter.take(10, 1, wall(end - 1)).unwrap_err().frees_in, Some(Duration::from_millis(1)));
        let next = meter.take(10, 4, wall(end)).unwrap();
        meter.give_back(period, 10);
        meter.add(period, 7, wall(end));
        assert_eq!(meter.take(10, 7, wall(end)).unwrap_err().measured, 4);
        meter.give_back(next, 4);
        assert!(meter.is_empty(wall(end)));
    }

    #[test]
    fn a_clock_that_jumps_gives_no_second_budget() {
        const HOUR: u64 = 3_600_000;
        let meter = Meter::new(Window::Calendar(Period::Day));
        let midnight = 1_700_006_400_000;
        let wall = |unix_ms| Now { since: Duration::ZERO, unix_ms };
        meter.take(10, 10, wall(midnight - HOUR / 2)).unwrap();
        // An hour ahead, and back: the new day has begun once and does not begin again.
        meter.take(10, 10, wall(midnight + HOUR / 2)).unwrap();
        for later in [midnight - HOUR / 2, midnight - 1, midnight, midnight + HOUR] {
            assert!(meter.take(10, 1, wall(later)).is_err(), "{later}");
        }
        meter.take(10, 10, wall(midnight + 24 * HOUR)).unwrap();
        // A year ahead, and back: it is not stuck there.
        meter.take(10, 10, wall(midnight + 365 * 24 * HOUR)).unwrap();
        let short = meter.take(10, 1, wall(midnight + 25 * HOUR)).unwrap_err();
        assert!(short.frees_in.unwrap() <= Duration::from_hours(24), "{short:?}");
        // A rolling window does not know the wall clock at all.
        let meter = Meter::new(MINUTE);
        meter.take(1, 1, Now { since: Duration::ZERO, unix_ms: midnight }).unwrap();
        assert!(meter.take(1, 1, Now { since: Duration::from_secs(1), unix_ms: midnight + HOUR }).is_err());
    }

    proptest! {
        #[test]
        fn no_window_sees_more_than_the_limit_and_one_burst(
            limit in 1..50u64,
            window_ms in 1..5_000u64,
            steps in proptest::collection::vec((0..2_000u64, 1..6u64, any::<bool>()), 1..200),
        ) {
            let meter = Meter::new(Window::Rolling(Duration::from_millis(window_ms)));
            let (mut now, mut taken) = (0, Vec::new());
            for (pause, amount, returns) in steps {
                now += pause;
                let Ok(period) = meter.take(limit, amount, at(now)) else { continue };
                if returns {
                    meter.give_back(period, amount);
                } else {
                    taken.push((now, amount));
                }
                let within = taken.iter().filter(|(at, _)| now - at < window_ms);
                let sum: u64 = within.map(|(_, amount)| amount).sum();
                prop_assert!(sum <= 2 * limit, "{sum} of {limit} within {window_ms} ms");
            }
        }

        #[test]
        fn what_is_told_to_free_it_does(
            limit in 1..1000u64, window_ms in 1..100_000u64, before in 0..1000u64, amount in 1..1000u64,
        ) {
            let meter = Meter::new(Window::Rolling(Duration::from_millis(window_ms)));
            let (before, amount) = (before.min(limit), amount.min(limit));
            meter.take(limit, before, at(0)).unwrap();
            if let Err(short) = meter.take(limit, amount, at(0)) {
                let frees = short.frees_in.unwrap();
                let then = |since| Now { since, unix_ms: 0 };
                let early = frees.saturating_sub(Duration::from_nanos(1));
                prop_assert!(meter.take(limit, amount, then(early)).is_err());
                prop_assert!(meter.take(limit, amount, then(frees)).is_ok());
            }
        }
    }
}
