//! The deadlines of a connection, whatever it speaks.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::close::Close;
use crate::config::Deadlines;
use crate::presence::{Presence, Stage, Waiting};

/// What is left when the drain time is over has this long to be told so.
const FAREWELL: Duration = Duration::from_secs(1);

/// When the node stops, a connection on which nothing is under way may carry one more request that begins within this:
/// it may be on its way. The answer says that the connection closes, so that the client goes elsewhere by itself; had it
/// been closed at once, the client could not know whether that request was read.
pub(super) const GRACE: Duration = Duration::from_secs(1);

/// One timer, moved only when it fires or must fire earlier.
pub(super) struct Watch {
    seen: Stage,
    sleep: Option<Pin<Box<Sleep>>>,
    /// `None`: the node does not stop.
    drains_since: Option<Instant>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { seen: Stage::Serving, sleep: None, drains_since: None }
    }

    /// Whether the node has begun to drain since this was last asked.
    pub(super) fn drains(&mut self, presence: &Presence, context: &Context<'_>) -> bool {
        if self.seen < Stage::Ending {
            presence.driven_by(context.waker());
        }
        let now = presence.stage();
        let drains = self.seen < Stage::Draining && now >= Stage::Draining;
        if drains {
            self.drains_since = Some(Instant::now());
        }
        if self.seen < Stage::Ending && now == Stage::Ending {
            // Whatever it waited for, this comes first.
            self.sleep = Some(Box::pin(sleep(FAREWELL)));
        }
        self.seen = now;
        drains
    }

    /// Whether what is open is to end now.
    pub(super) fn is_ending(&self) -> bool {
        self.seen == Stage::Ending
    }

    /// Ready when the connection has waited for too long: for what. `None`: its time is over with the node's.
    pub(super) fn poll_late(
        &mut self,
        presence: &Presence,
        deadlines: &Deadlines,
        context: &mut Context<'_>,
    ) -> Poll<Option<Close>> {
        if self.seen == Stage::Ending {
            return self.sleep.as_mut().map_or(Poll::Ready(()), |sleep| sleep.as_mut().poll(context)).map(|()| None);
        }
        loop {
            let wait = match presence.waiting() {
                Waiting::FirstByte(since) => Some((since + deadlines.first_byte, Close::FirstByte)),
                Waiting::Request(since) => Some((since + deadlines.keep_alive, Close::KeepAlive)),
                Waiting::Head(since) => Some((since + deadlines.head, Close::Head)),
                Waiting::Client(since) => Some((since + deadlines.client_idle, Close::ClientIdle)),
                Waiting::Nothing => None,
            };
            let wait = wait.map(|(at, close)| (Instant::from_std(at), Some(close)));
            let wait = match (wait, self.drains_since) {
                (Some((at, Some(Close::FirstByte | Close::KeepAlive))), Some(since)) if since + GRACE < at => {
                    Some((since + GRACE, None))
                }
                _ => wait,
            };
            let Some((deadline, close)) = wait else {
                // Nothing to wait for. An old timer may fire once and find out.
                if self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(context).is_ready()) {
                    self.sleep = None;
                }
                return Poll::Pending;
            };
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(close);
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
