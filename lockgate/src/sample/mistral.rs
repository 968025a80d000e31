//! Mistral's paths and errors: chat as OpenAI shapes it, usage in the last chunk, errors of its own.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::trigger::{Refusal, Refused};
use super::{Answer, Query, Vendor, chat};

const MODELS: [&str; 3] = ["mistral-small-latest", "mistral-large-latest", "mistral-embed"];

/// Answers a request to Mistral.
pub(super) fn handle(query: &Query<'_>) -> Result<Answer, Refusal> {
    match (query.method, query.path) {
        (&Method::GET, "/v1/models") => Ok(Answer::json(json!({ "object": "list", "data": MODELS.map(model) }))),
        (&Method::GET, path) if path.starts_with("/v1/models/") => {
            let name = &path["/v1/models/".len()..];
            let known = MODELS.contains(&name).then(|| Answer::json(model(name)));
            known.ok_or_else(|| Refusal::Provoked(Refused::Model, name.to_owned()))
        }
        (&Method::POST, "/v1/chat/completions") => {
            let body = query.object()?;
            if body.get("stream_options").is_some_and(|options| !options.is_null()) {
                return Err(Refusal::Unknown("stream_options"));
            }
            chat::complete(Vendor::Mistral, &body, model_of(&body)?)
        }
        (&Method::POST, "/v1/embeddings") => {
            let body = query.object()?;
            chat::embed(Vendor::Mistral, &body, model_of(&body)?)
        }
        _ => Err(query.unknown_route()),
    }
}

fn model(name: &str) -> Value {
    json!({
        "id": name, "object": "model", "created": 1_735_689_600, "owned_by": "lockgate-sample", "name": name,
        "description": "A model of the sample upstream", "max_context_length": 32768, "aliases": [],
        "type": "base",
        "capabilities": {
            "completion_chat": !name.contains("embed"), "completion_fim": false, "function_calling": true,
            "fine_tuning": false, "vision": false,
        },
    })
}

fn model_of(body: &Value) -> Result<&str, Refusal> {
    body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty()).ok_or(Refusal::Missing("model"))
}

/// Mistral's errors: a validation report for what the body lacks, an object with a type and a number otherwise.
pub(super) fn refuse(refusal: &Refusal) -> (StatusCode, Value) {
    let error = |status: StatusCode, kind: &str, code: &str, message: &str| {
        (status, json!({ "object": "error", "message": message, "type": kind, "param": null, "code": code }))
    };
    let validation = |location: Value, kind: &str, message: &str| {
        let detail = json!([{ "type": kind, "loc": location, "msg": message, "input": null }]);
        (StatusCode::UNPROCESSABLE_ENTITY, json!({ "detail": detail }))
    };
    match refusal {
        Refusal::Provoked(Refused::Credential, _) | Refusal::Credential | Refusal::NoCredential => {
            (StatusCode::UNAUTHORIZED, json!({ "detail": "Unauthorized" }))
        }
        Refusal::Provoked(Refused::Invalid, _) => error(
            StatusCode::BAD_REQUEST,
            "invalid_request_error",
            "3051",
            "The prompt asked the sample upstream for a 400.",
        ),
        Refusal::Provoked(Refused::Forbidden, _) => {
            error(StatusCode::FORBIDDEN, "invalid_request_forbidden", "1910", "Not allowed.")
        }
        Refusal::Provoked(Refused::Model, model) => {
            error(StatusCode::NOT_FOUND, "invalid_model", "1500", &format!("Invalid model: {model}"))
        }
        Refusal::Provoked(Refused::RateLimit, _) => {
            error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "1300", "Rate limit exceeded")
        }
        Refusal::Provoked(Refused::Broken, _) => {
            error(StatusCode::INTERNAL_SERVER_ERROR, "internal_server_error", "3700", "Internal server error")
        }
        Refusal::Provoked(Refused::Overloaded, _) => {
            error(StatusCode::SERVICE_UNAVAILABLE, "unreachable_backend", "1100", "Service unavailable.")
        }
        Refusal::Malformed => validation(json!(["body", 0]), "json_invalid", "JSON decode error"),
        Refusal::Missing(field) => validation(json!(["body", field]), "missing", "Field required"),
        Refusal::Unknown(field) => {
            validation(json!(["body", field]), "extra_forbidden", "Extra inputs are not permitted")
        }
        Refusal::Route(..) => (StatusCode::NOT_FOUND, json!({ "message": "no Route matched with those values" })),
        Refusal::Body => (StatusCode::PAYLOAD_TOO_LARGE, json!({ "message": "Request size limit exceeded" })),
    }
}
