//! Part of steps 4 and 6: more of a limit that is shared with other nodes than this one holds. A request waits for it
//! for a moment, holding nothing meanwhile; who does not get it by then goes by what the node was told last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::limit::board::Board;
use crate::limit::lease::Reach;
use crate::limit::meters::Meters;
use crate::limit::reservation::{Dry, Refused};

/// The control plane answers within a round trip; a share that others give back first takes two.
const PATIENCE: Duration = Duration::from_millis(250);

/// Whom a request can ask that comes now.
pub(super) fn reach(meters: &Meters) -> Reach {
    match meters.board() {
        Some(board) if board.is_reachable() => Reach::Ask,
        Some(_) | None => Reach::Alone,
    }
}

/// So much is waited for, until this goes.
struct Waiting<'a>(&'a Dry);

impl<'a> Waiting<'a> {
    fn new(dry: &'a Dry) -> Self {
        dry.meter.with_lease(|lease| lease.waits(dry.amount, true));
        Self(dry)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.meter.with_lease(|lease| lease.waits(self.0.amount, false));
    }
}

/// Asks for what was lacking and takes again, until that succeeds or is refused.
pub(super) async fn wait(
    board: Arc<Board>,
    mut dry: Dry,
    mut take: impl FnMut(Reach) -> Result<(), Refused>,
) -> Result<(), Refused> {
    board.counters.waited.fetch_add(1, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let Some(answered) = dry.meter.with_lease(|lease| Arc::clone(&lease.answered)) else {
            // The rule has changed: nobody shares it any more.
            return take(Reach::Alone);
        };
        // From here on an answer is heard.
        let answered = answered.notified();
        let waiting = Waiting::new(&dry);
        board.list(&dry.meter);
        let heard = timeout_at(deadline, answered).await;
        drop(waiting);
        if heard.is_err() {
            board.counters.unanswered.fetch_add(1, Ordering::Relaxed);
            let now = board.at(std::time::Instant::now(), 0).since;
            dry.meter.with_lease(|lease| lease.unanswered(now));
            return take(Reach::Alone);
        }
        match take(Reach::Again) {
            Err(Refused::Dry(still)) => dry = still,
            done => return done,
        }
    }
}
