//! What is kept of one request.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use uuid::Uuid;

use crate::limit::reservation::Exceeded;
use crate::pipeline::attempts::Ending;
use crate::pipeline::denial::Denial;
use crate::pipeline::start::Entry;
use crate::pipeline::trace::Trace;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Answered,
        Self::Refused,
        Self::VendorError,
        Self::UpstreamFailed,
        Self::UpstreamBroken,
        Self::ClientGone,
        Self::Drained,
    ];

    /// Closed label: in logs and metrics.
    pub const fn label(self) -> &'static str {
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
}

/// What one authenticated request was. Exactly one per request, whatever its ending.
#[derive(Clone, Debug)]
pub struct Record {
    /// `UUIDv7`; the request id.
    pub id: Uuid,
    /// Unix microseconds.
    pub started_at_us: u64,
    /// The endpoint called.
    pub endpoint_id: Uuid,
    /// Of the last attempt; `None`: none was made.
    pub provider_id: Option<Uuid>,
    /// The key that opened it.
    pub api_key_id: Uuid,
    /// `false`: refused before anything was sent.
    pub admitted: bool,
    /// The ending.
    pub outcome: Outcome,
    /// Closed label of the refusal; `None`: none.
    pub refusal: Option<&'static str>,
    /// Sent to the client; `None`: none was.
    pub status: Option<u16>,
    /// Of the vendor's answer; `None`: none came.
    pub upstream_status: Option<u16>,
    /// As the request named it; `None`: unknown.
    pub requested_model: Option<Box<str>>,
    /// As the answer named it; `None`: unknown.
    pub served_model: Option<Box<str>>,
    /// All input, cached and cache-write tokens included; `None`: unknown.
    pub input_tokens: Option<u64>,
    /// All output, reasoning included; `None`: unknown.
    pub output_tokens: Option<u64>,
    /// Of the input; `None`: unknown.
    pub cached_input_tokens: Option<u64>,
    /// Of the input; `None`: unknown.
    pub cache_write_tokens: Option<u64>,
    /// Of the output; `None`: unknown.
    pub reasoning_tokens: Option<u64>,
    /// Of the input: sound that did not come from a cache; `None`: unknown.
    pub input_audio_tokens: Option<u64>,
    /// Of the output; `None`: unknown.
    pub output_audio_tokens: Option<u64>,
    /// The answer was cut short: tokens were worked out from what had passed.
    pub estimated: bool,
    /// Why the answer ended, in the vendor's word; `None`: unknown.
    pub finish_reason: Option<Box<str>>,
    /// How many tools the answer calls; `None`: unknown.
    pub tool_calls: Option<u64>,
    /// The vendor's class of an error; `None`: none, or unknown.
    pub error_type: Option<Box<str>>,
    /// To the last byte written, or the end otherwise.
    pub duration_us: u64,
    /// To the head of the upstream's answer; `None`: none came.
    pub first_byte_us: Option<u64>,
    /// To the first piece of a stream with text in it; `None`: none came, or it was no stream.
    pub first_token_us: Option<u64>,
    /// The answer was an event stream.
    pub streamed: bool,
    /// Of the body, as received.
    pub request_bytes: u64,
    /// Of the body, as sent.
    pub response_bytes: u64,
    /// Of the request.
    pub method: Method,
    /// After the context, without the query; cut at 256 bytes.
    pub path: Box<str>,
    /// Of the configuration that decided.
    pub revision: u64,
    /// Nano-dollars; `None`: unknown.
    pub cost_nanos: Option<u64>,
    /// Of the price that was applied; `None`: none was.
    pub price_version: Option<Arc<str>>,
    /// The cost is unknown because there is no price, not for want of tokens.
    pub unpriced: bool,
    /// Its start was written down; `None`: nothing was sent, or nobody keeps starts.
    pub start: Option<Entry>,
    /// Why a rule refused it; `None`: none did.
    pub denial: Option<Box<Denial>>,
    /// Which limit refused it; `None`: none did.
    pub exceeded: Option<Box<Exceeded>>,
    /// The caller's trace; `None`: it names none, or nobody asks.
    pub trace: Option<Box<Trace>>,
    /// All of them in order, if there was more than one.
    pub attempts: Vec<Attempt>,
}

/// One attempt at a vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where it went.
    pub provider_id: Uuid,
    /// Of its answer; `None`: none came.
    pub status: Option<u16>,
    /// Closed label of what failed; `None`: the head of an answer came.
    pub ending: Option<&'static str>,
    /// To that head or failure; of the first one from the request's start.
    pub duration_us: u64,
}

/// The attempts of one request, as they are made: the usual one costs nothing.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Trail {
    last: Option<(Uuid, Ending)>,
    before: Vec<Attempt>,
    began: Duration,
}

impl Trail {
    /// One has ended.
    pub(in crate::pipeline) fn ended(&mut self, provider_id: Uuid, ending: Ending) {
        self.last = Some((provider_id, ending));
    }

    /// Another begins, so long after the request did.
    pub(in crate::pipeline) fn goes_on(&mut self, elapsed: Duration) {
        let Some((provider_id, ending)) = self.last.take() else { return };
        let (status, ending) = match ending {
            Ending::Status(status) => (Some(status.as_u16()), None),
            Ending::Failed(refusal) => (None, Some(refusal.label())),
        };
        let took = elapsed.saturating_sub(self.began).as_micros();
        self.before.push(Attempt { provider_id, status, ending, duration_us: u64::try_from(took).unwrap_or(u64::MAX) });
        self.began = elapsed;
    }

    /// All of them, if there was more than one; the last came to its head or failure so long after the start.
    pub(in crate::pipeline) fn told(&mut self, elapsed: Duration) -> Vec<Attempt> {
        if !self.before.is_empty() {
            self.goes_on(elapsed);
        }
        std::mem::take(&mut self.before)
    }
}
