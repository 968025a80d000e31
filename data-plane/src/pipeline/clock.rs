//! How long one side has been waited for, and when the whole is to be over. Set once, moved only when it fires: a piece
//! that arrives costs no timer.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Timers that one worker's requests have left behind. A timer that is due before all others wakes its thread when it is
/// set, by a system call; one that was set for an earlier request fires too early at most, and is moved then.
#[derive(Debug, Default)]
pub(crate) struct Timers(Mutex<Vec<Pin<Box<Sleep>>>>);

/// As many are kept: more would be for a crowd that may not come back.
const SPARE: usize = 256;

impl Timers {
    fn take(&self) -> Option<Pin<Box<Sleep>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn keep(&self, timer: Pin<Box<Sleep>>) {
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARE {
            spare.push(timer);
        }
    }
}

/// Runs while something is awaited, not while the other side holds us up.
pub(super) struct Clock {
    timers: Arc<Timers>,
    /// `None`: nothing has been waited for yet. It may fire too early, never too late.
    timer: Option<Pin<Box<Sleep>>>,
    patience: Duration,
    since: Instant,
    waiting: bool,
    deadline: Option<Instant>,
}

/// Why it has been too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing came within the patience.
    Patience,
    /// Whatever came, the whole was to be over by now.
    Deadline,
}

impl Clock {
    /// Begins to run at once.
    pub(super) fn start(timers: &Arc<Timers>, patience: Duration) -> Self {
        Self::start_until(timers, patience, None)
    }

    /// The same, with an end to everything.
    pub(super) fn start_until(timers: &Arc<Timers>, patience: Duration, deadline: Option<Instant>) -> Self {
        let timers = Arc::clone(timers);
        Self { timers, timer: None, patience, since: Instant::now(), waiting: true, deadline }
    }

    /// There is an end to nothing any more.
    pub(super) fn has_no_deadline(&mut self) {
        self.deadline = None;
    }

    /// Whether the whole was to be over by now.
    pub(super) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    /// What was awaited has come.
    pub(super) fn arrived(&mut self) {
        self.waiting = false;
    }

    /// It has come, and from now on the patience is another.
    pub(super) fn arrived_then(&mut self, patience: Duration) {
        self.waiting = false;
        self.patience = patience;
    }

    /// Begins anew although nothing has come.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// To be called whenever there is nothing yet: whether it has been too long.
    pub(super) fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<Late> {
        if !self.waiting {
            self.waiting = true;
            self.since = Instant::now();
        }
        let due = self.due();
        let timers = &self.timers;
        let timer = self.timer.get_or_insert_with(|| timers.take().unwrap_or_else(|| Box::pin(sleep_until(due))));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if self.deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(Late::Deadline);
            }
            if self.since + self.patience <= now {
                return Poll::Ready(Late::Patience);
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }

    fn due(&self) -> Instant {
        let next = self.since + self.patience;
        self.deadline.map_or(next, |deadline| deadline.min(next))
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.timers.keep(timer);
        }
    }
}
