//! The conventions' metrics, and no others: `/metrics` has the node's own. Models are called what prices call them.

use std::time::Duration;

use opentelemetry::metrics::{Histogram, MeterProvider as _};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::metrics::SdkMeterProvider;

use super::directory::Place;
use super::semantics;
use crate::pipeline::account::Record;

/// What the conventions advise for each.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const DURATIONS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKENS: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

#[derive(Debug)]
pub(super) struct Instruments {
    tokens: Histogram<u64>,
    durations: Histogram<f64>,
    first_tokens: Histogram<f64>,
}

impl Instruments {
    pub(super) fn new(meters: &SdkMeterProvider) -> Self {
        let scope = InstrumentationScope::builder("lockgate").with_schema_url(semantics::SCHEMA).build();
        let meter = meters.meter_with_scope(scope);
        let tokens = meter.u64_histogram("gen_ai.client.token.usage").with_unit("{token}");
        let durations = meter.f64_histogram("gen_ai.client.operation.duration").with_unit("s");
        let first_tokens = meter.f64_histogram("gen_ai.server.time_to_first_token").with_unit("s");
        Self {
            tokens: tokens.with_boundaries(TOKENS.to_vec()).build(),
            durations: durations.with_boundaries(DURATIONS.to_vec()).build(),
            first_tokens: first_tokens.with_boundaries(FIRST_TOKENS.to_vec()).build(),
        }
    }

    pub(super) fn count(&self, record: &Record, place: &Place<'_>) {
        let (true, Some(operation)) = (record.admitted, semantics::operation(&record.path)) else { return };
        let mut labels = vec![
            KeyValue::new(semantics::OPERATION, operation),
            KeyValue::new(semantics::REQUEST_MODEL, place.priced(record).to_owned()),
        ];
        if let Some(endpoint) = place.endpoint {
            labels.push(KeyValue::new("lockgate.endpoint.name", endpoint.name.to_string()));
        }
        if let Some(provider) = place.provider {
            labels.push(KeyValue::new(semantics::PROVIDER, semantics::provider(provider)));
            labels.push(KeyValue::new(semantics::SERVER_ADDRESS, provider.upstream.host.to_string()));
            labels.push(KeyValue::new(semantics::SERVER_PORT, i64::from(provider.upstream.port)));
        }
        for (kind, tokens) in [("input", record.input_tokens), ("output", record.output_tokens)] {
            if let Some(tokens) = tokens {
                labels.push(KeyValue::new(semantics::TOKEN_TYPE, kind));
                self.tokens.record(tokens, &labels);
                labels.pop();
            }
        }
        if let Some(us) = record.first_token_us {
            self.first_tokens.record(seconds(us), &labels);
        }
        labels.extend(semantics::error(record).map(|error| KeyValue::new(semantics::ERROR_TYPE, error)));
        self.durations.record(seconds(record.duration_us), &labels);
    }
}

fn seconds(us: u64) -> f64 {
    Duration::from_micros(us).as_secs_f64()
}
