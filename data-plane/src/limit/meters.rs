//! All meters of a node. They outlive the configurations: a rule finds its meter once, after which requests go straight
//! to it, and a rule that went and came back finds what it had counted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use uuid::Uuid;

use super::board::Board;
use super::meter::{Meter, Now, Window};

/// Which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) owner: Uuid,
    /// Digest of its name, metric and window.
    pub(crate) rule: u64,
}

type Shard = Mutex<HashMap<Place, Arc<Meter>>>;

/// A power of two.
const SHARDS: usize = 64;

/// Meters by rule.
#[derive(Debug)]
pub struct Meters {
    epoch: Instant,
    /// `None`: no limit is shared with other nodes.
    board: Option<Arc<Board>>,
    /// What rules in shadow mode would have refused.
    shadowed: AtomicU64,
    shards: [Shard; SHARDS],
}

impl Default for Meters {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Meters {
    /// Counts for this node alone, or with those that whoever reads the board speaks to.
    pub fn new(board: Option<Arc<Board>>) -> Self {
        Self {
            epoch: board.as_ref().map_or_else(Instant::now, |board| board.epoch()),
            board,
            shadowed: AtomicU64::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    /// Where more than this node holds is asked for.
    pub(crate) fn board(&self) -> Option<&Arc<Board>> {
        self.board.as_ref()
    }

    /// The rule's meter, new if it has none.
    pub(crate) fn find(&self, place: Place, window: Window) -> Arc<Meter> {
        let mut shard = Self::lock(&self.shards[usize::try_from(place.rule).unwrap_or_default() % SHARDS]);
        Arc::clone(shard.entry(place).or_insert_with(|| Arc::new(Meter::new(window))))
    }

    /// A rule in shadow mode would have refused a request.
    pub(crate) fn would_refuse(&self) {
        self.shadowed.fetch_add(1, Ordering::Relaxed);
    }

    /// What rules in shadow mode would have refused.
    pub(crate) fn shadowed(&self) -> u64 {
        self.shadowed.load(Ordering::Relaxed)
    }

    /// The moment on the meters' clocks.
    pub fn at(&self, instant: Instant, unix_ms: u64) -> Now {
        Now { since: instant.saturating_duration_since(self.epoch), unix_ms }
    }

    /// Forgets meters that no configuration and no request holds and that have counted nothing.
    pub(crate) fn sweep(&self, now: Now) {
        for shard in &self.shards {
            Self::lock(shard).retain(|_, meter| Arc::strong_count(meter) > 1 || !meter.is_empty(now));
        }
    }

    fn lock(shard: &Shard) -> std::sync::MutexGuard<'_, HashMap<Place, Arc<Meter>>> {
        // The map is whole after every statement: a panic elsewhere does not spoil it.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rule_that_goes_and_comes_back_finds_what_it_had_counted() {
        let meters = Meters::default();
        let place = Place { owner: Uuid::nil(), rule: 7 };
        let window = Window::Rolling(Duration::from_secs(1));
        let now = |ms| Now { since: Duration::from_millis(ms), unix_ms: 0 };
        meters.find(place, window).take(1, 1, now(0)).unwrap();
        meters.sweep(now(999));
        assert!(meters.find(place, window).take(1, 1, now(999)).is_err());
        meters.sweep(now(1000));
        assert!(meters.shards.iter().all(|shard| Meters::lock(shard).is_empty()), "it has flowed off");
    }
}
