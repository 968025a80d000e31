//! How much at once: the bytes that all requests of the process may hold, and the requests of one key. Arithmetic alone:
//! it knows no request, and whoever took something gives it back by dropping it. What configured rules count has its
//! own files.

pub mod board;
pub mod calendar;
pub mod lease;
pub mod meter;
pub mod meters;
pub mod reservation;
pub mod rule;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use uuid::Uuid;

use crate::stripe::{self, Apart, STRIPES};

/// What one request is taken to hold while it is in flight: its share of four buffers (of the client and of the vendor,
/// reading and writing) that may grow to 64 KiB each and seldom do. Half of the most, so that a budget of half of the
/// memory cannot be overrun even if every stream fills all of them.
pub(crate) const REQUEST: u64 = 128 * 1024;

/// Bytes that may be held at once.
///
/// One number for all threads would be one cache line for all requests. So each stripe of threads has a purse with some
/// bytes in it, filled from what is free; only when neither has enough are the other purses emptied. Nothing is refused
/// while there is room anywhere.
#[derive(Debug)]
pub(crate) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: u64,
    /// Moved between purse and rest at a time.
    portion: u64,
    /// In no purse.
    free: AtomicU64,
    purses: [Arc<Apart<Purse>>; STRIPES],
}

#[derive(Debug)]
struct Purse {
    credit: AtomicU64,
    shared: Weak<Shared>,
}

/// Bytes that are taken; they are given back when this goes.
#[derive(Debug)]
pub(crate) struct Held {
    purse: Arc<Apart<Purse>>,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: u64) -> Self {
        Self(Arc::new_cyclic(|shared| Shared {
            limit,
            portion: (1 << 20).min(limit / (4 * STRIPES as u64)),
            free: AtomicU64::new(limit),
            purses: std::array::from_fn(|_| {
                Arc::new(Apart(Purse { credit: AtomicU64::new(0), shared: shared.clone() }))
            }),
        }))
    }

    /// Takes so many bytes; `None`: there are not so many left.
    pub(crate) fn reserve(&self, bytes: u64) -> Option<Held> {
        let purse = &self.0.purses[stripe::mine()];
        purse.0.take(bytes).then(|| Held { purse: Arc::clone(purse), bytes })
    }

    /// At most.
    pub(crate) fn limit(&self) -> u64 {
        self.0.limit
    }

    /// Taken at the moment. While others take and give it is off by what they move.
    pub(crate) fn held(&self) -> u64 {
        let credit: u64 = self.0.purses.iter().map(|purse| purse.0.credit.load(Ordering::Relaxed)).sum();
        self.0.limit.saturating_sub(self.0.free.load(Ordering::Relaxed).saturating_add(credit))
    }
}

impl Held {
    /// Takes more; `false`: there is not so much, and what was held stays held.
    pub(crate) fn grow(&mut self, bytes: u64) -> bool {
        let grown = self.purse.0.take(bytes);
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.purse.0.give(self.bytes);
    }
}

impl Purse {
    fn take(&self, bytes: u64) -> bool {
        if debit(&self.credit, bytes) {
            return true;
        }
        // Gone with its budget: nobody counts any more.
        let Some(shared) = self.shared.upgrade() else { return true };
        if debit(&shared.free, bytes.saturating_add(shared.portion)) {
            self.credit.fetch_add(shared.portion, Ordering::Relaxed);
            return true;
        }
        if debit(&shared.free, bytes) {
            return true;
        }
        for purse in &shared.purses {
            shared.free.fetch_add(purse.0.credit.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
        debit(&shared.free, bytes)
    }

    fn give(&self, bytes: u64) {
        let credit = self.credit.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let Some(shared) = (credit > 4 << 20).then(|| self.shared.upgrade()).flatten() else { return };
        let excess = credit - shared.portion;
        if debit(&self.credit, excess) {
            shared.free.fetch_add(excess, Ordering::Relaxed);
        }
    }
}

/// Takes it all or nothing.
fn debit(from: &AtomicU64, bytes: u64) -> bool {
    from.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes)).is_ok()
}

/// Requests in flight by key. A key's count outlives the configuration it came from; it is found once per key and
/// configuration, after which requests go straight to it.
#[derive(Debug, Default)]
pub(crate) struct KeyCounts(Mutex<HashMap<Uuid, Arc<AtomicU32>>>);

impl KeyCounts {
    /// The count of this key.
    pub(crate) fn of(&self, key: Uuid) -> Arc<AtomicU32> {
        Arc::clone(self.lock().entry(key).or_default())
    }

    /// Forgets the keys that no configuration and no request holds.
    pub(crate) fn sweep(&self) {
        self.lock().retain(|_, count| Arc::strong_count(count) > 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<AtomicU32>>> {
        // The map is whole after every statement: a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request of a key, in flight until this goes.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<AtomicU32>);

impl InFlight {
    /// One more; `None`: there are as many as there may be.
    pub(crate) fn enter(count: &Arc<AtomicU32>, limit: u32) -> Option<Self> {
        count
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .is_ok()
            .then(|| Self(Arc::clone(count)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_and_no_more_than_the_limit_is_taken() {
        for limit in [0, 1, 100, 1000, 1 << 30] {
            let budget = Budget::new(limit);
            assert!(budget.reserve(limit + 1).is_none());
            let mut all = budget.reserve(limit).unwrap();
            assert_eq!(budget.held(), limit);
            assert!(budget.reserve(1).is_none() && !all.grow(1));
            drop(all);
            let mut half = budget.reserve(limit / 2).unwrap();
            assert_eq!(budget.held(), limit / 2);
            assert!(half.grow(limit - limit / 2));
            assert_eq!(budget.held(), limit);
            drop(half);
            assert_eq!(budget.held(), 0);
        }
    }

    #[test]
    fn room_in_the_purses_of_other_threads_counts() {
        let budget = Arc::new(Budget::new(1 << 30));
        let threads: Vec<_> = (0..2 * STRIPES)
            .map(|_| {
                let budget = Arc::clone(&budget);
                std::thread::spawn(move || drop(budget.reserve(3 << 20).unwrap()))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(budget.held(), 0);
        let all = budget.reserve(1 << 30);
        assert!(all.is_some(), "no credit is out of reach: {budget:?}");
    }

    #[test]
    fn threads_that_take_and_give_at_once_never_hold_more_than_the_limit_together() {
        const LIMIT: u64 = 10_000;
        let budget = Arc::new(Budget::new(LIMIT));
        let taken = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..4u64)
            .map(|thread| {
                let (budget, taken) = (Arc::clone(&budget), Arc::clone(&taken));
                std::thread::spawn(move || {
                    let mut refused = 0;
                    for round in 0..20_000 {
                        let bytes = 1 + (round * 7919 + thread * 104_729) % 6000;
                        let Some(held) = budget.reserve(bytes) else {
                            refused += 1;
                            continue;
                        };
                        let together = taken.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        assert!(together <= LIMIT, "{together} of {LIMIT}");
                        taken.fetch_sub(bytes, Ordering::SeqCst);
                        drop(held);
                    }
                    refused
                })
            })
            .collect();
        for thread in threads {
            assert!(thread.join().unwrap() < 20_000, "somebody gets something");
        }
        assert_eq!(budget.held(), 0);
        assert!(budget.reserve(LIMIT).is_some());
    }

    #[test]
    fn what_outlives_its_budget_is_dropped_in_peace() {
        let budget = Budget::new(1000);
        let mut held = budget.reserve(400).unwrap();
        drop(budget);
        assert!(held.grow(1_000_000));
    }

    #[test]
    fn a_key_has_as_many_requests_in_flight_as_it_may() {
        let counts = KeyCounts::default();
        let key = Uuid::from_u128(1);
        let first = InFlight::enter(&counts.of(key), 2).unwrap();
        // As after a change of the configuration: the count is found again.
        counts.sweep();
        let second = InFlight::enter(&counts.of(key), 2).unwrap();
        assert!(InFlight::enter(&counts.of(key), 2).is_none());
        assert!(InFlight::enter(&counts.of(Uuid::from_u128(2)), 2).is_some(), "another key's are its own");
        drop(first);
        assert!(InFlight::enter(&counts.of(key), 2).is_some());
        drop(second);
        counts.sweep();
        assert!(counts.lock().is_empty());
    }
}
