//! What one rule has counted on this node. Exact in whole numbers, the clock an argument.
//!
//! A rolling window is a bucket (GCRA told the other way round): what is taken fills it, and it flows off at
//! limit / window. In any window at most twice the limit passes: what flows off, and one burst. A calendar period counts
//! up and begins again at nothing. Where the limit is shared with other nodes, what this node may use of it takes the
//! limit's place: [`super::lease`].

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::calendar::Period;
use super::lease::{Answers, Count, Identity, Lease, PartGrant, Reach, ShareGrant, Terms, Told};

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
pub struct Meter {
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
    /// `None`: the limit is this node's alone.
    lease: Option<Box<Lease>>,
}

/// It was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// From this period.
    pub period: u64,
    /// There is little left of what this node holds.
    pub low: bool,
}

/// It would be too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// Counted already.
    pub measured: u64,
    /// After this it would not be too much; `None`: no time alone frees it.
    pub frees_in: Option<Duration>,
    /// Other nodes may have what this one lacks.
    pub dry: bool,
}

/// More is never counted at once: keeps the arithmetic far from its ends.
pub const MOST: u64 = 1_000_000_000_000_000;

/// So often a node says what it wants of a limit: the next answer may give it.
pub const RENEWAL: Duration = Duration::from_secs(2);

impl State {
    /// What flows off until then.
    fn flow(&mut self, now: Duration) {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let elapsed = now.saturating_sub(self.at_ns);
        self.level = self.level.saturating_sub(u128::from(elapsed) * u128::from(self.limit));
        self.at_ns = self.at_ns.max(now);
    }

    fn falls_at(&self) -> Option<Duration> {
        self.lease.as_ref().and_then(|lease| lease.falls_at())
    }

    fn fall(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.fall();
            self.limit = lease.rate().unwrap_or(self.limit);
        }
    }
}

impl Meter {
    /// Nothing is counted yet.
    pub fn new(window: Window) -> Self {
        Self { window, state: Mutex::default() }
    }

    /// Shares the limit with other nodes from now on, or no longer.
    pub fn share(&self, with_others: Option<Identity>) {
        let mut state = self.lock();
        match with_others {
            Some(identity) => drop(state.lease.get_or_insert_with(|| Box::new(Lease::new(identity)))),
            None => state.lease = None,
        }
    }

    /// Takes so much, or nothing and says why.
    pub fn take(&self, terms: impl Into<Terms>, amount: u64, now: Now) -> Result<Taken, Short> {
        let terms = terms.into();
        let mut state = self.lock();
        let state = &mut *state;
        self.proceed(state, now);
        let terms = state.lease.as_ref().map_or(terms, |lease| lease.terms(terms, now.since));
        let cap = state.lease.as_ref().map_or(terms.limit, |lease| lease.cap(terms));
        state.limit = cap;
        let (scale, amount) = (self.scale(), amount.min(MOST));
        let (level, room) = (state.level + u128::from(amount) * scale, u128::from(cap) * scale);
        let counted = |level: u128| u64::try_from(level.div_ceil(scale)).unwrap_or(u64::MAX);
        if let Some(lease) = state.lease.as_mut().filter(|_| terms.reach != Reach::Again) {
            lease.wanted(counted(state.level), amount, now.since);
        }
        if level <= room {
            state.level = level;
            let lease = state.lease.as_mut();
            let low =
                lease.is_some_and(|lease| terms.reach != Reach::Alone && lease.runs_low(counted(level), now.since));
            return Ok(Taken { period: state.ends_ms, low });
        }
        let used = counted(state.level);
        let lease = state.lease.as_ref();
        let dry = lease.is_some_and(|lease| lease.may_ask(terms, used, amount, now.since));
        let measured = lease.map_or(used, |lease| lease.measured(used, cap, terms.limit));
        let frees_in = match self.window {
            _ if amount > terms.limit => None,
            // It does not fit into what this node holds at the moment.
            Window::Rolling(_) if amount > cap => Some(RENEWAL),
            // Room for it is there when the excess has flowed off.
            Window::Rolling(_) => Some(nanoseconds((level - room).div_ceil(u128::from(cap.max(1))))),
            Window::Calendar(_) => Some(
                lease
                    .and_then(|lease| lease.period_left(now.since))
                    .unwrap_or_else(|| Duration::from_millis(state.ends_ms.saturating_sub(now.unix_ms))),
            ),
            Window::InFlight => Some(Duration::from_secs(1)),
        };
        Err(Short { measured, frees_in, dry })
    }

    /// Takes it even where it is too much. Returns the period it was taken from, and whether it was.
    pub fn take_anyway(&self, limit: u64, amount: u64, now: Now) -> (u64, bool) {
        let mut state = self.lock();
        let state = &mut *state;
        self.proceed(state, now);
        if state.lease.is_none() {
            state.limit = limit;
        }
        state.level += u128::from(amount.min(MOST)) * self.scale();
        (state.ends_ms, state.level > u128::from(limit) * self.scale())
    }

    /// It was more: known only now, so it is counted without asking.
    pub fn add(&self, period: u64, amount: u64, now: Now) {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        // What belongs to a period that is over is nothing to the next.
        if state.ends_ms == period {
            state.level += u128::from(amount.min(MOST)) * self.scale();
        }
    }

    /// It was less. Needs no clock: what flows off, flows off before or after alike.
    pub fn give_back(&self, period: u64, amount: u64) {
        let mut state = self.lock();
        if state.ends_ms == period {
            state.level = state.level.saturating_sub(u128::from(amount.min(MOST)) * self.scale());
        }
    }

    /// Whether forgetting it would change nothing.
    pub fn is_empty(&self, now: Now) -> bool {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        state.level == 0
    }

    /// It is to be told of at once; `false`: that is known.
    pub fn list(&self) -> bool {
        let mut state = self.lock();
        state.lease.as_mut().is_some_and(|lease| !std::mem::replace(&mut lease.listed, true))
    }

    /// What the control plane is told of it. `None`: nothing new.
    pub fn tell(&self, seq: u64, leaving: bool, now: Now) -> Option<(Arc<Identity>, Told)> {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        let (count, lease) = self.leased(&mut state)?;
        let told = lease.tell(&count, seq, leaving, now)?;
        Some((Arc::clone(&lease.identity), told))
    }

    /// A share of it was granted. Whether that must be answered.
    pub fn hear_share(&self, grant: ShareGrant, to: Answers, now: Now) -> bool {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        let Some((mut count, lease)) = self.leased(&mut state) else { return false };
        let news = lease.hear_share(&mut count, grant, to, now.since);
        if let Some(rate) = lease.rate() {
            state.limit = rate;
        }
        news
    }

    /// A part of the period was granted.
    pub fn hear_part(&self, grant: PartGrant, to: Answers, now: Now) {
        let mut state = self.lock();
        self.proceed(&mut state, now);
        if let Some((mut count, lease)) = self.leased(&mut state) {
            lease.hear_part(&mut count, grant, to, now.since);
        }
    }

    /// Does something with what the node holds; `None`: the limit is its own.
    pub fn with_lease<T>(&self, work: impl FnOnce(&mut Lease) -> T) -> Option<T> {
        self.lock().lease.as_mut().map(|lease| work(lease))
    }

    fn leased<'a>(&self, state: &'a mut State) -> Option<(Count<'a>, &'a mut Lease)> {
        let State { level, ends_ms, lease, .. } = state;
        Some((Count { level, scale: self.scale(), ends_ms }, lease.as_mut()?))
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
                // Threads read the clock before they get here, in any order.
                if let Some(until) = state.falls_at().filter(|until| now.since > *until) {
                    state.flow(until);
                    state.fall();
                }
                state.flow(now.since);
            }
            Window::Calendar(_) if state.lease.as_mut().is_some_and(|lease| lease.knows_period(now.since)) => {}
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
            Window::InFlight => {
                if state.falls_at().is_some_and(|until| now.since > until) {
                    state.fall();
                }
            }
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
        assert_eq!(short, Short { measured: 3, frees_in: Some(Duration::from_secs(20)), dry: false });
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
        let Taken { period, .. } = meter.take(10, 10, wall(end - 1)).unwrap();
        assert_eq!(meter.take(10, 1, wall(end - 1)).unwrap_err().frees_in, Some(Duration::from_millis(1)));
        let Taken { period: next, .. } = meter.take(10, 4, wall(end)).unwrap();
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
                let Ok(Taken { period, .. }) = meter.take(limit, amount, at(now)) else { continue };
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
