//! A record as a span. No prompt and no answer is in it, for none is in a record.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, StringValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::directory::Place;
use super::semantics;
use crate::pipeline::account::Record;
use crate::pipeline::trace::Trace;
use crate::runtime::request_id;

/// `None`: the caller does not record its own part of the trace, so neither is this one.
pub(super) fn of(record: &Record, place: &Place<'_>) -> Option<SpanData> {
    let trace = record.trace.as_deref();
    if trace.is_some_and(|trace| !trace.sampled) {
        return None;
    }
    let operation = semantics::operation(&record.path);
    let model = record.requested_model.as_deref().unwrap_or_default();
    let name = match (operation, place.endpoint) {
        (Some(operation), _) => format!("{operation} {model}").trim_end().to_owned(),
        (None, Some(endpoint)) => format!("{} {}", record.method, endpoint.name),
        (None, None) => record.method.to_string(),
    };
    let (_, low) = record.id.as_u64_pair();
    // Without a caller's trace the request's id is the trace's, so that either finds the other.
    let id = trace.map_or_else(|| record.id.into_bytes(), |Trace { id, .. }| *id);
    let parent = trace.map_or([0; 8], |Trace { parent, .. }| *parent);
    let (id, span) = (TraceId::from_bytes(id), SpanId::from_bytes(low.to_be_bytes()));
    let started = at(record.started_at_us);
    let failed = semantics::error(record).is_some();
    Some(SpanData {
        span_context: SpanContext::new(id, span, TraceFlags::SAMPLED, false, TraceState::NONE),
        parent_span_id: SpanId::from_bytes(parent),
        parent_span_is_remote: trace.is_some(),
        span_kind: SpanKind::Client,
        name: name.into(),
        start_time: started,
        end_time: started + Duration::from_micros(record.duration_us),
        attributes: attributes(record, place, operation),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: InstrumentationScope::builder("lockgate").with_schema_url(semantics::SCHEMA).build(),
    })
}

fn attributes(record: &Record, place: &Place<'_>, operation: Option<&'static str>) -> Vec<KeyValue> {
    let mut all = Vec::with_capacity(24);
    let mut add = |key: &'static str, value: Option<Value>| {
        if let Some(value) = value {
            all.push(KeyValue::new(key, value));
        }
    };
    let text = |text: &Option<Box<str>>| text.as_deref().map(|text| Value::from(text.to_owned()));
    let number = |number: Option<u64>| number.map(|number| Value::from(i64::try_from(number).unwrap_or(i64::MAX)));
    let seconds = |us: Option<u64>| us.map(|us| Value::from(Duration::from_micros(us).as_secs_f64()));
    add(semantics::OPERATION, operation.map(Value::from));
    add(semantics::PROVIDER, place.provider.map(|provider| semantics::provider(provider).into()));
    add(semantics::REQUEST_MODEL, text(&record.requested_model));
    add(semantics::RESPONSE_MODEL, text(&record.served_model));
    let reasons = record.finish_reason.as_deref().map(|reason| vec![StringValue::from(reason.to_owned())]);
    add(semantics::FINISH_REASONS, reasons.map(|reasons| Value::Array(Array::String(reasons))));
    add(semantics::INPUT_TOKENS, number(record.input_tokens));
    add(semantics::OUTPUT_TOKENS, number(record.output_tokens));
    add(semantics::SERVER_ADDRESS, place.provider.map(|provider| provider.upstream.host.to_string().into()));
    add(semantics::SERVER_PORT, place.provider.map(|provider| i64::from(provider.upstream.port).into()));
    add(semantics::ERROR_TYPE, semantics::error(record).map(Value::from));
    add("http.request.method", Some(record.method.to_string().into()));
    add("http.response.status_code", number(record.status.map(u64::from)));
    add("lockgate.request.id", Some(request_id::text(record.id).as_str().to_owned().into()));
    add("lockgate.endpoint.name", place.endpoint.map(|endpoint| endpoint.name.to_string().into()));
    add("lockgate.provider.name", place.provider.map(|provider| provider.name.to_string().into()));
    add("lockgate.api_key.id", Some(request_id::of_key(record.api_key_id).into()));
    add("lockgate.outcome", Some(record.outcome.label().into()));
    add("lockgate.vendor.error_type", text(&record.error_type));
    add("lockgate.vendor.status_code", number(record.upstream_status.map(u64::from)));
    add("lockgate.usage.cached_input_tokens", number(record.cached_input_tokens));
    add("lockgate.usage.cache_write_tokens", number(record.cache_write_tokens));
    add("lockgate.usage.reasoning_tokens", number(record.reasoning_tokens));
    add("lockgate.usage.estimated", record.estimated.then_some(Value::from(true)));
    add("lockgate.cost_nanos", number(record.cost_nanos));
    add("lockgate.time_to_first_byte", seconds(record.first_byte_us));
    add("lockgate.time_to_first_token", seconds(record.first_token_us));
    let attempts = record.attempts.len() as u64;
    add("lockgate.attempts", number((attempts > 0).then_some(attempts)));
    all
}

fn at(us: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(us)
}
