//! When to try again: full jitter, so that a thousand nodes do not come back in step.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lived this long was healthy: the next failure starts from the beginning.
const HEALTHY: Duration = Duration::from_mins(1);

/// Counts failures in a row and says how long to wait. Pure but for the caller's random number.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after a connection that lived for `lived`; `random` is evenly spread over its whole range.
    pub fn after(&mut self, lived: Duration, random: u32) -> Duration {
        if lived >= HEALTHY {
            self.failures = 0;
        }
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        ceiling.mul_f64(f64::from(random) / f64::from(u32::MAX)).max(Duration::from_millis(10))
    }

    /// The same with the clock and the system's randomness.
    pub fn since(&mut self, started: Instant) -> Duration {
        self.after(started.elapsed(), getrandom::u32().unwrap_or(u32::MAX / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_thirty_seconds() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..10).map(|_| backoff.after(Duration::ZERO, u32::MAX).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000]);
    }

    #[test]
    fn a_minute_of_health_forgets_the_failures() {
        let mut backoff = Backoff::default();
        for _ in 0..8 {
            backoff.after(Duration::from_secs(59), u32::MAX);
        }
        assert_eq!(backoff.after(Duration::from_mins(1), u32::MAX), FIRST);
    }

    #[test]
    fn the_pause_is_spread_below_the_ceiling_but_never_none() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.after(Duration::ZERO, 0), Duration::from_millis(10));
        assert!(backoff.after(Duration::ZERO, u32::MAX / 2) < Duration::from_millis(201));
    }
}
