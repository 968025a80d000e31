//! Writes a record as a message. Exhaustive: a field that is forgotten here does not compile.

use bytes::Bytes;
use proto::usage::{Attempt as WireAttempt, Denial, Outcome as WireOutcome, UsageRecord};
use uuid::Uuid;

use crate::limit::reservation::Exceeded;
use crate::limit::rule::Owner;
use crate::pipeline;
use crate::pipeline::account::{Attempt, Outcome, Record};

pub(super) fn usage_record(record: Record) -> UsageRecord {
    let Record {
        id,
        started_at_us,
        endpoint_id,
        provider_id,
        api_key_id,
        admitted,
        outcome,
        refusal,
        status,
        upstream_status,
        requested_model,
        served_model,
        input_tokens,
        output_tokens,
        cached_input_tokens,
        cache_write_tokens,
        reasoning_tokens,
        duration_us,
        first_byte_us,
        streamed,
        request_bytes,
        response_bytes,
        method,
        path,
        revision,
        input_audio_tokens,
        output_audio_tokens,
        estimated,
        first_token_us,
        finish_reason,
        tool_calls,
        error_type,
        cost_nanos,
        price_version,
        unpriced,
        start: _,
        denial,
        exceeded,
        trace: _,
        attempts,
    } = record;
    // One allocation for all ids.
    let mut ids = [id, endpoint_id, api_key_id, provider_id.unwrap_or_default()].map(Uuid::into_bytes).concat();
    ids.truncate(if provider_id.is_some() { 64 } else { 48 });
    let mut ids = Bytes::from(ids);
    UsageRecord {
        id: ids.split_to(16),
        started_at_us,
        endpoint_id: ids.split_to(16),
        api_key_id: ids.split_to(16),
        provider_id: ids,
        admitted,
        outcome: self::outcome(outcome).into(),
        refusal: refusal.unwrap_or_default().to_owned(),
        status: status.map_or(0, u32::from),
        upstream_status: upstream_status.map_or(0, u32::from),
        requested_model: requested_model.map(String::from).unwrap_or_default(),
        served_model: served_model.map(String::from).unwrap_or_default(),
        input_tokens,
        output_tokens,
        cached_input_tokens,
        cache_write_tokens,
        reasoning_tokens,
        duration_us,
        first_byte_us,
        streamed,
        request_bytes,
        response_bytes,
        method: method.as_str().to_owned(),
        path: path.into(),
        revision,
        input_audio_tokens,
        output_audio_tokens,
        estimated,
        first_token_us,
        finish_reason: finish_reason.map(String::from).unwrap_or_default(),
        tool_calls,
        error_type: error_type.map(String::from).unwrap_or_default(),
        cost_nanos,
        price_version: price_version.as_deref().unwrap_or_default().to_owned(),
        unpriced,
        denial: exceeded.map(|exceeded| self::exceeded(&exceeded)).or(denial.map(|denial| self::denial(&denial))),
        attempts: attempts.iter().map(attempt).collect(),
        unsettled: false,
    }
}

fn outcome(outcome: Outcome) -> WireOutcome {
    match outcome {
        Outcome::Answered => WireOutcome::Answered,
        Outcome::Refused => WireOutcome::Refused,
        Outcome::VendorError => WireOutcome::VendorError,
        Outcome::UpstreamFailed => WireOutcome::UpstreamFailed,
        Outcome::UpstreamBroken => WireOutcome::UpstreamBroken,
        Outcome::ClientGone => WireOutcome::ClientGone,
        Outcome::Drained => WireOutcome::Drained,
    }
}
/// What a limit held against it.
fn exceeded(exceeded: &Exceeded) -> Denial {
    let Exceeded { rule, owner, provider, metric: _, measured, allowed, window, frees_in: _, frees_at_us } = exceeded;
    let rule = match (provider, owner) {
        (Some(provider), _) => format!("limit {rule} of llm-provider {provider}"),
        (None, Owner::ApiKey(_)) => format!("limit {rule} of api-key"),
        (None, Owner::Endpoint(_)) => format!("limit {rule} of endpoint"),
    };
    Denial {
        rule,
        measured: Some(*measured),
        allowed: Some(*allowed),
        window: window.as_ref().to_owned(),
        frees_at_us: *frees_at_us,
    }
}

/// What was asked for stays with the caller: it is the client's own text.
fn denial(denial: &pipeline::Denial) -> Denial {
    let pipeline::Denial { rule, asked: _, allowed } = denial;
    Denial { rule: format!("{rule} ({allowed})"), ..Denial::default() }
}

fn attempt(attempt: &Attempt) -> WireAttempt {
    let Attempt { provider_id, status, ending, duration_us } = attempt;
    WireAttempt {
        provider_id: Bytes::copy_from_slice(provider_id.as_bytes()),
        status: status.map_or(0, u32::from),
        ending: ending.unwrap_or_default().to_owned(),
        duration_us: *duration_us,
    }
}
