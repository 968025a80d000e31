//! How often a node may send requests again: a share of what it is asked, and a store for bad moments. So retries can
//! never double the load of vendors that all fail at once.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::config::Retries as Rule;

/// One further attempt, in the hundredths that are counted.
const ONE: u64 = 100;

/// What is left of it.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: AtomicU64,
    most: u64,
    each: u64,
    denied: AtomicU64,
}

impl Allowance {
    pub(crate) fn new(rule: Rule) -> Self {
        let most = u64::from(rule.burst) * ONE;
        Self { left: AtomicU64::new(most), most, each: rule.percent.into(), denied: AtomicU64::new(0) }
    }

    /// A request that may be sent again has come.
    pub(crate) fn earn(&self) {
        let more = |left: u64| (left < self.most).then(|| (left + self.each).min(self.most));
        // Full, as it is in good times: nobody writes.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }

    /// Whether one may be sent again.
    pub(crate) fn spend(&self) -> bool {
        let less = |left: u64| left.checked_sub(ONE);
        let spent = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok();
        if !spent {
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
        spent
    }

    /// Times nothing was left.
    pub(crate) fn denied(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_is_sent_again_and_no_more() {
        let allowance = Allowance::new(Rule { percent: 20, burst: 2 });
        assert!(allowance.spend() && allowance.spend());
        assert!(!allowance.spend());
        let mut again = 0;
        for _ in 0..100 {
            allowance.earn();
            again += u32::from(allowance.spend());
        }
        assert_eq!((again, allowance.denied()), (20, 81));
        for _ in 0..1000 {
            allowance.earn();
        }
        assert!(allowance.spend() && allowance.spend());
        assert!(!allowance.spend(), "the store is no larger than it is");
    }
}
