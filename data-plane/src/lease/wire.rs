//! How limits are spoken of on the wire.

use std::time::Duration;

use proto::config::limit::{Calendar, Metric as WireMetric};
use proto::quota::{LeaseRequest, Purse, PurseGrant, Rule, Share, ShareGrant as WireShare};

use super::SessionError;
use crate::limit::calendar::Period;
use crate::limit::lease::{Identity, PartGrant, ShareGrant, Told};
use crate::limit::meter::Window;
use crate::limit::rule::Metric;

/// By which both planes know a rule.
pub(super) fn digest(identity: &Identity) -> [u8; 16] {
    proto::rule::digest(&rule(identity))
}

fn rule(identity: &Identity) -> Rule {
    let Identity { owner, api_key, name, metric, window } = identity;
    let metric = match metric {
        Metric::Requests => WireMetric::Requests,
        Metric::InputTokens => WireMetric::InputTokens,
        Metric::OutputTokens => WireMetric::OutputTokens,
        Metric::TotalTokens => WireMetric::TotalTokens,
        Metric::Cost => WireMetric::Cost,
        Metric::ConcurrentRequests => WireMetric::ConcurrentRequests,
    };
    let (window_ms, calendar) = match window {
        Window::Rolling(window) => (u64::try_from(window.as_millis()).unwrap_or(u64::MAX), Calendar::Unspecified),
        Window::Calendar(Period::Day) => (0, Calendar::Day),
        Window::Calendar(Period::Month) => (0, Calendar::Month),
        Window::InFlight => (0, Calendar::Unspecified),
    };
    Rule {
        owner: owner.as_bytes().to_vec().into(),
        api_key: *api_key,
        name: name.to_string(),
        metric: metric as u32,
        window_ms,
        calendar: calendar as u32,
    }
}

/// Adds what is told of one to a message.
pub(super) fn put(message: &mut LeaseRequest, identity: &Identity, told: Told) {
    let rule = Some(rule(identity));
    match told {
        Told::Share { version, held, fallback, fill, in_flight, want, release } => {
            message.shares.push(Share { rule, version, held, fallback, fill, in_flight, want, release });
        }
        Told::Part { period, version, spent, need, ahead, release } => {
            message.purses.push(Purse { rule, period, version, spent, need, ahead, release });
        }
    }
}

/// `None`: it only says that a release was heard.
pub(super) fn share(grant: WireShare) -> Option<([u8; 16], ShareGrant)> {
    let WireShare { rule, version, share, fallback, valid_ms, base, fill, pending, released } = grant;
    let valid = Duration::from_millis(valid_ms.into());
    let digest = rule.as_ref().try_into().ok()?;
    (!released).then_some((digest, ShareGrant { version, share, fallback, valid, base, fill, pending }))
}

pub(super) fn part(grant: PurseGrant) -> Result<([u8; 16], PartGrant), SessionError> {
    let PurseGrant { rule, period, ends_in_ms, version, held, elsewhere, exhausted } = grant;
    let digest = rule.as_ref().try_into();
    let digest = digest.map_err(|_| SessionError::Ended("it grants a part of no rule".to_owned()))?;
    let ends_in = Duration::from_millis(ends_in_ms);
    Ok((digest, PartGrant { period, ends_in, version, held, elsewhere, exhausted }))
}
