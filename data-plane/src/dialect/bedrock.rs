//! `{"message"}`; the kind travels in the header `x-amzn-errortype`.

use serde_json::{Value, json};

use super::fault::Fault;

pub(super) fn error(fault: &Fault<'_>) -> Value {
    json!({ "message": fault.message, "__type": kind(fault.status), "requestId": fault.request_id })
}

/// As the vendor names its exceptions.
pub(super) fn kind(status: u16) -> &'static str {
    match status {
        401 | 403 => "AccessDeniedException",
        404 => "ResourceNotFoundException",
        429 => "ThrottlingException",
        503 => "ServiceUnavailableException",
        504 => "ModelTimeoutException",
        400..=499 => "ValidationException",
        _ => "InternalServerException",
    }
}
