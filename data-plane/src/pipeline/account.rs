//! The last step: one record, one log line, the counters; on every exit, because it owns what the request left behind.

use uuid::Uuid;

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
    /// To the last byte written, or the end otherwise.
    pub duration_us: u64,
    /// To the head of the upstream's answer; `None`: none came.
    pub first_byte_us: Option<u64>,
    /// The answer was an event stream.
    pub streamed: bool,
    /// Of the body, as received.
    pub request_bytes: u64,
    /// Of the body, as sent.
    pub response_bytes: u64,
    /// Of the request.
    pub method: Box<str>,
    /// After the context, without the query; cut at 256 bytes.
    pub path: Box<str>,
    /// Of the configuration that decided.
    pub revision: u64,
}
