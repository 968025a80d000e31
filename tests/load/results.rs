//! What was measured, repetition by repetition, and what it comes to: medians, spreads, and ratios to the floor.

use serde_json::{Value, json};

use crate::{figures, subject::Kind};

/// In bytes.
pub(crate) const MEBIBYTE: f64 = 1_048_576.0;

/// Half of the range, as a share of the median.
const UNCLEAR: f64 = 0.3;

/// What is wanted of Lockgate's figure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    None,
    /// Against the floor's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// By itself.
    AtMost(f64),
}

/// One figure of one scenario.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Metric {
    pub(crate) scenario: &'static str,
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) target: Target,
}

impl Metric {
    pub(crate) const fn new(scenario: &'static str, name: &'static str, unit: &'static str, target: Target) -> Self {
        Self { scenario, name, unit, target }
    }
}

/// A metric with what each subject showed, one value a repetition.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) metric: Metric,
    pub(crate) values: Vec<(Kind, Vec<f64>)>,
}

#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) rows: Vec<Row>,
}

impl Results {
    pub(crate) fn add(&mut self, metric: &Metric, kind: Kind, value: f64) {
        let known = self.rows.iter().position(|row| row.metric == *metric);
        let row = known.unwrap_or_else(|| {
            self.rows.push(Row { metric: *metric, values: Vec::new() });
            self.rows.len() - 1
        });
        let row = &mut self.rows[row];
        match row.values.iter_mut().find(|(other, _)| *other == kind) {
            Some((_, values)) => values.push(value),
            None => row.values.push((kind, vec![value])),
        }
    }
}

/// One turn of all subjects: what going direct showed in it, for what is told as an addition to that.
#[derive(Debug, Default)]
pub(crate) struct Round {
    direct: Vec<(Metric, f64)>,
}

impl Results {
    /// Going direct shows the value itself, everything else what it adds.
    pub(crate) fn add_to_direct(&mut self, round: &mut Round, metric: &Metric, kind: Kind, value: f64) {
        if kind == Kind::Direct {
            round.direct.push((*metric, value));
            self.add(metric, kind, value);
        } else if let Some((_, direct)) = round.direct.iter().find(|(other, _)| other == metric) {
            self.add(metric, kind, value - direct);
        }
    }
}

impl Row {
    pub(crate) fn of(&self, kind: Kind) -> Option<&[f64]> {
        self.values.iter().find(|(other, _)| *other == kind).map(|(_, values)| values.as_slice())
    }

    /// Against the floor's of the same repetition, which saw the same machine.
    pub(crate) fn ratios(&self, kind: Kind) -> Option<Vec<f64>> {
        if kind == Kind::Floor {
            return None;
        }
        let (floor, own) = (self.of(Kind::Floor)?, self.of(kind)?);
        // An addition that drowned in noise has no ratio.
        let measurable = floor.len() == own.len() && floor.iter().all(|value| *value > 0.0);
        measurable.then(|| own.iter().zip(floor).map(|(own, floor)| own / floor).collect())
    }

    /// `None`: there is no target, or no figure to hold against it.
    pub(crate) fn holds(&self) -> Option<bool> {
        let ratio = || self.ratios(Kind::Lockgate).map(|ratios| figures::median(&ratios));
        match self.metric.target {
            Target::None => None,
            Target::RatioAtMost(most) => ratio().map(|ratio| ratio <= most),
            Target::RatioAtLeast(least) => ratio().map(|ratio| ratio >= least),
            Target::AtMost(most) => self.of(Kind::Lockgate).map(|values| figures::median(values) <= most),
        }
    }

    /// The turns disagree too much for a verdict that could be relied on.
    pub(crate) fn unclear(&self) -> bool {
        let values = match self.metric.target {
            Target::None => None,
            Target::RatioAtMost(_) | Target::RatioAtLeast(_) => self.ratios(Kind::Lockgate),
            Target::AtMost(_) => self.of(Kind::Lockgate).map(<[f64]>::to_vec),
        };
        values.is_some_and(|values| figures::spread(&values) > UNCLEAR)
    }

    pub(crate) fn to_json(&self) -> Value {
        let subjects: Vec<_> = self
            .values
            .iter()
            .map(|(kind, values)| {
                let ratios = self.ratios(*kind);
                json!({
                    "subject": kind.name(), "values": values,
                    "median": figures::median(values), "spread": figures::spread(values),
                    "ratioToFloor": ratios.as_deref().map(figures::median),
                    "ratioSpread": ratios.as_deref().map(figures::spread),
                })
            })
            .collect();
        let (target, figure) = match self.metric.target {
            Target::None => (None, None),
            Target::RatioAtMost(figure) => (Some("ratioAtMost"), Some(figure)),
            Target::RatioAtLeast(figure) => (Some("ratioAtLeast"), Some(figure)),
            Target::AtMost(figure) => (Some("atMost"), Some(figure)),
        };
        json!({
            "scenario": self.metric.scenario, "metric": self.metric.name, "unit": self.metric.unit,
            "subjects": subjects,
            "target": target.map(|kind| json!({"kind": kind, "figure": figure, "holds": self.holds(), "unclear": self.unclear()})),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Metric = Metric::new("s", "cost", "us", Target::RatioAtMost(1.3));

    fn row(metric: &Metric, floor: &[f64], own: &[f64]) -> Row {
        let mut results = Results::default();
        for value in floor {
            results.add(metric, Kind::Floor, *value);
        }
        for value in own {
            results.add(metric, Kind::Lockgate, *value);
        }
        results.rows.pop().unwrap()
    }

    #[test]
    fn a_ratio_is_taken_repetition_by_repetition() {
        // The machine was busy in the second: both cost twice as much, and the ratio stays.
        let row = row(&COST, &[10.0, 20.0, 10.0], &[12.0, 24.0, 13.5]);
        let ratios = row.ratios(Kind::Lockgate).unwrap();
        assert!((figures::median(&ratios) - 1.2).abs() < 1e-9);
        assert_eq!(row.holds(), Some(true));
        assert_eq!(row.ratios(Kind::Floor), None);
        assert_eq!(row.to_json()["target"]["holds"], true);
    }

    #[test]
    fn turns_that_disagree_give_no_clear_verdict() {
        assert!(!row(&COST, &[10.0, 20.0, 10.0], &[12.0, 24.0, 13.5]).unclear());
        assert!(row(&COST, &[10.0, 20.0, 10.0], &[12.0, 12.0, 20.0]).unclear());
        let size = Metric::new("s", "size", "MiB", Target::AtMost(16.0));
        assert!(row(&size, &[], &[5.0, 15.0]).unclear());
        let plain = Metric::new("s", "plain", "us", Target::None);
        assert!(!row(&plain, &[1.0, 1.0], &[1.0, 9.0]).unclear());
    }

    #[test]
    fn a_target_that_is_missed_is_said_to_be() {
        assert_eq!(row(&COST, &[10.0], &[13.1]).holds(), Some(false));
        let rate = Metric::new("s", "rate", "/s", Target::RatioAtLeast(0.8));
        assert_eq!(row(&rate, &[10.0], &[7.9]).holds(), Some(false));
        assert_eq!(row(&rate, &[10.0], &[8.1]).holds(), Some(true));
        let size = Metric::new("s", "size", "MiB", Target::AtMost(16.0));
        assert_eq!(row(&size, &[], &[17.0]).holds(), Some(false));
        assert_eq!(row(&size, &[], &[15.0]).holds(), Some(true));
    }

    #[test]
    fn an_addition_is_to_what_going_direct_showed_in_the_same_turn() {
        let mut results = Results::default();
        for (direct, own) in [(100.0, 180.0), (300.0, 390.0)] {
            let mut round = Round::default();
            results.add_to_direct(&mut round, &COST, Kind::Direct, direct);
            results.add_to_direct(&mut round, &COST, Kind::Lockgate, own);
        }
        assert_eq!(results.rows[0].of(Kind::Direct), Some([100.0, 300.0].as_slice()));
        assert_eq!(results.rows[0].of(Kind::Lockgate), Some([80.0, 90.0].as_slice()));
    }

    #[test]
    fn without_a_floor_there_is_no_verdict() {
        assert_eq!(row(&COST, &[], &[13.1]).holds(), None);
        assert_eq!(row(&COST, &[-1.0], &[13.1]).holds(), None);
        let plain = Metric::new("s", "plain", "us", Target::None);
        assert_eq!(row(&plain, &[1.0], &[1.0]).holds(), None);
    }
}
