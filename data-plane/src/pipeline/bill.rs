//! What a request cost, from what its answer told and the prices of the provider that gave it.

use std::sync::Arc;

use crate::dialect::facts::Facts;
use crate::runtime::price::{Cost, Tokens};
use crate::runtime::provider::Provider;

/// The part of a record that is about money.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bill {
    /// Nano-dollars; `None`: unknown.
    pub(super) cost_nanos: Option<u64>,
    /// Of the price that was applied.
    pub(super) price_version: Option<Arc<str>>,
    /// Unknown for want of a price.
    pub(super) unpriced: bool,
}

/// Makes it. `refused`: nothing was sent, or the vendor refused it; vendors charge for what they tell and for no more.
pub(super) fn of(provider: Option<&Provider>, requested: Option<&str>, facts: &Facts, refused: bool) -> Bill {
    let tokens = Tokens {
        input: facts.input,
        output: facts.output,
        cached_input: facts.cached_input,
        cache_write: facts.cache_write,
        reasoning: facts.reasoning,
        input_audio: facts.input_audio,
        output_audio: facts.output_audio,
    };
    let silent = tokens == Tokens::default();
    let Some(provider) = provider.filter(|_| !(refused && silent)) else {
        return Bill { cost_nanos: Some(0), ..Bill::default() };
    };
    match provider.prices.cost(facts.model.as_deref(), requested, &tokens) {
        Cost::Known { nanos, version } => {
            Bill { cost_nanos: Some(nanos), price_version: Some(version), unpriced: false }
        }
        Cost::UnknownTokens => Bill::default(),
        Cost::Unpriced => Bill { unpriced: true, ..Bill::default() },
    }
}
