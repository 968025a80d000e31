//! Every way a request can fail by Lockgate's own decision: status, closed label, wording. Rendered in one place, in
//! the caller's dialect. No variant carries an address, a key or a piece of a body: there is nothing to leak.

mod exceeded;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::dialect::Dialect;
use crate::dialect::fault::Fault;
use crate::limit::reservation::Exceeded;

/// On every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-lockgate-request-id");
/// On answers of Lockgate's own; on a vendor's answer this is the vendor's.
pub const VENDOR_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The OpenAI and Anthropic SDKs obey it.
pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why a request was not answered by the vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No configuration has been loaded yet.
    NotReady,
    /// The node is stopping.
    Draining,
    /// The head cannot be read.
    Malformed,
    /// No, two or malformed `Host`, or another than in the request line.
    BadHost,
    /// The request's length is stated in two ways, or in none that can be read.
    BadFraming,
    /// The body has a transfer coding besides chunks.
    CodingNotSupported,
    /// Something else is expected than `100-continue`.
    ExpectationNotSupported,
    /// `Connection` nominates a header that decides about the request.
    BadConnectionHeader,
    /// The path has forms that two readers could read in two ways.
    BadPath,
    /// A method that is not passed on.
    MethodNotAllowed,
    /// The request asks for another protocol where there is none.
    UpgradeNotSupported,
    /// It asks for a WebSocket, and an administrator switched that off here.
    RealtimeDisabled,
    /// It asks for a WebSocket, but not as RFC 6455 wants it.
    BadWebSocket,
    /// It asks for a version of WebSocket that is not the one there is.
    WebSocketVersion,
    /// The head is too large.
    HeadTooLarge,
    /// The URI is too long.
    UriTooLong,
    /// No endpoint has this context.
    UnknownContext,
    /// Two values in one of the places a key is read from.
    AmbiguousKey,
    /// No valid key: missing, malformed, unknown, revoked, expired and disabled are not told apart.
    Unauthenticated,
    /// A valid key that does not open this endpoint.
    OutOfScope,
    /// The access rules of the endpoint, or of every provider behind it, do not let this path and method pass.
    AccessDenied,
    /// The key, the endpoint or every provider behind it does not allow the model.
    ModelNotAllowed,
    /// Models are restricted, and the request has a body and names none.
    ModelRequired,
    /// Models are ruled, and the request names one twice, or in a form that two readers could read in two ways.
    AmbiguousModel,
    /// Models are restricted, and what carries the name cannot be read.
    UnreadableModel,
    /// Models are ruled, and the name stands behind more of the body than is held.
    ModelTooLate,
    /// An administrator switched the endpoint, or the provider behind it, off.
    EndpointDisabled,
    /// The key has as many requests in flight as it may.
    TooManyRequests,
    /// A rule about how much may be used; the account knows which.
    LimitExceeded,
    /// A rule counts money, and there is no price for the model; the account knows which.
    UnpricedModel,
    /// A rule holds to the letter, and the request does not bound what it may come to; the account knows which.
    UnboundedRequest,
    /// The requests in flight hold as much memory as they may.
    Overloaded,
    /// That it is about to be sent cannot be written down, and the node is told not to send it then.
    NotRecordable,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body stopped arriving.
    BodyStalled,
    /// The body broke off or is not framed as announced.
    BodyBroken,
    /// The upstream's name has no address.
    UpstreamUnresolvable,
    /// The address policy forbids the upstream's addresses.
    UpstreamForbidden,
    /// The upstream takes no connection.
    UpstreamRefused,
    /// The upstream's certificate was not accepted, or TLS failed otherwise.
    UpstreamTls,
    /// The connection did not stand in time.
    UpstreamConnectTimeout,
    /// No head in time.
    UpstreamSilent,
    /// The upstream closed or broke the protocol before its head was complete.
    UpstreamBroken,
    /// The vendor rejected the stored credential.
    UpstreamAuth,
    /// Models are ruled, and the vendor's list of them cannot be read, so it cannot be cut to what may be used.
    UnreadableModelList,
    /// The request's total time was over before there was an answer.
    DeadlineExceeded,
}

impl Refusal {
    /// All of them, for the catalogue and its test.
    pub const ALL: [Self; 46] = [
        Self::NotReady,
        Self::Draining,
        Self::Malformed,
        Self::BadHost,
        Self::BadFraming,
        Self::CodingNotSupported,
        Self::ExpectationNotSupported,
        Self::BadConnectionHeader,
        Self::BadPath,
        Self::MethodNotAllowed,
        Self::UpgradeNotSupported,
        Self::RealtimeDisabled,
        Self::BadWebSocket,
        Self::WebSocketVersion,
        Self::HeadTooLarge,
        Self::UriTooLong,
        Self::UnknownContext,
        Self::AmbiguousKey,
        Self::Unauthenticated,
        Self::OutOfScope,
        Self::AccessDenied,
        Self::ModelNotAllowed,
        Self::ModelRequired,
        Self::AmbiguousModel,
        Self::UnreadableModel,
        Self::ModelTooLate,
        Self::EndpointDisabled,
        Self::TooManyRequests,
        Self::LimitExceeded,
        Self::UnpricedModel,
        Self::UnboundedRequest,
        Self::Overloaded,
        Self::NotRecordable,
        Self::BodyTooLarge,
        Self::BodyStalled,
        Self::BodyBroken,
        Self::UpstreamUnresolvable,
        Self::UpstreamForbidden,
        Self::UpstreamRefused,
        Self::UpstreamTls,
        Self::UpstreamConnectTimeout,
        Self::UpstreamSilent,
        Self::UpstreamBroken,
        Self::UpstreamAuth,
        Self::UnreadableModelList,
        Self::DeadlineExceeded,
    ];

    /// HTTP status.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Malformed
            | Self::BadHost
            | Self::BadFraming
            | Self::BadConnectionHeader
            | Self::BadPath
            | Self::AmbiguousKey
            | Self::BadWebSocket
            | Self::ModelRequired
            | Self::AmbiguousModel
            | Self::UnreadableModel
            | Self::UnboundedRequest
            | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::OutOfScope
            | Self::AccessDenied
            | Self::ModelNotAllowed
            | Self::EndpointDisabled
            | Self::UnpricedModel => StatusCode::FORBIDDEN,
            Self::UnknownContext => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed | Self::UpgradeNotSupported | Self::RealtimeDisabled => {
                StatusCode::METHOD_NOT_ALLOWED
            }
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::BodyStalled => StatusCode::REQUEST_TIMEOUT,
            Self::ExpectationNotSupported => StatusCode::EXPECTATION_FAILED,
            Self::CodingNotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::BodyTooLarge | Self::ModelTooLate => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UpstreamUnresolvable
            | Self::UpstreamForbidden
            | Self::UpstreamRefused
            | Self::UpstreamTls
            | Self::UpstreamBroken
            | Self::UpstreamAuth
            | Self::UnreadableModelList => StatusCode::BAD_GATEWAY,
            Self::TooManyRequests | Self::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::NotReady | Self::Draining | Self::Overloaded | Self::NotRecordable => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamConnectTimeout | Self::UpstreamSilent | Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Closed label: in bodies, records, logs and metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NotReady => "not_ready",
            Self::Draining => "draining",
            Self::Malformed => "malformed_request",
            Self::BadHost => "bad_host",
            Self::BadFraming => "bad_framing",
            Self::CodingNotSupported => "transfer_coding_not_supported",
            Self::ExpectationNotSupported => "expectation_not_supported",
            Self::BadConnectionHeader => "bad_connection_header",
            Self::BadPath => "bad_path",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UpgradeNotSupported => "upgrade_not_supported",
            Self::RealtimeDisabled => "realtime_disabled",
            Self::BadWebSocket => "bad_websocket",
            Self::WebSocketVersion => "websocket_version",
            Self::HeadTooLarge => "head_too_large",
            Self::UriTooLong => "uri_too_long",
            Self::UnknownContext => "unknown_context",
            Self::AmbiguousKey => "ambiguous_key",
            Self::Unauthenticated => "invalid_api_key",
            Self::OutOfScope => "key_out_of_scope",
            Self::AccessDenied => "access_denied",
            Self::ModelNotAllowed => "model_not_allowed",
            Self::ModelRequired => "model_required",
            Self::AmbiguousModel => "ambiguous_model",
            Self::UnreadableModel => "unreadable_model",
            Self::ModelTooLate => "model_too_late",
            Self::EndpointDisabled => "endpoint_disabled",
            Self::TooManyRequests => "too_many_requests",
            Self::LimitExceeded => "limit_exceeded",
            Self::UnpricedModel => "unpriced_model",
            Self::UnboundedRequest => "unbounded_request",
            Self::Overloaded => "overloaded",
            Self::NotRecordable => "not_recordable",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyStalled => "body_stalled",
            Self::BodyBroken => "body_broken",
            Self::UpstreamUnresolvable => "upstream_unresolvable",
            Self::UpstreamForbidden => "upstream_forbidden",
            Self::UpstreamRefused => "upstream_refused",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamConnectTimeout => "upstream_connect_timeout",
            Self::UpstreamSilent => "upstream_silent",
            Self::UpstreamBroken => "upstream_broken",
            Self::UpstreamAuth => "upstream_auth",
            Self::UnreadableModelList => "unreadable_model_list",
            Self::DeadlineExceeded => "deadline_exceeded",
        }
    }

    /// What happened, and what to do next.
    pub const fn message(self) -> &'static str {
        match self {
            Self::NotReady => {
                "This gateway node has no configuration yet. Try again in a moment; if it stays so, its link to the \
                 control plane needs attention."
            }
            Self::Draining => "This gateway node is stopping. Send the request again; another node will take it.",
            Self::BadHost => "The request must name its host exactly once, in the Host header. Check the client.",
            Self::Malformed => {
                "The request cannot be read as HTTP. Check the client and what stands between it and here."
            }
            Self::BadFraming => {
                "The request states its length in two ways, or in none that can be read. Send one Content-Length or \
                 chunks, not both."
            }
            Self::CodingNotSupported => {
                "The body has a transfer coding that is not supported. Send it in plain chunks; compress the content \
                 instead, if the vendor takes that."
            }
            Self::ExpectationNotSupported => {
                "The Expect header asks for something that is not supported. Send 100-continue or no Expect header."
            }
            Self::BadConnectionHeader => {
                "The Connection header names a header that decides about the request. Remove it from Connection."
            }
            Self::BadPath => {
                "The path has empty, dot or encoded separator segments, or bytes that must be percent-encoded. Send \
                 the plain path."
            }
            Self::MethodNotAllowed => {
                "This method is not passed on. Use GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE."
            }
            Self::UpgradeNotSupported => {
                "This path carries HTTP requests only: the vendor has no WebSocket here. Send the request without the \
                 Upgrade header, or to one of the vendor's realtime paths."
            }
            Self::RealtimeDisabled => {
                "An administrator has switched WebSocket off for this endpoint. Ask them to allow realtime, or send \
                 plain requests."
            }
            Self::BadWebSocket => {
                "The request asks for a WebSocket, but not as RFC 6455 wants it: a GET without a body, with Connection: \
                 Upgrade, a version and one key of 16 bytes in base64. Check the client."
            }
            Self::WebSocketVersion => "Only version 13 of WebSocket is spoken. Send Sec-WebSocket-Version: 13.",
            Self::HeadTooLarge => "The request's headers are too large. Send fewer or shorter ones.",
            Self::UriTooLong => "The request's URI is too long. Move what it carries into the body.",
            Self::UnknownContext => {
                "No endpoint is deployed under this path. Compare it with the Invoke URL shown in the console, and \
                 check that the endpoint is deployed to this gateway."
            }
            Self::AmbiguousKey => "The API key was sent twice in the same place. Send it once.",
            Self::Unauthenticated => {
                "The gateway API key is missing or not valid. Send a current key in the X-API-Key header; keys are \
                 made in the console under API keys."
            }
            Self::OutOfScope => {
                "This API key does not open this endpoint. Add the endpoint to the key in the console, or use \
                 another key."
            }
            Self::AccessDenied => {
                "The access rules here do not let this path and method pass. Use another path, or ask an administrator \
                 to allow it."
            }
            Self::ModelNotAllowed => {
                "This model may not be used here. Choose one that the rule allows, or ask an administrator to allow it."
            }
            Self::ModelRequired => {
                "Models are restricted here, and the request does not say which one it is for. Name the model, or ask \
                 an administrator to lift the restriction."
            }
            Self::AmbiguousModel => {
                "The request names its model twice, or in a spelling that could be read in two ways. Name it once, as \
                 the vendor's documentation writes it."
            }
            Self::UnreadableModel => {
                "Models are restricted here, and the request's model cannot be read. Send plain JSON or form data, not \
                 compressed; a WebSocket cannot be opened where models are restricted."
            }
            Self::ModelTooLate => {
                "Models are restricted here, and the request's model stands behind more data than is held to find it. \
                 Put the model first; an administrator can raise the node's limits.model_bytes."
            }
            Self::EndpointDisabled => "An administrator has disabled this endpoint. Ask them to enable it.",
            Self::TooManyRequests => {
                "This API key has as many requests in flight at this gateway node as it may. Wait for some of them to \
                 end, then send the request again."
            }
            Self::LimitExceeded => {
                "A limit of this gateway is reached. Nothing was sent to the vendor; send the request again when the limit \
                 frees, or ask an administrator to raise it."
            }
            Self::UnpricedModel => {
                "A limit here counts money, and the model has no known price. Nothing was sent to the vendor. An \
                 administrator can set one (PUT /api/v1/prices/llm-providers/{provider}, or the console's prices), or let \
                 requests without a price pass the limit (\"unpriced\": \"allow\")."
            }
            Self::UnboundedRequest => {
                "A limit here is never exceeded, so a request must bound what it may come to, and this one does not. \
                 Nothing was sent to the vendor."
            }
            Self::Overloaded => {
                "This gateway node has as many requests in flight as its memory allows. Nothing was sent to the \
                 vendor; send the request again in a moment."
            }
            Self::NotRecordable => {
                "This gateway node's disk does not take what must be written down of each request. Nothing was sent to \
                 the vendor; send the request again, another node may take it. An operator should make room."
            }
            Self::BodyTooLarge => "The request's body is larger than this gateway allows. Send less.",
            Self::BodyStalled => "The request's body stopped arriving. Send the request again.",
            Self::BodyBroken => "The request's body broke off or is not framed as announced. Send the request again.",
            Self::UpstreamUnresolvable => {
                "The vendor's host name cannot be resolved. An administrator should check the provider's upstream URL."
            }
            Self::UpstreamForbidden => {
                "The vendor's address is not one this gateway may connect to. An administrator should check the \
                 provider's upstream URL and the gateway's upstream networks."
            }
            Self::UpstreamRefused => {
                "The vendor takes no connection. Try again; if it stays so, an administrator should check the \
                 provider's upstream URL."
            }
            Self::UpstreamTls => {
                "No trusted TLS connection to the vendor could be made. An administrator should check the provider's \
                 upstream URL and its certificate authority."
            }
            Self::UpstreamConnectTimeout => "The vendor could not be reached in time. Try again.",
            Self::UpstreamSilent => {
                "The vendor did not begin to answer in time. Try again, or raise the endpoint's first byte timeout."
            }
            Self::UpstreamBroken => "The vendor closed the connection before it answered. Try again.",
            Self::UpstreamAuth => {
                "The vendor rejected the credential stored for this provider. Your gateway key is fine; an \
                 administrator must renew the provider's credential."
            }
            Self::UnreadableModelList => {
                "Models are restricted here, and the vendor's list of models is in no form that can be cut to those that \
                 may be used. Name a model that you may use; an administrator knows which."
            }
            Self::DeadlineExceeded => {
                "The request took longer than this endpoint allows. Ask for less, or raise the endpoint's total timeout."
            }
        }
    }

    /// Whether it says something about the vendor's side rather than the request.
    pub const fn is_upstream(self) -> bool {
        matches!(
            self,
            Self::UpstreamUnresolvable
                | Self::UpstreamForbidden
                | Self::UpstreamRefused
                | Self::UpstreamTls
                | Self::UpstreamConnectTimeout
                | Self::UpstreamSilent
                | Self::UpstreamBroken
                | Self::UpstreamAuth
                | Self::UnreadableModelList
                | Self::DeadlineExceeded
        )
    }

    /// Whether the vendor cannot have seen the request.
    pub const fn is_unsent(self) -> bool {
        matches!(
            self,
            Self::UpstreamUnresolvable
                | Self::UpstreamForbidden
                | Self::UpstreamRefused
                | Self::UpstreamTls
                | Self::UpstreamConnectTimeout
        )
    }

    /// Whether the connection may carry another request: not when it is unclear where this one ends.
    const fn closes(self) -> bool {
        matches!(
            self,
            Self::Malformed
                | Self::BadHost
                | Self::BadFraming
                | Self::CodingNotSupported
                | Self::ExpectationNotSupported
                | Self::BadConnectionHeader
                | Self::UpgradeNotSupported
                | Self::HeadTooLarge
                | Self::UriTooLong
                | Self::BodyTooLarge
                | Self::AmbiguousModel
                | Self::UnreadableModel
                | Self::ModelTooLate
                | Self::BodyStalled
                | Self::BodyBroken
                | Self::Draining
        )
    }

    /// The error, ready for a dialect.
    pub(crate) fn fault(self, request_id: &str) -> Fault<'_> {
        Fault { status: self.status().as_u16(), label: self.label(), message: self.message(), request_id }
    }

    /// Head and body of the answer, `why` behind the message. No dialect: nobody knows yet which the caller speaks.
    pub(crate) fn explain(
        self,
        why: &str,
        dialect: Option<Dialect>,
        request_id: &str,
        request_id_value: &HeaderValue,
        http1: bool,
        limited: Option<&Exceeded>,
    ) -> (StatusCode, HeaderMap, Bytes) {
        let measured = limited.map(exceeded::message);
        let message = [self.message(), why].concat();
        let fault = Fault { message: measured.as_deref().unwrap_or(&message), ..self.fault(request_id) };
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REQUEST_ID, request_id_value.clone());
        headers.insert(VENDOR_REQUEST_ID, request_id_value.clone());
        if dialect == Some(Dialect::Bedrock) {
            headers.insert("x-amzn-errortype", HeaderValue::from_static(fault.bedrock_kind()));
            headers.insert("x-amzn-requestid", request_id_value.clone());
        }
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"lockgate\""));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"));
            }
            StatusCode::UPGRADE_REQUIRED => {
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        if matches!(self, Self::UpstreamAuth | Self::UpstreamForbidden) {
            // Only an administrator can mend it: no SDK should hammer the vendor with a dead credential.
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        if let Some(limited) = limited {
            exceeded::headers(limited, dialect, &mut headers);
        }
        if http1 && self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        (self.status(), headers, fault.body(dialect).into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn labels_are_distinct_and_messages_say_what_to_do() {
        let labels: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        assert_eq!(labels.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            assert!(refusal.message().split(['.', ';']).count() > 1, "{refusal:?}");
        }
    }

    #[test]
    fn every_dialect_finds_status_message_and_request_id() {
        let dialects = [
            None,
            Some(Dialect::OpenAi),
            Some(Dialect::Anthropic),
            Some(Dialect::Gemini),
            Some(Dialect::Mistral),
            Some(Dialect::Bedrock),
        ];
        for dialect in dialects {
            let bodies: Vec<serde_json::Value> = Refusal::ALL
                .iter()
                .map(|refusal| {
                    let id = HeaderValue::from_static("req_1");
                    let (_, headers, body) = refusal.explain("", dialect, "req_1", &id, true, None);
                    assert_eq!(headers[VENDOR_REQUEST_ID], "req_1");
                    assert!(String::from_utf8_lossy(&body).contains("req_1"));
                    serde_json::from_slice(&body).unwrap()
                })
                .collect();
            let name = dialect.map_or_else(|| "everyone".to_owned(), |dialect| format!("{dialect:?}").to_lowercase());
            insta::with_settings!({ snapshot_path => "../tests/golden", prepend_module_to_snapshot => false }, {
                insta::assert_json_snapshot!(format!("refusals_{name}"), bodies);
            });
        }
    }
}
