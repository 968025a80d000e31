//! A recorded request, as people read it.

use serde::Serialize;
use time::OffsetDateTime;

use super::{id::RequestId, usage::Outcome};

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
    /// All input tokens.
    pub input_tokens: Option<i64>,
    /// All output tokens.
    pub output_tokens: Option<i64>,
    /// To the last byte.
    pub duration_ms: i64,
    /// To the head of the vendor's answer.
    pub first_byte_ms: Option<i64>,
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
}
