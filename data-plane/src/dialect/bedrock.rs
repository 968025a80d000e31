//! `{"message"}`; the kind travels in the header `x-amzn-errortype`.

use serde_json::{Value, json};

use super::aws;
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

/// As a message of a stream that has already begun.
pub(super) fn exception(fault: &Fault<'_>) -> Vec<u8> {
    let payload = json!({ "message": fault.message, "requestId": fault.request_id }).to_string();
    let headers = [
        (":exception-type", stream_kind(fault.status)),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    aws::message(&headers, payload.as_bytes()).unwrap_or_default()
}

/// Members of the vendor's streams: its clients know only those that are members of both `ResponseStream` and
/// `ConverseStreamOutput`, and give a message to no other.
fn stream_kind(status: u16) -> &'static str {
    match status {
        429 => "throttlingException",
        400..=499 => "validationException",
        503 => "serviceUnavailableException",
        502 | 504 => "modelStreamErrorException",
        _ => "internalServerException",
    }
}
