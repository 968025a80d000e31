//! How much of a budget a node gets into its hands at a time. Pure.

use crate::store::quota::{Holding, Move};

/// What a node says of its part of a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Of this period.
    pub spent: i64,
    /// Requests wait for so much.
    pub need: u64,
    /// It wants so much in hand beyond that.
    pub ahead: u64,
    /// What it has in hand is given back: whether it speaks of this period, and the version that it knows.
    pub release: Option<(bool, u64)>,
}

impl Claim {
    /// What becomes of its holding, when so much is granted to all; and whether there is no more than that.
    pub fn decide(self, limit: i64, granted: i64, holding: Holding) -> (Move, bool) {
        let Self { spent, need, ahead, release } = self;
        let debt = (spent - holding.granted).max(0);
        let in_hand = unsigned(holding.granted - spent);
        if let Some((current, version)) = release {
            let back = current && unsigned(holding.version) == version;
            return (Move { debt, more: 0, back: if back { integer(in_hand) } else { 0 } }, false);
        }
        let remaining = unsigned(limit - granted - debt);
        let (more, all) = chunk(Ask { need, ahead, in_hand, remaining });
        (Move { debt, more: integer(more), back: 0 }, all)
    }
}

/// No limit comes near the end of 63 bits; what does is a mistake that must not overflow a sum.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX).min(1 << 60)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// What a node asks for, and how things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ask {
    /// Requests wait for so much.
    need: u64,
    /// It wants so much in hand beyond that.
    ahead: u64,
    /// It has so much in hand: granted and not spent.
    in_hand: u64,
    /// Of the budget, granted to nobody.
    remaining: u64,
}

/// Of what remains, a node gets ahead of its needs one part in this many.
const PARTS: u64 = 8;

/// What it gets, and whether that is all there is. Needs are met while there is anything; what is for later is small,
/// and smaller the nearer the end is.
fn chunk(ask: Ask) -> (u64, bool) {
    let Ask { need, ahead, in_hand, remaining } = ask;
    let lacks = need.saturating_sub(in_hand);
    let now = lacks.min(remaining);
    let later = need.saturating_add(ahead).saturating_sub(in_hand) - lacks;
    let later = later.min((remaining - now) / PARTS);
    (now + later, remaining == 0 || now < lacks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(need: u64, ahead: u64, in_hand: u64, remaining: u64) -> (u64, bool) {
        chunk(Ask { need, ahead, in_hand, remaining })
    }

    #[test]
    fn needs_come_first_and_what_is_for_later_shrinks_with_what_remains() {
        assert_eq!(of(10, 100, 0, 10_000), (110, false));
        assert_eq!(of(10, 100, 0, 410), (60, false));
        assert_eq!(of(10, 100, 0, 17), (10, false));
        assert_eq!(of(10, 100, 0, 7), (7, true));
        assert_eq!(of(10, 100, 0, 0), (0, true));
        assert_eq!(of(0, 100, 60, 10_000), (40, false));
        assert_eq!(of(10, 100, 200, 10_000), (0, false));
        assert_eq!(of(u64::MAX, u64::MAX, 0, u64::MAX), (u64::MAX, false));
    }
}
