//! How long one side has been waited for, and when the whole is to be over. Set once, moved only when it fires: a piece
//! that arrives costs no timer.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Runs while something is awaited, not while the other side holds us up.
pub(super) struct Clock {
    sleep: Pin<Box<Sleep>>,
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
    pub(super) fn start(patience: Duration) -> Self {
        let since = Instant::now();
        Self { sleep: Box::pin(sleep_until(since + patience)), patience, since, waiting: true, deadline: None }
    }

    /// The same, with an end to everything.
    pub(super) fn start_until(patience: Duration, deadline: Option<Instant>) -> Self {
        let mut clock = Self::start(patience);
        clock.deadline = deadline;
        if let Some(deadline) = deadline {
            clock.sleep.as_mut().reset(deadline.min(clock.since + patience));
        }
        clock
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
        if patience != self.patience {
            self.patience = patience;
            let next = Instant::now() + patience;
            self.sleep.as_mut().reset(self.deadline.map_or(next, |deadline| deadline.min(next)));
        }
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
        while self.sleep.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            let mut next = self.since + self.patience;
            if let Some(deadline) = self.deadline {
                if deadline <= now {
                    return Poll::Ready(Late::Deadline);
                }
                next = next.min(deadline);
            }
            if self.since + self.patience <= now {
                return Poll::Ready(Late::Patience);
            }
            self.sleep.as_mut().reset(next);
        }
        Poll::Pending
    }
}
