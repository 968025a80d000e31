//! Rules about how much may be used, as they come over the wire.

use crate::limit::rule::{Owner, Rule};

pub(super) mod wire {
    use std::time::Duration;

    use proto::config::limit as proto_limit;

    use super::{Owner, Rule};
    use crate::limit::calendar::Period;
    use crate::limit::meter::{MOST, Window};
    use crate::limit::rule::{Metric, Model, Pattern};
    use crate::runtime::invalid::{Code, Invalid};

    /// The rules of one owner.
    pub(in crate::runtime) fn rules(limits: Vec<proto::config::Limit>, owner: Owner) -> Result<Box<[Rule]>, Invalid> {
        limits.into_iter().enumerate().map(|(index, limit)| rule(limit, owner, index)).collect()
    }

    fn rule(limit: proto::config::Limit, owner: Owner, index: usize) -> Result<Rule, Invalid> {
        let invalid = |member: &str, code: Code, message: &'static str| {
            Err(Invalid::new(format!("/limits/{index}/{member}"), code, message))
        };
        let proto::config::Limit {
            name,
            metric,
            limit,
            window_ms,
            calendar,
            resources,
            shadow,
            unpriced_allowed,
            output_estimate,
            models,
            output_bound_required,
        } = limit;
        let metric = match proto_limit::Metric::try_from(metric) {
            Ok(proto_limit::Metric::Requests) => Metric::Requests,
            Ok(proto_limit::Metric::InputTokens) => Metric::InputTokens,
            Ok(proto_limit::Metric::OutputTokens) => Metric::OutputTokens,
            Ok(proto_limit::Metric::TotalTokens) => Metric::TotalTokens,
            Ok(proto_limit::Metric::Cost) => Metric::Cost,
            Ok(proto_limit::Metric::ConcurrentRequests) => Metric::ConcurrentRequests,
            Ok(proto_limit::Metric::Unspecified) | Err(_) => {
                return invalid("metric", Code::Unsupported, "this node is too old to know it");
            }
        };
        let window = match (proto_limit::Calendar::try_from(calendar), window_ms) {
            (Ok(proto_limit::Calendar::Day), _) => Window::Calendar(Period::Day),
            (Ok(proto_limit::Calendar::Month), _) => Window::Calendar(Period::Month),
            (Ok(proto_limit::Calendar::Unspecified), 0) if metric == Metric::ConcurrentRequests => Window::InFlight,
            (Ok(proto_limit::Calendar::Unspecified), 1..=86_400_000) => {
                Window::Rolling(Duration::from_millis(window_ms))
            }
            (Ok(proto_limit::Calendar::Unspecified), _) => {
                return invalid("window", Code::Malformed, "must be a second to a day");
            }
            (Err(_), _) => return invalid("window", Code::Unsupported, "this node is too old to know it"),
        };
        if !(1..=MOST).contains(&limit) {
            return invalid("limit", Code::Malformed, "must be from 1 to 10^15");
        }
        let mut patterns = Vec::with_capacity(resources.len());
        for resource in &resources {
            match Pattern::parse(resource) {
                Some(pattern) => patterns.push(pattern),
                None => return invalid("resources", Code::Malformed, "a path begins with a slash"),
            }
        }
        Ok(Rule {
            resources: patterns.into(),
            shadow,
            unpriced_allowed,
            output_estimate: output_estimate.min(MOST),
            models: models.into_iter().map(Model::parse).collect(),
            strict: output_bound_required,
            ..Rule::new(&name, owner, metric, limit, window)
        })
    }
}
