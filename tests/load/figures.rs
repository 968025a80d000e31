//! Numbers from many numbers. Pure.

/// The middle one, or the mean of the two in the middle; 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => 0.0,
        (length, middle) if length % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// The value that this share of the sorted values does not exceed; 0 of none.
pub(crate) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
}

/// Half the way from the least to the most, as a share of the median; 0 where that says nothing.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let (least, most) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), value| (least.min(*value), most.max(*value)));
    let median = median(values);
    if values.len() < 2 || median == 0.0 { 0.0 } else { ((most - least) / 2.0 / median).abs() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-9
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!(same(median(&[3.0, 1.0, 2.0]), 2.0));
        assert!(same(median(&[4.0, 1.0, 2.0, 3.0]), 2.5));
        assert!(same(median(&[7.0]), 7.0));
        assert!(same(median(&[]), 0.0));
    }

    #[test]
    fn a_quantile_is_a_value_that_was_there() {
        let values: Vec<f64> = (1..=1_000).map(f64::from).collect();
        let of = |share| quantile(&values, share);
        assert!(same(of(0.5), 500.0) && same(of(0.99), 990.0) && same(of(0.999), 999.0) && same(of(1.0), 1_000.0));
        assert!(same(quantile(&[7.0], 0.001), 7.0));
        assert!(same(quantile(&[], 0.5), 0.0));
    }

    #[test]
    fn the_spread_is_half_of_the_range() {
        assert!(same(spread(&[9.0, 10.0, 12.0]), 0.15));
        assert!(same(spread(&[5.0]), 0.0));
        assert!(same(spread(&[-1.0, 0.0, 1.0]), 0.0));
        assert!(same(spread(&[-9.0, -10.0, -12.0]), 0.15));
    }
}
