//! Where requests say that they need more of a limit than this node holds, and where whoever asks for it reads it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::meter::{Meter, Now};

/// Between the requests of a node and its link.
#[derive(Debug)]
pub struct Board {
    epoch: Instant,
    /// Somebody answers.
    reachable: AtomicBool,
    listed: Mutex<Vec<Arc<Meter>>>,
    news: Notify,
    /// Figures for metrics.
    pub counters: Counters,
}

/// Never reset within a process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that waited for more of a limit than the node held.
    pub waited: AtomicU64,
    /// Those that nobody answered in time.
    pub unanswered: AtomicU64,
    /// Limits that are shared with other nodes at the moment.
    pub shared: AtomicU64,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            reachable: AtomicBool::new(false),
            listed: Mutex::default(),
            news: Notify::new(),
            counters: Counters::default(),
        }
    }
}

impl Board {
    /// The clocks' beginning.
    pub(crate) fn epoch(&self) -> Instant {
        self.epoch
    }

    /// The moment on the meters' clocks.
    pub(crate) fn at(&self, instant: Instant, unix_ms: u64) -> Now {
        Now { since: instant.saturating_duration_since(self.epoch), unix_ms }
    }

    /// Whether somebody answers.
    pub fn is_reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Somebody answers, or nobody does any more.
    pub(crate) fn reaches(&self, reachable: bool) {
        self.reachable.store(reachable, Ordering::Relaxed);
    }

    /// This one is to be told of at once.
    pub(crate) fn list(&self, meter: &Arc<Meter>) {
        if meter.list() {
            self.listed.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(meter));
            self.news.notify_one();
        }
    }

    /// Looks again, in case there are some.
    pub(crate) fn nudge(&self) {
        self.news.notify_one();
    }

    /// Those that are to be told of.
    pub(crate) fn take(&self) -> Vec<Arc<Meter>> {
        std::mem::take(&mut *self.listed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns when there are some.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }
}
