//! What requests used, by endpoint and model: tokens, money, time to the first token. Counted from records on the
//! reporting thread, so that no request pays for it. A model is called what the prices call it, anything else "other".

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use uuid::Uuid;

use super::meters::{BOUNDS, Durations};
use super::text::Text;
use crate::pipeline::account::Record;
use crate::runtime::Runtime;
use crate::runtime::price::Prices;

/// A model that no price names.
const OTHER: &str = "other";

/// The figures of one model at one endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    requests: u64,
    /// By class: the others are parts of the first two.
    tokens: [u64; CLASSES.len()],
    /// Requests of which the vendor did not say how many.
    untold: u64,
    cost_nanos: u64,
    unpriced: u64,
    first_tokens: Durations,
}

const CLASSES: [&str; 5] = ["input", "output", "cached_input", "cache_write", "reasoning"];

#[derive(Debug, Default)]
struct Inner {
    /// What `names` was made of; compared by address.
    seen: Option<Arc<Runtime>>,
    names: HashMap<Uuid, Names>,
    figures: BTreeMap<(Arc<str>, Arc<str>), Figures>,
}

#[derive(Debug)]
struct Names {
    endpoint: Arc<str>,
    providers: Vec<(Uuid, Prices)>,
}

/// Those of a node.
#[derive(Debug)]
pub(crate) struct Spend {
    runtime: Arc<ArcSwapOption<Runtime>>,
    inner: Mutex<Inner>,
}

impl Spend {
    /// Names are those of what is served.
    pub(crate) fn new(runtime: Arc<ArcSwapOption<Runtime>>) -> Self {
        Self { runtime, inner: Mutex::default() }
    }

    /// Counts a batch.
    pub(crate) fn count(&self, records: &[Record]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.learn(self.runtime.load_full());
        for record in records.iter().filter(|record| record.admitted) {
            inner.add(record);
        }
    }

    pub(super) fn render(&self, text: &mut Text) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let each = |text: &mut Text, name: &str, help: &str, value: fn(&Figures) -> String| {
            text.family(name, "counter", help);
            for ((endpoint, model), figures) in &inner.figures {
                text.sample(name, &[("endpoint", endpoint), ("model", model)], value(figures));
            }
        };
        let name = "lockgate_tokens_total";
        text.family(name, "counter", "Tokens as vendors counted them; cached and cache-write are within input.");
        for ((endpoint, model), figures) in &inner.figures {
            for (class, tokens) in CLASSES.iter().zip(figures.tokens) {
                text.sample(name, &[("endpoint", endpoint), ("model", model), ("class", class)], tokens);
            }
        }
        each(text, "lockgate_model_requests_total", "Requests that were sent, by model.", |it| it.requests.to_string());
        let help = "Requests of which the vendor did not say what they used.";
        each(text, "lockgate_tokens_unknown_total", help, |it| it.untold.to_string());
        let help = "What requests cost, in dollars; without those that have no price.";
        each(text, "lockgate_cost_dollars_total", help, |it| dollars(it.cost_nanos));
        let help = "Requests whose cost is unknown because there is no price.";
        each(text, "lockgate_unpriced_requests_total", help, |it| it.unpriced.to_string());
        let name = "lockgate_first_token_seconds";
        text.family(name, "histogram", "From the head of a request to the first token of its answer.");
        for ((endpoint, model), figures) in &inner.figures {
            text.histogram(name, &[("endpoint", endpoint), ("model", model)], &figures.first_tokens);
        }
    }
}

impl Inner {
    /// Names are read anew where the configuration is another.
    fn learn(&mut self, runtime: Option<Arc<Runtime>>) {
        let Some(runtime) = runtime else { return };
        if self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &runtime)) {
            return;
        }
        let names = runtime.endpoints().map(|endpoint| {
            let providers = endpoint.target.providers().map(|provider| (provider.id, provider.prices.clone()));
            (endpoint.id, Names { endpoint: Arc::from(&*endpoint.name), providers: providers.collect() })
        });
        // Those that are gone stay for records that come late.
        self.names.extend(names);
        let known: std::collections::HashSet<Uuid> = runtime.endpoints().map(|endpoint| endpoint.id).collect();
        if self.names.len() > 2 * known.len() + 64 {
            self.names.retain(|id, _| known.contains(id));
            let named: std::collections::HashSet<&str> = self.names.values().map(|names| &*names.endpoint).collect();
            self.figures.retain(|(endpoint, _), _| named.contains(&**endpoint));
        }
        self.seen = Some(runtime);
    }

    fn add(&mut self, record: &Record) {
        let Some(names) = self.names.get(&record.endpoint_id) else { return };
        let prices = names.providers.iter().find(|(id, _)| Some(*id) == record.provider_id).map(|(_, prices)| prices);
        let models = [record.served_model.as_deref(), record.requested_model.as_deref()];
        let model = prices.and_then(|prices| models.into_iter().flatten().find_map(|model| prices.name(model)));
        let model: Arc<str> = Arc::from(model.unwrap_or(OTHER));
        let figures = self.figures.entry((Arc::clone(&names.endpoint), model)).or_default();
        figures.requests += 1;
        let told = [
            record.input_tokens,
            record.output_tokens,
            record.cached_input_tokens,
            record.cache_write_tokens,
            record.reasoning_tokens,
        ];
        for (sum, tokens) in figures.tokens.iter_mut().zip(told) {
            *sum = sum.saturating_add(tokens.unwrap_or(0));
        }
        figures.untold += u64::from(record.input_tokens.is_none() || record.output_tokens.is_none());
        figures.cost_nanos = figures.cost_nanos.saturating_add(record.cost_nanos.unwrap_or(0));
        figures.unpriced += u64::from(record.unpriced);
        if let Some(us) = first_token_us(record) {
            let place = BOUNDS.iter().position(|bound| us <= bound * 1_000).unwrap_or(BOUNDS.len());
            figures.first_tokens.counts[place] += 1;
            figures.first_tokens.sum_us = figures.first_tokens.sum_us.saturating_add(us);
        }
    }
}

fn first_token_us(record: &Record) -> Option<u64> {
    // Without a stream the whole answer is its first token.
    if record.streamed {
        record.first_token_us
    } else {
        record.upstream_status.filter(|status| *status < 300).and(record.first_byte_us)
    }
}

fn dollars(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}
