//! A proxy's way to its providers.

use std::sync::Arc;

use super::provider::Provider;

/// Where a proxy may send a request; never empty, lowest priority number first.
#[derive(Debug)]
pub struct Route {
    targets: Box<[RouteTarget]>,
}

/// One of them.
#[derive(Debug)]
pub struct RouteTarget {
    /// A provider of the same configuration.
    pub provider: Arc<Provider>,
    /// Share among targets of one priority.
    pub weight: u32,
    /// Lower first.
    pub priority: u32,
}

impl Route {
    /// `None` if there is no target.
    pub(super) fn new(mut targets: Vec<RouteTarget>) -> Option<Self> {
        targets.sort_by_key(|target| target.priority);
        (!targets.is_empty()).then(|| Self { targets: targets.into() })
    }

    /// In order of priority.
    pub fn targets(&self) -> &[RouteTarget] {
        &self.targets
    }

    /// The one to try first.
    pub fn first(&self) -> &Arc<Provider> {
        &self.targets[0].provider
    }
}

pub(super) mod wire {
    use uuid::Uuid;

    use crate::runtime::invalid::{Code, Invalid};

    /// A target that is still a reference.
    pub(in crate::runtime) struct Parsed {
        pub(in crate::runtime) provider: Uuid,
        pub(in crate::runtime) weight: u32,
        pub(in crate::runtime) priority: u32,
    }

    pub(in crate::runtime) fn targets(route: proto::config::Route) -> Result<Vec<Parsed>, Invalid> {
        let proto::config::Route { targets } = route;
        if targets.is_empty() {
            return Err(Invalid::new("/targets", Code::Missing, "a proxy needs a provider"));
        }
        let parse = |(index, target): (usize, proto::config::RouteTarget)| {
            let proto::config::RouteTarget { provider_id, weight, priority } = target;
            let provider = Uuid::from_slice(&provider_id).map_err(|_| {
                Invalid::new(format!("/targets/{index}/provider"), Code::Malformed, "a provider's id has 16 bytes")
            })?;
            Ok(Parsed { provider, weight: weight.max(1), priority })
        };
        targets.into_iter().enumerate().map(parse).collect()
    }
}
