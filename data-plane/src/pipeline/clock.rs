//! How long one side has been waited for. Set once, moved only when it fires: a piece that arrives costs no timer.

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
}

impl Clock {
    /// Begins to run at once.
    pub(super) fn start(patience: Duration) -> Self {
        let since = Instant::now();
        Self { sleep: Box::pin(sleep_until(since + patience)), patience, since, waiting: true }
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
            self.sleep.as_mut().reset(Instant::now() + patience);
        }
    }

    /// Begins anew although nothing has come.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// To be called whenever there is nothing yet: whether it has been too long.
    pub(super) fn poll_late(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.waiting {
            self.waiting = true;
            self.since = Instant::now();
        }
        while self.sleep.as_mut().poll(context).is_ready() {
            let deadline = self.since + self.patience;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}
