//! Part of step 6: the next target whose provider's limits have room for the request. What is taken from them is taken
//! for one attempt, and before it; a target that has no room is left out, as one that is spared would be.

use std::time::Duration;

use super::admit::{self, Permit};
use super::parcel::Parcel;
use super::plan::{Leg, Plan};
use super::receive::Call;
use super::weigh::Weight;
use crate::error::Refusal;
use crate::limit::reservation::{Cost, Refused, Usage};

/// What a request is known by.
pub(super) struct Chooser<'a> {
    pub(super) permit: &'a Permit,
    /// `None`: no rule wants to know.
    pub(super) weight: Option<Box<Weight>>,
}

/// What an attempt that failed came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// The vendor has seen nothing.
    Nothing,
    /// The vendor refused.
    Request,
    /// Nobody knows.
    Doubt,
}

impl Chooser<'_> {
    /// Nothing has been sent yet: where no target has room, this is the end, and the rule that frees first is told.
    pub(super) async fn first<'b>(
        &self,
        call: &mut Call,
        plan: &mut Plan<'b>,
        parcel: &Parcel,
    ) -> Result<Leg<'b>, Refusal> {
        let mut told: Option<(usize, Refused)> = None;
        loop {
            let Some(leg) = plan.first() else { break };
            let Err(refused) = self.reserve(call, &leg, parcel).await else { return Ok(leg) };
            plan.withdraw(&leg);
            if told.as_ref().is_none_or(|(_, told)| pause(&refused) < pause(told)) {
                told = Some((leg.target(), refused));
            }
        }
        Err(match told {
            None => Refusal::EndpointDisabled,
            Some((target, refused)) => admit::refuse_target(call, self.permit, self.weight.as_deref(), target, refused),
        })
    }

    /// Another after one that failed. `None`: what has failed stays.
    pub(super) async fn next<'b>(
        &self,
        call: &mut Call,
        plan: &mut Plan<'b>,
        parcel: &Parcel,
        failed: &Leg<'b>,
        harmless: bool,
        spent: Spent,
    ) -> Option<Leg<'b>> {
        let usage = Usage { sent: spent != Spent::Nothing, open: spent == Spent::Doubt, ..Usage::default() };
        let cost = if spent == Spent::Doubt { Cost::Unknown } else { Cost::Nothing };
        // The next one may be at the same provider, and want the very place that this one has.
        call.account.settle_attempt(&Usage { cost, ..usage });
        loop {
            let leg = plan.next(failed, harmless)?;
            if self.reserve(call, &leg, parcel).await.is_err() {
                plan.withdraw(&leg);
            } else if spent != Spent::Doubt || call.account.doubles() {
                return Some(leg);
            } else {
                // It may cost as much again, and there is not so much.
                call.account.returns_attempt();
                return None;
            }
        }
    }

    async fn reserve(&self, call: &mut Call, leg: &Leg<'_>, parcel: &Parcel) -> Result<(), Refused> {
        if leg.provider.limits.is_empty() {
            return Ok(());
        }
        admit::reserve_attempt(call, self.permit, leg, self.weight.as_deref(), parcel).await
    }
}

/// Until it frees; what no time frees comes last.
fn pause(refused: &Refused) -> Duration {
    match refused {
        Refused::Exceeded(exceeded) => exceeded.frees_in.unwrap_or(Duration::MAX),
        Refused::Dry(_) | Refused::Unbounded(..) | Refused::Unpriced(..) => Duration::MAX,
    }
}
