//! What a node counts, and the page it shows of it. Labels come from closed sets or from the configuration, never from
//! clients; nothing on the page is secret.

pub(crate) mod meters;
pub(crate) mod otlp;
pub(crate) mod process;

mod page;
mod registry;
mod spend;
mod text;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use self::meters::{Ended, EndpointMeters, Gauge, ProviderMeters};
pub(crate) use self::page::{Gauges, LinkGauges, SharedLimits, UsageGauges};
use self::registry::Registry;
pub(crate) use self::spend::Spend;
use crate::error::Refusal;
use crate::listener::close::Close;
use crate::runtime::Runtime;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::provider::Provider;

/// The figures of a node.
#[derive(Debug)]
pub(crate) struct Metrics {
    started: SystemTime,
    endpoints: Registry<EndpointMeters>,
    providers: Registry<ProviderMeters>,
    /// Of requests that ended before it was known which endpoint they are for.
    nowhere: EndpointMeters,
    refusals: [AtomicU64; Refusal::ALL.len()],
    closes: [AtomicU64; Close::ALL.len()],
    stream_resets: AtomicU64,
    /// Certificates read anew: refused, served.
    tls_reloads: [AtomicU64; 2],
    /// Requests being answered.
    pub(crate) in_flight: Gauge,
    /// Client connections open.
    pub(crate) connections: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            started: SystemTime::now(),
            endpoints: Registry::default(),
            providers: Registry::default(),
            nowhere: EndpointMeters::default(),
            refusals: std::array::from_fn(|_| AtomicU64::new(0)),
            closes: std::array::from_fn(|_| AtomicU64::new(0)),
            stream_resets: AtomicU64::new(0),
            tls_reloads: Default::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Where an endpoint's requests are counted, in every configuration the same.
    pub(crate) fn endpoint<'a>(&self, endpoint: &'a Endpoint) -> &'a Arc<EndpointMeters> {
        endpoint.meters.get(|| self.endpoints.of(&endpoint.name))
    }

    /// Where a provider's attempts are counted.
    pub(crate) fn provider<'a>(&self, provider: &'a Provider) -> &'a Arc<ProviderMeters> {
        provider.meters.get(|| self.providers.of(&provider.name))
    }

    /// A request has ended; `endpoint`: if it is known which it was for.
    pub(crate) fn ended(&self, endpoint: Option<&Endpoint>, refusal: Option<Refusal>, ended: &Ended) {
        self.in_flight.decrease();
        match endpoint {
            Some(endpoint) => self.endpoint(endpoint).ended(ended),
            None => self.nowhere.ended(ended),
        }
        if let Some(refusal) = refusal {
            self.refusals[refusal as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// We end a client's connection.
    pub(crate) fn closed(&self, close: Close) {
        self.closes[close as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often, for this reason.
    #[cfg(test)]
    pub(crate) fn closed_for(&self, close: Close) -> u64 {
        self.closes[close as usize].load(Ordering::Relaxed)
    }

    /// We end a stream, because the client takes nothing of its answer.
    pub(crate) fn stream_reset(&self) {
        self.stream_resets.fetch_add(1, Ordering::Relaxed);
    }

    /// Certificates were read anew, and are served or not.
    pub(crate) fn tls_reloaded(&self, served: bool) {
        self.tls_reloads[usize::from(served)].fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets what is no longer in the configuration, after a while.
    pub(crate) fn sweep(&self, runtime: Option<&Runtime>) {
        let names: HashSet<&str> = runtime.into_iter().flat_map(Runtime::endpoints).map(|it| &*it.name).collect();
        self.endpoints.sweep(|name| names.contains(name));
        self.providers.sweep(|name| names.contains(name));
    }
}
