//! Which target a request goes to, and which next when that fails: the group of the lowest priority number first,
//! within one by weight or by load, and never one that is spared while another can be had.

use std::sync::Arc;

use crate::runtime::endpoint::Endpoint;
use crate::runtime::provider::Provider;
use crate::runtime::proxy::{RouteTarget, Strategy};
use crate::upstream::Upstreams;
use crate::upstream::balance;
use crate::upstream::health::Flight;
use crate::upstream::pool::Pool;

/// Of one request.
pub(super) struct Plan<'a> {
    upstreams: &'a Upstreams,
    targets: &'a [RouteTarget],
    strategy: Strategy,
    /// Random, another for every request.
    draw: u64,
    /// A bit for each target.
    tried: u64,
    /// Of the tried ones, those where nothing speaks against a second time.
    once_more: u64,
    /// Attempts that may still be made.
    left: u32,
    /// A bit for each target whose rules do not let the request pass.
    barred: u64,
}

/// One attempt to be made.
pub(super) struct Leg<'a> {
    pub(super) provider: &'a Arc<Provider>,
    pub(super) flight: Flight,
    /// There was one there before.
    pub(super) repeats: bool,
    bit: u64,
    first: bool,
}

impl Leg<'_> {
    /// Which of the endpoint's targets it is.
    pub(super) fn target(&self) -> usize {
        self.bit.trailing_zeros() as usize
    }

    /// Nothing was tried before it.
    pub(super) fn is_first(&self) -> bool {
        self.first
    }
}

impl<'a> Plan<'a> {
    pub(super) fn new(upstreams: &'a Upstreams, endpoint: &'a Endpoint, draw: impl FnOnce() -> u64) -> Self {
        let targets = endpoint.target.targets();
        let left = endpoint.further_attempts;
        if left > 0 {
            upstreams.allowance.earn();
        }
        let draw = if targets.len() > 1 { draw() } else { 0 };
        let strategy = endpoint.target.strategy();
        Self { upstreams, targets, strategy, draw, tried: 0, once_more: 0, left, barred: 0 }
    }

    /// Leaves these targets out: a bit for each.
    pub(super) fn bar(&mut self, targets: u64) {
        self.barred |= targets;
    }

    /// Whether this target is left out.
    pub(super) fn is_barred(&self, target: usize) -> bool {
        self.barred & 1 << target != 0
    }

    /// Whether a second attempt is thinkable at all.
    pub(super) fn may_go_on(&self) -> bool {
        self.left > 0
    }

    /// `None`: every target is switched off.
    pub(super) fn first(&mut self) -> Option<Leg<'a>> {
        let leg = match self.targets {
            // Its own error is what the caller wants to see.
            [only] if self.barred == 0 => Some(self.leg(0, Flight::force(&self.upstreams.pool(&only.provider)), false)),
            _ => self.untried().or_else(|| self.soonest()),
        }?;
        self.tried |= leg.bit;
        Some(leg)
    }

    /// Leaves out what was chosen: it has no room for the request, and nothing was tried there.
    pub(super) fn withdraw(&mut self, leg: &Leg<'a>) {
        self.barred |= leg.bit;
        if leg.first {
            self.tried = 0;
        } else {
            self.left += 1;
        }
    }

    /// The next one. `harmless`: what has failed may be sent there again. `None`: what has failed stays.
    pub(super) fn next(&mut self, failed: &Leg<'a>, harmless: bool) -> Option<Leg<'a>> {
        if harmless && !failed.repeats {
            self.once_more |= failed.bit;
        }
        let left = self.left.checked_sub(1)?;
        let leg = self.untried().or_else(|| self.repeated())?;
        if !self.upstreams.allowance.spend() {
            return None;
        }
        self.left = left;
        self.tried |= leg.bit;
        self.once_more &= !leg.bit;
        Some(leg)
    }

    fn leg(&self, index: usize, flight: Flight, repeats: bool) -> Leg<'a> {
        Leg { provider: &self.targets[index].provider, flight, repeats, bit: 1 << index, first: self.tried == 0 }
    }

    /// Of the first group that has one.
    fn untried(&mut self) -> Option<Leg<'a>> {
        let (mut start, tried) = (0, self.tried | self.barred);
        for group in self.targets.chunk_by(|one, other| one.priority == other.priority) {
            let mut open: Vec<(usize, Arc<Pool>)> = (start..start + group.len())
                .filter(|index| tried & 1 << index == 0 && !self.targets[*index].provider.disabled)
                .map(|index| (index, self.upstreams.pool(&self.targets[index].provider)))
                .filter(|(_, pool)| pool.health().is_passable())
                .collect();
            start += group.len();
            while !open.is_empty() {
                let (index, pool) = open.swap_remove(self.choose(&open));
                // Another request may have been faster to take the last probe.
                if let Some(flight) = Flight::begin(&pool) {
                    return Some(self.leg(index, flight, false));
                }
            }
        }
        None
    }

    /// Into `open`, which is not empty.
    fn choose(&mut self, open: &[(usize, Arc<Pool>)]) -> usize {
        self.draw = balance::spread(self.draw);
        let weight = |at: usize| self.targets[open[at].0].weight;
        match self.strategy {
            Strategy::Weighted => {
                let weights = (0..open.len()).map(|at| (at, weight(at)));
                balance::weighted(weights, self.draw).unwrap_or_default()
            }
            Strategy::LeastPending => {
                let (one, other) = balance::two(open.len(), self.draw);
                let load = |at: usize| open[at].1.health().load(weight(at));
                if balance::is_first_better(load(one), load(other)) { one } else { other }
            }
        }
    }

    /// All are spared: the one that will be spared no longer first. A request is never refused for what was learned
    /// from others.
    fn soonest(&self) -> Option<Leg<'a>> {
        let enabled = (0..self.targets.len())
            .filter(|index| !self.targets[*index].provider.disabled && self.barred & 1 << index == 0);
        let pools = enabled.map(|index| (index, self.upstreams.pool(&self.targets[index].provider)));
        let (index, pool) = pools.min_by_key(|(_, pool)| pool.health().passable_at())?;
        Some(self.leg(index, Flight::force(&pool), false))
    }

    fn repeated(&self) -> Option<Leg<'a>> {
        let open = self.once_more & !self.barred;
        let index = (0..self.targets.len()).find(|index| open & 1 << index != 0)?;
        let pool = self.upstreams.pool(&self.targets[index].provider);
        let flight = if self.targets.len() == 1 { Some(Flight::force(&pool)) } else { Flight::begin(&pool) }?;
        Some(self.leg(index, flight, true))
    }
}
