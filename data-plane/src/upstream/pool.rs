//! Idle connections of one destination, kept for each worker apart: a connection stays with the reactor that it was
//! opened on, so none is ever lent to another thread, and no two threads meet at a lock.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use super::health::Health;
use super::line::Line;

/// A pool that has been empty for so many sweeps is forgotten.
const UNUSED_SWEEPS: u64 = 20;

/// The connections of one destination.
pub(crate) struct Pool {
    /// By worker. Others look in to sweep and to count, never to take.
    shards: Box<[Mutex<Vec<Idle>>]>,
    tls: Option<Arc<ClientConfig>>,
    keep_alive: Duration,
    limit: usize,
    empty_sweeps: AtomicU64,
    health: Health,
}

struct Idle {
    line: Box<Line>,
    since: Instant,
}

impl Pool {
    /// `limit`: idle ones, all workers together.
    pub(crate) fn new(
        tls: Option<Arc<ClientConfig>>,
        keep_alive: Duration,
        limit: usize,
        workers: NonZeroUsize,
        health: Health,
    ) -> Self {
        Self {
            shards: (0..workers.get()).map(|_| Mutex::default()).collect(),
            tls,
            keep_alive,
            limit: limit.div_ceil(workers.get()),
            empty_sweeps: AtomicU64::new(0),
            health,
        }
    }

    /// What is known of the destination.
    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    /// `None`: the destination is plain.
    pub(crate) fn tls(&self) -> Option<&Arc<ClientConfig>> {
        self.tls.as_ref()
    }

    /// The connection that this worker used last.
    pub(crate) fn take(&self, worker: usize, now: Instant) -> Option<Box<Line>> {
        let mut idle = self.lock(worker);
        let Idle { line, since } = idle.pop()?;
        if now.saturating_duration_since(since) < self.keep_alive {
            return Some(line);
        }
        // The last one used is too old, and so are all below it.
        idle.clear();
        None
    }

    /// Gives one back; above the limit it is closed.
    pub(crate) fn put(&self, worker: usize, line: Box<Line>) {
        let mut idle = self.lock(worker);
        if idle.len() < self.limit {
            idle.push(Idle { line, since: Instant::now() });
        }
    }

    /// Closes what has been idle too long; whether the pool itself has been unused for long.
    pub(crate) fn sweep(&self, now: Instant) -> bool {
        for worker in 0..self.shards.len() {
            self.lock(worker).retain(|idle| now.saturating_duration_since(idle.since) < self.keep_alive);
        }
        if self.idle() > 0 || self.health.matters() {
            self.empty_sweeps.store(0, Ordering::Relaxed);
            return false;
        }
        self.empty_sweeps.fetch_add(1, Ordering::Relaxed) >= UNUSED_SWEEPS
    }

    pub(crate) fn idle(&self) -> usize {
        (0..self.shards.len()).map(|worker| self.lock(worker).len()).sum()
    }

    fn lock(&self, worker: usize) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // A list of connections is whole after every statement: a panic elsewhere does not spoil it.
        self.shards[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }
}
