//! A recorded request, as people read it.

use std::fmt::Write as _;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{
    id::RequestId,
    usage::{Denial, Outcome, Record},
};

/// One line of the request log. What is `null` is unknown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestEntry {
    /// Also in the answer's header and in the node's log.
    pub id: RequestId,
    /// When it began, by the node's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// Name of the endpoint; its id once it is gone.
    pub endpoint: String,
    /// Name of the provider of the last attempt; its id once it is gone.
    pub provider: Option<String>,
    /// Name of the key; its id once it is gone.
    pub key: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Sent to the client.
    pub status: Option<i64>,
    /// As the request named it.
    pub requested_model: Option<String>,
    /// As the answer named it.
    pub served_model: Option<String>,
    /// All input tokens, cached and cache-write tokens included.
    pub input_tokens: Option<i64>,
    /// All output tokens, reasoning included.
    pub output_tokens: Option<i64>,
    /// Of the input, read from the vendor's cache. This and the classes below are disjoint parts of their totals.
    pub cached_input_tokens: Option<i64>,
    /// Of the input, written to the vendor's cache.
    pub cache_write_tokens: Option<i64>,
    /// Of the output, spent on reasoning.
    pub reasoning_tokens: Option<i64>,
    /// Of the input, sound that did not come from a cache.
    pub input_audio_tokens: Option<i64>,
    /// Of the output, sound.
    pub output_audio_tokens: Option<i64>,
    /// The answer was cut short before the vendor had counted: tokens were worked out from what had passed.
    pub estimated: bool,
    /// Output tokens by the second: of a stream from its first token on, else of the whole request.
    pub tokens_per_second: Option<f64>,
    /// Why the answer ended, in the vendor's word.
    pub finish_reason: Option<String>,
    /// How many tools the answer calls.
    pub tool_calls: Option<i64>,
    /// The vendor's class of an error.
    pub error_type: Option<String>,
    /// Nano-dollars; zero is free, null is not known.
    pub cost_nanos: Option<i64>,
    /// The same in dollars.
    pub cost: Option<String>,
    /// Of the price that was applied.
    pub price_version: Option<String>,
    /// The cost is not known because the model has no price.
    pub unpriced: bool,
    /// To the last byte.
    pub duration_ms: i64,
    /// To the head of the vendor's answer.
    pub first_byte_ms: Option<i64>,
    /// To the first piece of a stream with text in it.
    pub first_token_ms: Option<i64>,
    /// The answer was an event stream.
    pub streamed: bool,
    /// After the context, without the query.
    pub path: String,
    /// Of the request.
    pub method: String,
    /// Why Lockgate answered by itself.
    pub refusal: Option<String>,
    /// Which node served it.
    pub node: String,
    /// Its node died while it was open: nobody knows how it ended, and only what was known at its start is told.
    pub unsettled: bool,
}

/// One attempt at a vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptEntry {
    /// Name of the provider; its id once it is gone.
    pub provider: String,
    /// Of the vendor's answer.
    pub status: Option<i64>,
    /// What failed, where no answer came that could be passed on.
    pub failure: Option<String>,
    /// To the head of the answer or the failure; of the first attempt from the request's start.
    pub duration_ms: Option<i64>,
}

/// All that is known of one request, and why it ended as it did. What is `null` is unknown.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestTrace {
    /// As the list has it.
    #[serde(flatten)]
    pub entry: RequestEntry,
    /// False: refused before anything was sent.
    pub admitted: bool,
    /// Of the vendor's last answer.
    pub upstream_status: Option<i64>,
    /// Of the input.
    pub cached_input_tokens: Option<i64>,
    /// Of the input.
    pub cache_write_tokens: Option<i64>,
    /// Of the output.
    pub reasoning_tokens: Option<i64>,
    /// Of the body, as received.
    pub request_bytes: i64,
    /// Of the body, as sent.
    pub response_bytes: i64,
    /// Of the configuration that decided.
    pub revision: i64,
    /// The rule that refused it, and what it held against it.
    pub denial: Option<Denial>,
    /// What became of each attempt, in order.
    pub attempts: Vec<AttemptEntry>,
    /// The same in one or two sentences.
    pub explanation: String,
}

/// Why a request ended as it did.
pub fn explain(record: &Record, attempts: &[AttemptEntry]) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = match (record.outcome, &record.denial) {
        _ if record.unsettled => {
            write!(text, "Its node died while it was open: nobody knows how it ended or what it used.")
        }
        (Outcome::Refused, Some(denial)) => {
            let _ = write!(text, "Refused by {} at revision {}", denial.rule, record.revision);
            if let (Some(measured), Some(allowed)) = (denial.measured, denial.allowed) {
                let _ = write!(text, ": {measured} against {allowed} allowed");
                let _ = denial.window.as_ref().map(|window| write!(text, " per {window}"));
            }
            let _ = denial.frees_at.and_then(|at| at.format(&Rfc3339).ok()).map(|at| write!(text, ", free at {at}"));
            write!(text, ".")
        }
        (Outcome::Refused, None) => {
            let refusal = record.refusal.as_deref().unwrap_or("refused");
            write!(text, "Lockgate answered by itself: {refusal}, decided at revision {}.", record.revision)
        }
        (Outcome::Answered, _) => write!(text, "The vendor's answer was passed on to its end."),
        (Outcome::VendorError, _) => {
            let status = record.upstream_status.or(record.status).unwrap_or_default();
            write!(text, "The vendor answered {status}, which was passed on as it is.")
        }
        (Outcome::UpstreamFailed, _) => {
            let refusal = record.refusal.as_deref().unwrap_or("no answer");
            write!(text, "No vendor gave an answer that could be passed on: {refusal}.")
        }
        (Outcome::UpstreamBroken, _) => write!(text, "The vendor broke off in the middle of its answer."),
        (Outcome::ClientGone, _) => write!(text, "The client left before the answer was complete."),
        (Outcome::Drained, _) => write!(text, "The node was stopping."),
    };
    if attempts.len() > 1 {
        let _ = write!(text, " {} attempts were made.", attempts.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(outcome: Outcome) -> Record {
        Record {
            id: uuid::Uuid::nil(),
            started_at_us: 0,
            endpoint_id: uuid::Uuid::nil(),
            provider_id: None,
            api_key_id: uuid::Uuid::nil(),
            admitted: false,
            outcome,
            refusal: None,
            status: None,
            upstream_status: None,
            requested_model: None,
            served_model: None,
            input_tokens: None,
            output_tokens: None,
            cached_input_tokens: None,
            cache_write_tokens: None,
            reasoning_tokens: None,
            input_audio_tokens: None,
            output_audio_tokens: None,
            estimated: false,
            finish_reason: None,
            tool_calls: None,
            error_type: None,
            first_token_us: None,
            duration_us: 0,
            first_byte_us: None,
            streamed: false,
            request_bytes: 0,
            response_bytes: 0,
            method: String::new(),
            path: String::new(),
            revision: 7,
            cost_nanos: None,
            price_version: None,
            unpriced: false,
            denial: None,
            attempts: Vec::new(),
            unsettled: false,
        }
    }

    #[test]
    fn a_refusal_is_explained_by_its_rule_and_what_it_held_against_the_request() {
        let denial = Denial {
            rule: "key ci: 100 requests per minute".to_owned(),
            measured: Some(101),
            allowed: Some(100),
            window: Some("minute".to_owned()),
            frees_at: Some(OffsetDateTime::UNIX_EPOCH),
        };
        let refused = Record { denial: Some(denial), ..record(Outcome::Refused) };
        let said = "Refused by key ci: 100 requests per minute at revision 7: 101 against 100 allowed per minute, free \
                    at 1970-01-01T00:00:00Z.";
        assert_eq!(explain(&refused, &[]), said);
        let unsettled = Record { unsettled: true, ..record(Outcome::Drained) };
        assert!(explain(&unsettled, &[]).contains("nobody knows"));
    }
}
