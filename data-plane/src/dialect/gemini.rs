//! `{"error": {"code", "message", "status", "details"}}`, the form of all Google APIs.

use serde_json::{Value, json};

use super::fault::Fault;

pub(super) fn error(fault: &Fault<'_>) -> Value {
    json!({
        "error": {
            "code": fault.status,
            "message": fault.message,
            "status": status(fault.status),
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": fault.label.to_ascii_uppercase(),
                    "domain": "lockgate",
                    "metadata": { "code": fault.label },
                },
                { "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": fault.request_id },
            ],
        }
    })
}

/// The canonical code that Google pairs with an HTTP status.
pub(super) fn status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        501 => "UNIMPLEMENTED",
        502 | 503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=499 => "INVALID_ARGUMENT",
        _ => "INTERNAL",
    }
}
