//! `{"error": {"message", "type", "param", "code"}}`.

use serde_json::{Value, json};

use super::fault::Fault;

pub(super) fn error(fault: &Fault<'_>) -> Value {
    json!({
        "error": {
            "message": fault.message,
            "type": kind(fault.status),
            "param": null,
            "code": fault.label,
            "request_id": fault.request_id,
        }
    })
}

/// As the vendor names its kinds of errors.
fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}
