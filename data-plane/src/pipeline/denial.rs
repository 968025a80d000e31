//! What a refusal measured, for whoever asks why: the rule in the words of the configuration, what was asked, and what
//! would have been allowed.

use crate::runtime::endpoint::{Endpoint, Target};

/// Why a rule refused a request. Holds no secret: rules are configuration, and what was asked is the caller's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Which rule, and whose: `accessControl of llm-proxy assistant`.
    pub rule: Box<str>,
    /// What was measured or asked for; cut where it is long.
    pub asked: Box<str>,
    /// What the rule says.
    pub allowed: Box<str>,
}

/// Of what a caller said, so much is repeated.
const ASKED: usize = 200;

impl Denial {
    pub(super) fn new(rule: String, asked: &str, allowed: &str) -> Self {
        let mut end = asked.len().min(ASKED);
        while !asked.is_char_boundary(end) {
            end -= 1;
        }
        Self { rule: rule.into(), asked: asked[..end].into(), allowed: allowed.into() }
    }

    /// As a sentence for the caller.
    pub(crate) fn text(&self) -> String {
        let Self { rule, asked, allowed } = self;
        format!(" Asked for: {asked}. Rule: {rule} ({allowed}).")
    }
}

/// An endpoint as people name it.
pub(super) fn owner(endpoint: &Endpoint) -> String {
    let noun = match endpoint.target {
        Target::Provider(_) => "llm-provider",
        Target::Route(_) => "llm-proxy",
    };
    format!("{noun} {}", endpoint.name)
}
