//! Which of several copies of a counter a thread uses, so that threads that are busy at once do not write to one cache
//! line. Each thread keeps the number it draws; the copies are added up when somebody reads.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Copies of each counter: a power of two.
pub(crate) const STRIPES: usize = 8;

/// A value on cache lines of its own. 128 bytes: processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);

/// The number of this thread, below [`STRIPES`].
pub(crate) fn mine() -> usize {
    // The one thing that threads share here is whose turn it is to take a number.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    MINE.get().unwrap_or_else(|| {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES;
        MINE.set(Some(number));
        number
    })
}
