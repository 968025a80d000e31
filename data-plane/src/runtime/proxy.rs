//! An endpoint's way to its providers.

use std::sync::Arc;

use super::models::Aliases;
use super::provider::Provider;

/// Bounds what a request remembers of the targets it has tried.
pub const MOST_TARGETS: usize = 64;

/// Where a proxy may send a request; never empty, lowest priority number first.
#[derive(Debug)]
pub struct Route {
    targets: Box<[RouteTarget]>,
    /// How one of the targets of a priority is chosen.
    pub strategy: Strategy,
}

/// One of them.
#[derive(Debug)]
pub struct RouteTarget {
    /// A provider of the same configuration.
    pub provider: Arc<Provider>,
    /// Share among targets of one priority; at least 1.
    pub weight: u32,
    /// Lower first.
    pub priority: u32,
    /// The proxy's name of a model to the provider's own.
    pub aliases: Aliases,
}

/// How one of several targets is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// At random, in proportion to the weights.
    #[default]
    Weighted,
    /// The better of two drawn, by requests under way, latency and weight.
    LeastPending,
}

impl Route {
    /// `None` if there is no target.
    pub(super) fn new(mut targets: Vec<RouteTarget>, strategy: Strategy) -> Option<Self> {
        targets.sort_by_key(|target| target.priority);
        (!targets.is_empty()).then(|| Self { targets: targets.into(), strategy })
    }

    /// In order of priority.
    pub fn targets(&self) -> &[RouteTarget] {
        &self.targets
    }
}

impl RouteTarget {
    /// The only one there is.
    pub(super) fn sole(provider: Arc<Provider>) -> Self {
        Self { provider, weight: 1, priority: 0, aliases: Aliases::new() }
    }
}

pub(super) mod wire {
    use proto::config::route;
    use uuid::Uuid;

    use super::{Aliases, MOST_TARGETS, Strategy};
    use crate::runtime::invalid::{Code, Invalid};
    use crate::runtime::models;

    /// A route whose targets are still references.
    pub(in crate::runtime) struct Parsed {
        pub(in crate::runtime) targets: Vec<ParsedTarget>,
        pub(in crate::runtime) strategy: Strategy,
    }

    /// A target that is still a reference.
    pub(in crate::runtime) struct ParsedTarget {
        pub(in crate::runtime) provider: Uuid,
        pub(in crate::runtime) weight: u32,
        pub(in crate::runtime) priority: u32,
        pub(in crate::runtime) aliases: Aliases,
    }

    impl TryFrom<proto::config::Route> for Parsed {
        type Error = Invalid;

        fn try_from(route: proto::config::Route) -> Result<Self, Invalid> {
            let proto::config::Route { targets, strategy } = route;
            if targets.is_empty() {
                return Err(Invalid::new("/targets", Code::Missing, "a proxy needs a provider"));
            }
            if targets.len() > MOST_TARGETS {
                return Err(Invalid::new("/targets", Code::Unsupported, "this node takes at most 64 targets"));
            }
            let strategy = match route::Strategy::try_from(strategy) {
                Ok(route::Strategy::Unspecified | route::Strategy::Weighted) => Strategy::Weighted,
                Ok(route::Strategy::LeastPending) => Strategy::LeastPending,
                Err(_) => {
                    let message = "this node is too old to know this strategy";
                    return Err(Invalid::new("/routing/strategy", Code::Unsupported, message));
                }
            };
            let parse = |(index, target): (usize, proto::config::RouteTarget)| {
                let proto::config::RouteTarget { provider_id, weight, priority, aliases } = target;
                let provider = Uuid::from_slice(&provider_id).map_err(|_| {
                    Invalid::new(format!("/targets/{index}/provider"), Code::Malformed, "a provider's id has 16 bytes")
                })?;
                Ok(ParsedTarget { provider, weight: weight.max(1), priority, aliases: models::wire::aliases(aliases) })
            };
            let targets = targets.into_iter().enumerate().map(parse).collect::<Result<_, Invalid>>()?;
            Ok(Self { targets, strategy })
        }
    }
}
