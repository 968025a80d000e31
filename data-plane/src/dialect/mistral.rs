//! `{"object": "error", "message", "type", "param", "code"}`.

use serde_json::{Value, json};

use super::fault::Fault;

pub(super) fn error(fault: &Fault<'_>) -> Value {
    json!({
        "object": "error",
        "message": fault.message,
        "type": fault.label,
        "param": null,
        "code": fault.label,
        "request_id": fault.request_id,
    })
}
