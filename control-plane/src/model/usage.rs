//! Usage: one record per authenticated request, as it arrives from a node and as it is kept.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::books::Books;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The vendor's answer was relayed to its end.
    Answered,
    /// Lockgate answered by itself.
    Refused,
    /// The vendor answered 4xx or 5xx and it was relayed.
    VendorError,
    /// No answer: connect, TLS, timeout before the head.
    UpstreamFailed,
    /// The vendor died in mid-answer.
    UpstreamBroken,
    /// The client left first.
    ClientGone,
    /// The node was stopping.
    Drained,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Answered,
        Self::Refused,
        Self::VendorError,
        Self::UpstreamFailed,
        Self::UpstreamBroken,
        Self::ClientGone,
        Self::Drained,
    ];

    /// As it is stored and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::VendorError => "vendor_error",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamBroken => "upstream_broken",
            Self::ClientGone => "client_gone",
            Self::Drained => "drained",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text)
    }

    /// Whether it counts among the errors: somebody upstream failed the caller.
    pub const fn is_error(self) -> bool {
        match self {
            Self::VendorError | Self::UpstreamFailed | Self::UpstreamBroken | Self::Drained => true,
            Self::Answered | Self::Refused | Self::ClientGone => false,
        }
    }
}

/// One authenticated request. What is `None` is unknown, or did not happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The request id.
    pub id: Uuid,
    /// Unix microseconds, by the node's clock.
    pub started_at_us: i64,
    /// The endpoint called.
    pub endpoint_id: Uuid,
    /// Of the last attempt.
    pub provider_id: Option<Uuid>,
    /// The key that opened it.
    pub api_key_id: Uuid,
    /// False: refused before anything was sent.
    pub admitted: bool,
    /// The ending.
    pub outcome: Outcome,
    /// Label of the refusal.
    pub refusal: Option<String>,
    /// Sent to the client.
    pub status: Option<i64>,
    /// Of the vendor's answer.
    pub upstream_status: Option<i64>,
    /// As the request named it.
    pub requested_model: Option<String>,
    /// As the answer named it.
    pub served_model: Option<String>,
    /// All input, cached and cache-write tokens included.
    pub input_tokens: Option<i64>,
    /// All output, reasoning included.
    pub output_tokens: Option<i64>,
    /// Of the input.
    pub cached_input_tokens: Option<i64>,
    /// Of the input.
    pub cache_write_tokens: Option<i64>,
    /// Of the output.
    pub reasoning_tokens: Option<i64>,
    /// Of the input: sound that did not come from a cache.
    pub input_audio_tokens: Option<i64>,
    /// Of the output.
    pub output_audio_tokens: Option<i64>,
    /// The answer was cut short: tokens were worked out from what had passed.
    pub estimated: bool,
    /// Why the answer ended, in the vendor's word.
    pub finish_reason: Option<String>,
    /// How many tools the answer calls.
    pub tool_calls: Option<i64>,
    /// The vendor's class of an error.
    pub error_type: Option<String>,
    /// To the last byte written, or the end otherwise.
    pub duration_us: i64,
    /// To the head of the upstream's answer.
    pub first_byte_us: Option<i64>,
    /// To the first piece of a stream with text in it.
    pub first_token_us: Option<i64>,
    /// The answer was an event stream.
    pub streamed: bool,
    /// Of the body, as received.
    pub request_bytes: i64,
    /// Of the body, as sent.
    pub response_bytes: i64,
    /// Of the request.
    pub method: String,
    /// After the context, without the query.
    pub path: String,
    /// Of the configuration that decided.
    pub revision: i64,
    /// Nano-dollars.
    pub cost_nanos: Option<i64>,
    /// Of the price that was applied.
    pub price_version: Option<String>,
    /// The cost is not known because there was no price.
    pub unpriced: bool,
    /// The rule that refused it, where one did.
    pub denial: Option<Denial>,
    /// What became of each attempt; empty: the record tells the only one, or there was none.
    pub attempts: Vec<Attempt>,
    /// Its node died while it was open: only what was known at its start is told.
    pub unsettled: bool,
}

/// The rule that refused a request, and what it held against it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// As the configuration calls it.
    pub rule: String,
    /// What there was; absent: the rule does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<i64>,
    /// What there may be; absent: the rule does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<i64>,
    /// The time that it counts over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// When the same request would pass, as far as this rule goes.
    #[serde(default, with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub frees_at: Option<OffsetDateTime>,
}

/// One attempt at a vendor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Whom it went to.
    pub provider_id: Uuid,
    /// Of the answer; `None`: none came.
    pub status: Option<i64>,
    /// Label of what failed; `None`: the head of an answer came.
    pub ending: Option<String>,
    /// To that head or failure; of the first one from the request's start.
    pub duration_us: i64,
}

impl Record {
    /// The model it counts under: the served one, else the requested one, else empty.
    pub fn model(&self) -> &str {
        self.served_model.as_deref().or(self.requested_model.as_deref()).unwrap_or_default()
    }

    /// Output tokens by the second: of a stream from its first token on, else of the whole request.
    pub fn tokens_per_second(&self) -> Option<f64> {
        let spoke_us = self.duration_us - self.first_token_us.filter(|_| self.streamed).unwrap_or(0);
        // A millisecond or less is one piece: no speed.
        let (tokens, spoke_us) = (i32::try_from(self.output_tokens?).ok()?, i32::try_from(spoke_us / 1_000).ok()?);
        (spoke_us > 1).then(|| (f64::from(tokens) * 10_000.0 / f64::from(spoke_us)).round() / 10.0)
    }
}

/// Records that a node numbered together.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The tenant, by the node's token.
    pub organization_id: Uuid,
    /// The gateway, by the node's token.
    pub gateway_id: Uuid,
    /// Name of the node.
    pub node: String,
    /// Of the process that made the records.
    pub boot: Uuid,
    /// 1, 2, 3, ... within `boot`.
    pub seq: i64,
    /// As the node made them.
    pub records: Vec<Record>,
    /// Records that came with it and could not be read.
    pub unreadable: i64,
    /// What the process says of itself; `None`: it keeps no books.
    pub books: Option<Books>,
}

/// What is kept of usage, each for a time of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kept {
    /// The request log.
    Requests,
    /// Sums by minute.
    Minutes,
    /// Sums by hour.
    Hours,
    /// Sums by day.
    Days,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Requests, Self::Minutes, Self::Hours, Self::Days];

    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "request",
            Self::Minutes => "minute",
            Self::Hours => "hour",
            Self::Days => "day",
        }
    }

    /// Of sums.
    pub const fn grain(self) -> Option<&'static str> {
        match self {
            Self::Requests => None,
            Self::Minutes | Self::Hours | Self::Days => Some(self.as_str()),
        }
    }

    /// Of sums, the length of a row's span in microseconds; of the log, nothing.
    pub const fn length_us(self) -> i64 {
        match self {
            Self::Requests => 1,
            Self::Minutes => 60_000_000,
            Self::Hours => 3_600_000_000,
            Self::Days => 86_400_000_000,
        }
    }
}

/// For how many days each is kept; 0: for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The request log.
    pub requests: u32,
    /// Sums by minute.
    pub minutes: u32,
    /// Sums by hour.
    pub hours: u32,
    /// Sums by day.
    pub days: u32,
}

impl Retention {
    /// What ended before this moment is over.
    pub fn cut_us(self, kept: Kept, now_us: i64) -> i64 {
        let days = match kept {
            Kept::Requests => self.requests,
            Kept::Minutes => self.minutes,
            Kept::Hours => self.hours,
            Kept::Days => self.days,
        };
        if days == 0 { i64::MIN } else { now_us.saturating_sub(i64::from(days) * Kept::Days.length_us()) }
    }
}

/// What usage can be split by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// The API key.
    Key,
    /// The endpoint called.
    Endpoint,
    /// The endpoint called, where it is a proxy.
    Proxy,
    /// The provider that answered.
    Provider,
    /// The model, as served or else as asked for.
    Model,
    /// How requests ended.
    Outcome,
}

impl Dimension {
    /// All of them, as they are written.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("key", Self::Key),
        ("endpoint", Self::Endpoint),
        ("proxy", Self::Proxy),
        ("provider", Self::Provider),
        ("model", Self::Model),
        ("outcome", Self::Outcome),
    ];
}

/// Spans of time that usage is summed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// Whole minutes.
    Minute,
    /// Whole hours.
    Hour,
    /// Whole days, UTC.
    Day,
    /// All in one.
    #[default]
    None,
}

/// Usage of one group. Members that it was not split by are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageSum {
    /// Of the span.
    #[serde(with = "time::serde::rfc3339::option", skip_serializing_if = "Option::is_none")]
    pub start: Option<OffsetDateTime>,
    /// Name of the key; its id once it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Name of the endpoint; its id once it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Name of the proxy; absent too where a provider was called itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Name of the provider; absent too where no attempt was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// Absent too where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// How they ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// What the key's label says; absent too where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// The sums.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What is summed. Tokens, cost and times are of the requests for which they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// All authenticated requests.
    pub requests: i64,
    /// Of these, answered by Lockgate itself.
    pub refused: i64,
    /// Of these, failed by the vendor, the way there, or a node that stopped.
    pub errors: i64,
    /// All input, cached, cache-write and audio included.
    pub input_tokens: i64,
    /// All output, reasoning and audio included.
    pub output_tokens: i64,
    /// Of the input.
    pub cached_input_tokens: i64,
    /// Of the input.
    pub cache_write_tokens: i64,
    /// Of the output.
    pub reasoning_tokens: i64,
    /// Of the input.
    pub input_audio_tokens: i64,
    /// Of the output.
    pub output_audio_tokens: i64,
    /// Requests that went out and whose tokens are not known, or not wholly.
    pub unknown_token_requests: i64,
    /// Nano-dollars.
    pub cost_nanos: i64,
    /// The same in dollars.
    pub cost: String,
    /// Requests whose cost is not known because their model has no price. Not free: not counted.
    pub unpriced_requests: i64,
    /// Requests whose cost is not known for want of tokens.
    pub unknown_cost_requests: i64,
    /// On average, to the last byte.
    pub average_duration_ms: Option<i64>,
    /// On average, to the head of the vendor's answer.
    pub average_first_byte_ms: Option<i64>,
    /// On average, to the first token.
    pub average_first_token_ms: Option<i64>,
}

/// Nano-dollars as dollars, exactly: `0.000042`.
pub fn dollars(nanos: i64) -> String {
    let (sign, nanos) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let fraction = format!("{:09}", nanos % 1_000_000_000);
    let fraction = fraction.trim_end_matches('0');
    // Two places at least, as money is written.
    format!("{sign}{}.{fraction:0<2}", nanos / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_exact_and_have_two_places_at_least() {
        for (nanos, text) in
            [(0, "0.00"), (1, "0.000000001"), (2_500_000_000, "2.50"), (i64::MAX, "9223372036.854775807")]
        {
            assert_eq!(dollars(nanos), text);
        }
    }
}
