//! Which of several control planes grants shares. The row in the store is renewed by whoever has it; who has seen it
//! stand still for long enough, by a clock of its own, takes it. Wall clocks are not compared.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::rules::Rules;
use crate::model::error::Error;
use crate::store::{Engine, Store, quota};

const EVERY: Duration = Duration::from_secs(2);
/// Without a renewal for this long, a leader grants nothing more.
const HOLDS: Duration = Duration::from_secs(8);
/// Longer than that by two looks: who takes over finds nobody granting.
const STANDS_STILL: Duration = Duration::from_secs(12);

/// What one control plane knows of it. Pure: time is an argument.
#[derive(Debug)]
struct Watch {
    me: Uuid,
    /// The row as it was seen first, and when.
    seen: Option<((Uuid, i64), Instant)>,
    /// No other can use the store.
    only: bool,
}

impl Watch {
    /// The row was read: whether it may be taken.
    fn may_take(&mut self, row: (Uuid, i64), now: Instant) -> bool {
        let since = match self.seen {
            Some((seen, since)) if seen == row => since,
            _ => {
                self.seen = Some((row, now));
                now
            }
        };
        row.0 == self.me || row.1 == 0 || self.only || now.duration_since(since) >= STANDS_STILL
    }
}

/// Runs until stopped, then lets others take over.
pub(super) async fn run(store: Store, rules: Rules, stop: CancellationToken) {
    let me = Uuid::now_v7();
    let only = matches!(store.engine(), Engine::Sqlite { .. });
    let mut watch = Watch { me, seen: None, only };
    loop {
        let asked = Instant::now();
        match attempt(&store, &mut watch, asked).await {
            Ok(Some(first)) => rules.lead(asked + HOLDS, first),
            Ok(None) => rules.follow(),
            // Whoever has it keeps it for as long as it holds.
            Err(error) => tracing::debug!(?error, "who grants shares of limits could not be asked"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            break;
        }
    }
    rules.follow();
    if let Err(error) = quota::resign(&store, me).await {
        tracing::debug!(?error, "others will take over granting shares of limits a little later");
    }
}

/// `Some`: this control plane grants shares; `true`: nobody ever did before it.
async fn attempt(store: &Store, watch: &mut Watch, now: Instant) -> Result<Option<bool>, Error> {
    let Some(row) = quota::leader(store).await? else {
        return Ok(quota::lead_first(store, watch.me).await?.then_some(true));
    };
    if !watch.may_take(row, now) {
        return Ok(None);
    }
    Ok(quota::lead(store, watch.me, row).await?.then_some(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_still_is_taken_and_what_moves_is_left() {
        let (me, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut watch = Watch { me, seen: None, only: false };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!watch.may_take((other, 5), at(0)));
        assert!(!watch.may_take((other, 5), at(11)));
        assert!(!watch.may_take((other, 6), at(12)), "it was renewed");
        assert!(!watch.may_take((other, 6), at(23)));
        assert!(watch.may_take((other, 6), at(24)));
        assert!(watch.may_take((me, 7), at(24)));
        assert!(watch.may_take((other, 0), at(24)), "given up");
        assert!(Watch { me, seen: None, only: true }.may_take((other, 5), at(0)), "an embedded store has no other");
    }
}
