//! Whether a target that keeps failing is spared for a while. Atomics alone, told of every outcome where it happens, by
//! whoever saw it. Time is an argument: milliseconds of the node's own clock, never 0.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::config::Breaker as Rule;

/// Closed: everyone passes. Open: nobody. Then half open: as many probes as the rule has, until one tells.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    /// When probes may pass; 0: closed.
    until: AtomicU64,
    /// Attempts in a row that got no good head.
    failures: AtomicU32,
    /// Answers in a row that broke off.
    deaths: AtomicU32,
    /// Times it has opened since it was closed last.
    openings: AtomicU32,
    /// Probes under way.
    probes: AtomicU32,
    window: Window,
}

/// Outcomes of one stretch of time: its number, all attempts and the failed ones, in one word.
#[derive(Debug, Default)]
struct Window(AtomicU64);

/// As what an attempt passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// It was closed.
    Closed,
    /// It was half open: this one's outcome decides.
    Probe,
    /// It was open, and there was nowhere else to go.
    Forced,
}

/// As the metrics tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Closed,
    HalfOpen,
    Open,
}

impl Breaker {
    /// `None`: not now.
    pub(crate) fn pass(&self, rule: &Rule, now: u64) -> Option<Pass> {
        match self.until.load(Ordering::Relaxed) {
            0 => Some(Pass::Closed),
            until if until > now => None,
            _ => {
                let more = |probes| (probes < rule.probes).then_some(probes + 1);
                let taken = self.probes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
                taken.is_ok().then_some(Pass::Probe)
            }
        }
    }

    /// Whether it would let someone pass.
    pub(crate) fn is_passable(&self, rule: &Rule, now: u64) -> bool {
        match self.until.load(Ordering::Relaxed) {
            0 => true,
            until => until <= now && self.probes.load(Ordering::Relaxed) < rule.probes,
        }
    }

    /// When probes may pass; 0: it is closed.
    pub(crate) fn opens_again_at(&self) -> u64 {
        self.until.load(Ordering::Relaxed)
    }

    pub(crate) fn state(&self, now: u64) -> State {
        match self.until.load(Ordering::Relaxed) {
            0 => State::Closed,
            until if until > now => State::Open,
            _ => State::HalfOpen,
        }
    }

    /// A head came that says the target works.
    pub(crate) fn succeeded(&self, pass: Pass, rule: &Rule, now: u64) {
        match pass {
            Pass::Closed => {
                // Read before written: in good times nobody writes here.
                if self.failures.load(Ordering::Relaxed) != 0 {
                    self.failures.store(0, Ordering::Relaxed);
                }
                self.window.count(rule, now, false);
            }
            Pass::Probe | Pass::Forced => self.close(),
        }
    }

    /// No head, or one that says the target does not work.
    pub(crate) fn failed(&self, pass: Pass, rule: &Rule, now: u64) {
        match pass {
            Pass::Closed => {
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                let (all, failed) = self.window.count(rule, now, true);
                let too_many =
                    all >= rule.requests && u64::from(failed) * 100 >= u64::from(all) * u64::from(rule.percent);
                if failures >= rule.failures || too_many {
                    self.open(0, rule, now);
                }
            }
            Pass::Probe | Pass::Forced => {
                let until = self.until.load(Ordering::Relaxed);
                // What was forced through an open one tells nothing new.
                if until != 0 && until <= now {
                    self.open(until, rule, now);
                }
            }
        }
    }

    /// An answer that had begun broke off.
    pub(crate) fn died(&self, rule: &Rule, now: u64) {
        let deaths = self.deaths.fetch_add(1, Ordering::Relaxed) + 1;
        let (all, failed) = self.window.blame(rule, now);
        let too_many = all >= rule.requests && u64::from(failed) * 100 >= u64::from(all) * u64::from(rule.percent);
        if deaths >= rule.failures || too_many {
            self.open(0, rule, now);
        }
    }

    /// An answer came to its end.
    pub(crate) fn completed(&self) {
        if self.deaths.load(Ordering::Relaxed) != 0 {
            self.deaths.store(0, Ordering::Relaxed);
        }
    }

    /// A probe is over, whatever it told.
    pub(crate) fn leave(&self, pass: Pass) {
        if pass == Pass::Probe {
            let less = |probes: u32| Some(probes.saturating_sub(1));
            let _ = self.probes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// `from`: what `until` was when it was decided; another who was faster has decided for both.
    fn open(&self, from: u64, rule: &Rule, now: u64) {
        let openings = self.openings.load(Ordering::Relaxed);
        let longer = millis(rule.open).saturating_mul(1 << openings.min(20));
        let until = now + longer.min(millis(rule.open_max).max(millis(rule.open))).max(1);
        if self.until.compare_exchange(from, until, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.openings.store(openings.saturating_add(1), Ordering::Relaxed);
            self.forget();
        }
    }

    fn close(&self) {
        if self.until.swap(0, Ordering::Relaxed) != 0 {
            self.openings.store(0, Ordering::Relaxed);
            self.forget();
        }
    }

    fn forget(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.deaths.store(0, Ordering::Relaxed);
        self.window.0.store(0, Ordering::Relaxed);
    }
}

impl Window {
    /// An attempt more; all and failed ones of this stretch.
    fn count(&self, rule: &Rule, now: u64, failed: bool) -> (u32, u32) {
        self.change(rule, now, 1, u64::from(failed))
    }

    /// One that was counted has failed after all.
    fn blame(&self, rule: &Rule, now: u64) -> (u32, u32) {
        self.change(rule, now, 0, 1)
    }

    fn change(&self, rule: &Rule, now: u64, more: u64, failed: u64) -> (u32, u32) {
        const MOST: u64 = 0xffff;
        let stretch = (now / millis(rule.window).max(1)) & 0xffff_ffff;
        let unpack = |word: u64| if word >> 32 == stretch { ((word >> 16) & MOST, word & MOST) } else { (0, 0) };
        let pack = |(all, bad): (u64, u64)| {
            let all = (all + more).min(MOST);
            // Of an answer that began before this stretch only the end is seen.
            Some(stretch << 32 | all << 16 | (bad + failed).min(all.max(1)))
        };
        let changed = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| pack(unpack(word)));
        let word = changed.ok().and_then(|word| pack(unpack(word))).unwrap_or_default();
        let (all, bad) = unpack(word);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        (small(all), small(bad))
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rule() -> Rule {
        Rule {
            failures: 3,
            percent: 50,
            requests: 10,
            window: Duration::from_secs(10),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(4),
            probes: 1,
        }
    }

    fn fail(breaker: &Breaker, now: u64, times: u32) {
        for _ in 0..times {
            let pass = breaker.pass(&rule(), now).expect("closed");
            breaker.failed(pass, &rule(), now);
            breaker.leave(pass);
        }
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_a_good_head_starts_the_count_anew() {
        let (breaker, rule) = (Breaker::default(), rule());
        fail(&breaker, 1, 2);
        breaker.succeeded(Pass::Closed, &rule, 2);
        fail(&breaker, 3, 2);
        assert_eq!(breaker.state(3), State::Closed);
        fail(&breaker, 4, 1);
        assert_eq!((breaker.state(4), breaker.pass(&rule, 1003)), (State::Open, None));
        assert_eq!((breaker.state(1004), breaker.opens_again_at()), (State::HalfOpen, 1004));
    }

    #[test]
    fn one_probe_decides() {
        let (breaker, rule) = (Breaker::default(), rule());
        fail(&breaker, 1, 3);
        assert_eq!(breaker.pass(&rule, 1001), Some(Pass::Probe));
        assert!(!breaker.is_passable(&rule, 1001));
        assert_eq!(breaker.pass(&rule, 1001), None, "one at a time");
        breaker.failed(Pass::Probe, &rule, 1002);
        breaker.leave(Pass::Probe);
        assert_eq!(breaker.opens_again_at(), 3002, "twice as long");
        // A client that left tells nothing: the next one probes.
        assert_eq!(breaker.pass(&rule, 3002), Some(Pass::Probe));
        breaker.leave(Pass::Probe);
        assert_eq!(breaker.pass(&rule, 3002), Some(Pass::Probe));
        breaker.failed(Pass::Probe, &rule, 3002);
        breaker.leave(Pass::Probe);
        assert_eq!(breaker.opens_again_at(), 7002);
        breaker.pass(&rule, 7002);
        breaker.failed(Pass::Probe, &rule, 7002);
        breaker.leave(Pass::Probe);
        assert_eq!(breaker.opens_again_at(), 11_002, "never longer than the rule's most");
        assert_eq!(breaker.pass(&rule, 11_002), Some(Pass::Probe));
        breaker.succeeded(Pass::Probe, &rule, 11_003);
        breaker.leave(Pass::Probe);
        assert_eq!(breaker.pass(&rule, 11_003), Some(Pass::Closed));
        fail(&breaker, 11_004, 3);
        assert_eq!(breaker.opens_again_at(), 12_004, "the pause begins small again");
    }

    #[test]
    fn what_was_sent_before_it_opened_neither_closes_it_nor_holds_it_open() {
        let (breaker, rule) = (Breaker::default(), rule());
        fail(&breaker, 1, 3);
        breaker.succeeded(Pass::Closed, &rule, 2);
        breaker.failed(Pass::Closed, &rule, 500);
        breaker.failed(Pass::Forced, &rule, 600);
        assert_eq!(breaker.opens_again_at(), 1001);
        breaker.succeeded(Pass::Forced, &rule, 700);
        assert_eq!(
            breaker.state(700),
            State::Closed,
            "what was forced through and came back good is as good as a probe"
        );
    }

    #[test]
    fn it_opens_when_half_of_a_stretch_fails() {
        let (breaker, rule) = (Breaker::default(), rule());
        for now in 1..=4 {
            fail(&breaker, now, 1);
            breaker.succeeded(Pass::Closed, &rule, now);
        }
        assert_eq!(breaker.state(4), State::Closed, "too few to tell");
        breaker.succeeded(Pass::Closed, &rule, 5);
        fail(&breaker, 6, 1);
        assert_eq!(breaker.state(6), State::Open, "five of ten");
        let breaker = Breaker::default();
        for now in 1..=4 {
            fail(&breaker, now, 1);
            breaker.succeeded(Pass::Closed, &rule, now);
        }
        fail(&breaker, 10_001, 1);
        breaker.succeeded(Pass::Closed, &rule, 10_002);
        assert_eq!(breaker.state(10_002), State::Closed, "another stretch begins at nothing");
    }

    #[test]
    fn answers_that_break_off_open_it_too() {
        let (breaker, rule) = (Breaker::default(), rule());
        for now in 1..=2 {
            breaker.succeeded(Pass::Closed, &rule, now);
            breaker.died(&rule, now);
        }
        breaker.completed();
        for now in 3..=5 {
            assert_eq!(breaker.state(now), State::Closed);
            breaker.succeeded(Pass::Closed, &rule, now);
            breaker.died(&rule, now);
        }
        assert_eq!(breaker.state(5), State::Open);
    }
}
