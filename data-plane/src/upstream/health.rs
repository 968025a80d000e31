//! What a node has learned of one target: how many requests are under way there, how soon it answers, and whether it is
//! spared for a while. Kept beside the connections: a new configuration that leads to the same place goes on with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::balance::Load;
use super::breaker::{Breaker, Pass, State};
use super::pool::Pool;
use crate::config::Breaker as Rule;

/// A share of one in so many goes to the newest latency.
const SMOOTHING: u64 = 8;
/// What is known of a target that gets no requests counts half after this.
const HALF_LIFE: u64 = 10_000;
/// A vendor may ask for more, but is not believed.
const LONGEST_ASIDE: Duration = Duration::from_mins(1);

/// Milliseconds. So long after it may be tried again a target that nobody tries is remembered: its place may be gone from
/// the configuration, as after every change of a credential.
const REMEMBERED: u64 = 600_000;

/// Of one target.
#[derive(Debug)]
pub(crate) struct Health {
    pending: AtomicU32,
    /// Microseconds; 0: unknown.
    latency: AtomicU64,
    latency_at: AtomicU64,
    /// It asked to be left alone until then.
    aside_until: AtomicU64,
    breaker: Breaker,
    rule: Rule,
    clock: NodeClock,
}

/// Milliseconds since the node began, never 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeClock(Instant);

impl NodeClock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl Health {
    pub(crate) fn new(rule: Rule, clock: NodeClock) -> Self {
        Self {
            pending: AtomicU32::new(0),
            latency: AtomicU64::new(0),
            latency_at: AtomicU64::new(0),
            aside_until: AtomicU64::new(0),
            breaker: Breaker::default(),
            rule,
            clock,
        }
    }

    /// Whether an attempt may begin now.
    pub(crate) fn is_passable(&self) -> bool {
        let now = self.clock.now();
        self.aside_until.load(Ordering::Relaxed) <= now && self.breaker.is_passable(&self.rule, now)
    }

    /// When an attempt may begin; the past: now.
    pub(crate) fn passable_at(&self) -> u64 {
        self.aside_until.load(Ordering::Relaxed).max(self.breaker.opens_again_at())
    }

    pub(crate) fn load(&self, weight: u32) -> Load {
        let latency = self.latency.load(Ordering::Relaxed);
        let age = self.clock.now().saturating_sub(self.latency_at.load(Ordering::Relaxed));
        let aged = latency >> (age / HALF_LIFE).min(63);
        Load {
            weight,
            pending: self.pending.load(Ordering::Relaxed),
            latency_us: (latency != 0).then_some(aged.max(1)),
        }
    }

    pub(crate) fn state(&self) -> State {
        self.breaker.state(self.clock.now())
    }

    /// Whether forgetting it would lose something.
    pub(crate) fn matters(&self) -> bool {
        self.matters_at(self.clock.now())
    }

    fn matters_at(&self, now: u64) -> bool {
        let until = self.passable_at();
        self.pending.load(Ordering::Relaxed) > 0 || (until != 0 && until.saturating_add(REMEMBERED) > now)
    }

    fn took(&self, time: Duration) {
        let new = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        let old = self.latency.load(Ordering::Relaxed);
        // Two at once: one of them is lost, and the next makes up for it.
        let next = if old == 0 { new } else { old - old / SMOOTHING + new / SMOOTHING };
        self.latency.store(next.max(1), Ordering::Relaxed);
        self.latency_at.store(self.clock.now(), Ordering::Relaxed);
    }
}

/// An attempt at a target, from its beginning to the end of its answer. Tells the target's health what came of it;
/// dropped without a word (the client left, say) it tells nothing.
pub(crate) struct Flight {
    pool: Arc<Pool>,
    pass: Pass,
    began: Instant,
}

impl Flight {
    /// `None`: not now.
    pub(crate) fn begin(pool: &Arc<Pool>) -> Option<Self> {
        let health = pool.health();
        let now = health.clock.now();
        if health.aside_until.load(Ordering::Relaxed) > now {
            return None;
        }
        let pass = health.breaker.pass(&health.rule, now)?;
        Some(Self::new(pool, pass))
    }

    /// There is nowhere else to go.
    pub(crate) fn force(pool: &Arc<Pool>) -> Self {
        Self::begin(pool).unwrap_or_else(|| Self::new(pool, Pass::Forced))
    }

    fn new(pool: &Arc<Pool>, pass: Pass) -> Self {
        pool.health().pending.fetch_add(1, Ordering::Relaxed);
        Self { pool: Arc::clone(pool), pass, began: Instant::now() }
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    fn health(&self) -> &Health {
        self.pool.health()
    }

    /// A head that says the target works, whatever it says else.
    pub(crate) fn succeeded(&self) {
        let health = self.health();
        health.took(self.began.elapsed());
        health.breaker.succeeded(self.pass, &health.rule, health.clock.now());
    }

    /// A head that says it does not, or none.
    pub(crate) fn failed(&self) {
        let health = self.health();
        health.breaker.failed(self.pass, &health.rule, health.clock.now());
    }

    /// No head in time.
    pub(crate) fn was_silent(&self) {
        self.health().took(self.began.elapsed());
        self.failed();
    }

    /// It has too much to do, and works otherwise. `pause`: how long it asks to be left alone.
    pub(crate) fn was_busy(&self, pause: Option<Duration>) {
        let health = self.health();
        let now = health.clock.now();
        if let Some(pause) = pause {
            let pause = u64::try_from(pause.min(LONGEST_ASIDE).as_millis()).unwrap_or_default();
            health.aside_until.fetch_max(now + pause, Ordering::Relaxed);
        }
        health.breaker.succeeded(self.pass, &health.rule, now);
    }

    /// The answer broke off.
    pub(crate) fn died(&self) {
        let health = self.health();
        health.breaker.died(&health.rule, health.clock.now());
    }

    /// The answer came to its end.
    pub(crate) fn completed(&self) {
        self.health().breaker.completed();
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let health = self.health();
        health.pending.fetch_sub(1, Ordering::Relaxed);
        health.breaker.leave(self.pass);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_nobody_tries_any_more_is_forgotten() {
        let rule = crate::config::Config::default().breaker;
        let health = Health::new(rule, NodeClock::start());
        assert!(!health.matters_at(5), "nothing has been learned");
        // A vendor that asked once to be left alone, and whose credential has changed since.
        health.aside_until.store(1000, Ordering::Relaxed);
        assert!(health.matters_at(1000) && health.matters_at(1000 + REMEMBERED - 1));
        assert!(!health.matters_at(1000 + REMEMBERED));
        health.pending.store(1, Ordering::Relaxed);
        assert!(health.matters_at(1000 + REMEMBERED), "a request is under way there");
    }
}
