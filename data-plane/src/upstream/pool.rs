//! Idle connections of one destination, in a few parts so that busy threads do not meet at one lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::line::Line;

const SHARDS: usize = 8;
/// A pool that has been empty for so many sweeps is forgotten.
const UNUSED_SWEEPS: u64 = 20;

/// The connections of one destination.
pub(crate) struct Pool {
    shards: [Mutex<Vec<Idle>>; SHARDS],
    tls: Option<Arc<ClientConfig>>,
    keep_alive: Duration,
    limit: usize,
    empty_sweeps: AtomicU64,
}

struct Idle {
    line: Line,
    since: Instant,
}

impl Pool {
    pub(crate) fn new(tls: Option<Arc<ClientConfig>>, keep_alive: Duration, limit: usize) -> Self {
        Self {
            shards: Default::default(),
            tls,
            keep_alive,
            limit: limit.div_ceil(SHARDS),
            empty_sweeps: AtomicU64::new(0),
        }
    }

    /// `None`: the destination is plain.
    pub(crate) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// The connection used last in this part, or else in another.
    pub(crate) fn take(&self, shard: usize, now: Instant) -> Option<Line> {
        (0..SHARDS).find_map(|offset| {
            let mut idle = self.lock((shard + offset) % SHARDS);
            let Idle { line, since } = idle.pop()?;
            if now.saturating_duration_since(since) < self.keep_alive {
                return Some(line);
            }
            // The last one used is too old, and so are all below it.
            idle.clear();
            None
        })
    }

    /// Gives one back; above the limit it is closed.
    pub(crate) fn put(&self, shard: usize, line: Line) {
        let mut idle = self.lock(shard % SHARDS);
        if idle.len() < self.limit {
            idle.push(Idle { line, since: Instant::now() });
        }
    }

    /// Closes what has been idle too long; whether the pool itself has been unused for long.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        for shard in 0..SHARDS {
            self.lock(shard).retain(|idle| now.saturating_duration_since(idle.since) < self.keep_alive);
        }
        if self.idle() > 0 {
            self.empty_sweeps.store(0, Ordering::Relaxed);
            return false;
        }
        self.empty_sweeps.fetch_add(1, Ordering::Relaxed) >= UNUSED_SWEEPS
    }

    pub(crate) fn idle(&self) -> usize {
        (0..SHARDS).map(|shard| self.lock(shard).len()).sum()
    }

    fn lock(&self, shard: usize) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A list of connections is whole after every statement: a panic elsewhere does not spoil it.
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
