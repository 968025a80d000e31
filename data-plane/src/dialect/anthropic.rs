//! `{"type": "error", "error": {"type", "message"}, "request_id"}`.

use serde_json::{Value, json};

use super::fault::Fault;

pub(super) fn error(fault: &Fault<'_>) -> Value {
    json!({
        "type": "error",
        "error": { "type": kind(fault.status), "message": fault.message, "code": fault.label },
        "request_id": fault.request_id,
    })
}

/// As the vendor names its kinds of errors.
pub(super) fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}
