//! What a record's ids are called in the configuration.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use crate::pipeline::account::Record;
use crate::runtime::Runtime;
use crate::runtime::endpoint::Endpoint;
use crate::runtime::provider::Provider;

type Endpoints = HashMap<Uuid, Arc<Endpoint>>;

/// The endpoints of this moment and those of the configuration before it, for records that come late.
#[derive(Debug)]
pub(super) struct Directory {
    runtime: Arc<ArcSwapOption<Runtime>>,
    /// What `now` was made of; compared by address.
    seen: Option<Arc<Runtime>>,
    now: Endpoints,
    before: Endpoints,
}

/// Where a request went, as far as that is still known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) endpoint: Option<&'a Endpoint>,
    pub(super) provider: Option<&'a Provider>,
}

impl Directory {
    pub(super) fn new(runtime: Arc<ArcSwapOption<Runtime>>) -> Self {
        Self { runtime, seen: None, now: HashMap::new(), before: HashMap::new() }
    }

    /// Reads the names anew where the configuration is another.
    pub(super) fn refresh(&mut self) {
        let Some(runtime) = self.runtime.load_full() else { return };
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &runtime)) {
            return;
        }
        let now = runtime.endpoints().map(|endpoint| (endpoint.id, Arc::clone(endpoint))).collect();
        self.before = std::mem::replace(&mut self.now, now);
        self.seen = Some(runtime);
    }

    pub(super) fn place(&self, record: &Record) -> Place<'_> {
        let id = &record.endpoint_id;
        let endpoint = self.now.get(id).or_else(|| self.before.get(id)).map(|endpoint| &**endpoint);
        let provider = endpoint.zip(record.provider_id).and_then(|(endpoint, id)| {
            let mut providers = endpoint.target.providers();
            providers.find(|provider| provider.id == id).map(|provider| &**provider)
        });
        Place { endpoint, provider }
    }
}

impl Place<'_> {
    /// The model as a price of the configuration calls it; a client's own text is no label.
    pub(super) fn priced<'a>(&'a self, record: &Record) -> &'a str {
        let models = [record.served_model.as_deref(), record.requested_model.as_deref()];
        let prices = self.provider.map(|provider| &provider.prices);
        let named = prices.and_then(|prices| models.into_iter().flatten().find_map(|model| prices.name(model)));
        named.unwrap_or("other")
    }
}
