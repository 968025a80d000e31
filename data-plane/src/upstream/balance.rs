//! Which of several targets gets a request. Pure: what is known of them and one random number in, an index out.

/// What is known of a target that may be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Its share; at least 1.
    pub(crate) weight: u32,
    /// Requests under way.
    pub(crate) pending: u32,
    /// To the head of an answer, lately; `None`: nothing is known.
    pub(crate) latency_us: Option<u64>,
}

/// At random, in proportion to the weights. `None`: there is nothing to choose from.
pub(crate) fn weighted<T: Copy>(targets: impl Iterator<Item = (T, u32)> + Clone, draw: u64) -> Option<T> {
    let total: u64 = targets.clone().map(|(_, weight)| u64::from(weight)).sum();
    let mut at = draw.checked_rem(total)?;
    for (target, weight) in targets {
        match at.checked_sub(u64::from(weight)) {
            Some(rest) => at = rest,
            None => return Some(target),
        }
    }
    None
}

/// Two different indexes below `count`; the same twice if there is but one.
pub(crate) fn two(count: usize, draw: u64) -> (usize, usize) {
    let below = |draw: u64, count: usize| usize::try_from(draw % (count.max(1) as u64)).unwrap_or_default();
    let first = below(draw & 0xffff_ffff, count);
    let step = if count > 1 { 1 + below(draw >> 32, count - 1) } else { 0 };
    (first, (first + step) % count.max(1))
}

/// Whether the first of two should take it: less waiting, less latency, more weight.
pub(crate) fn is_first_better(first: Load, second: Load) -> bool {
    let (one, other) = match (first.latency_us, second.latency_us) {
        (Some(one), Some(other)) => (one.max(1), other.max(1)),
        // Nothing is known of one: it is taken for as fast as the other, or it would get everything until it answers.
        (Some(_), None) | (None, Some(_) | None) => (1, 1),
    };
    let cost = |load: Load, latency: u64| (u128::from(load.pending) + 1) * u128::from(latency);
    cost(first, one) * u128::from(second.weight.max(1)) <= cost(second, other) * u128::from(first.weight.max(1))
}

/// The finaliser of `SplitMix64`: spreads every bit, so that attempts of one request draw anew.
pub(crate) fn spread(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_as_the_weights_say() {
        let targets = [("a", 1), ("b", 3), ("c", 6)];
        let mut counts = [0_u32; 3];
        for draw in 0..10_000 {
            let chosen = weighted(targets.into_iter(), spread(draw)).unwrap();
            counts[targets.iter().position(|(name, _)| *name == chosen).unwrap()] += 1;
        }
        for (count, expected) in counts.into_iter().zip([1000, 3000, 6000]) {
            assert!(count.abs_diff(expected) < 200, "{counts:?}");
        }
        assert_eq!(weighted([("a", 1)].into_iter(), 7), Some("a"));
        assert_eq!(weighted([("a", 1); 0].into_iter(), 7), None);
    }

    #[test]
    fn two_are_drawn_and_never_the_same() {
        let mut seen = [[0_u32; 3]; 3];
        for draw in 0..3000 {
            let (one, other) = two(3, spread(draw));
            assert_ne!(one, other);
            seen[one][other] += 1;
        }
        assert!(seen.iter().flatten().filter(|count| **count > 300).count() == 6, "{seen:?}");
        assert_eq!((two(1, 5), two(2, 4)), ((0, 0), (0, 1)));
    }

    #[test]
    fn the_better_of_two_waits_less_is_faster_or_weighs_more() {
        let load = |weight, pending, latency_us| Load { weight, pending, latency_us };
        for (better, worse) in [
            (load(1, 0, Some(100)), load(1, 1, Some(100))),
            (load(1, 0, Some(100)), load(1, 0, Some(300))),
            (load(1, 2, Some(100)), load(1, 0, Some(900))),
            (load(4, 1, Some(100)), load(1, 0, Some(100))),
            (load(1, 0, None), load(1, 1, Some(1))),
            (load(1, 3, Some(9_000_000)), load(1, 4, None)),
        ] {
            assert!(is_first_better(better, worse), "{better:?} {worse:?}");
            assert!(!is_first_better(worse, better), "{better:?} {worse:?}");
        }
    }
}
