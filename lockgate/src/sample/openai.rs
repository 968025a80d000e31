//! OpenAI's paths and errors. The shapes of chat are in `chat`, those of the Responses API in `responses`.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::trigger::{Refusal, Refused};
use super::{Answer, Query, Vendor, chat, responses};

/// What `GET /v1/models` lists; any other name is served as well.
const MODELS: [&str; 4] = ["gpt-4o", "gpt-4o-mini", "o4-mini", "text-embedding-3-small"];
/// When the models were made: any day will do, as long as it stays.
const CREATED: u64 = 1_715_367_049;

/// Answers a request to OpenAI.
pub(super) fn handle(query: &Query<'_>) -> Result<Answer, Refusal> {
    let Some(path) = query.path.strip_prefix("/v1") else { return Err(query.unknown_route()) };
    answer(query, Vendor::OpenAi, path)
}

/// The part that Azure offers as well, under another prefix.
pub(super) fn answer(query: &Query<'_>, vendor: Vendor, path: &str) -> Result<Answer, Refusal> {
    if query.method == Method::GET {
        return match path.strip_prefix("/models") {
            Some("") => Ok(Answer::json(json!({ "object": "list", "data": MODELS.map(model) }))),
            Some(name) if name.starts_with('/') => {
                let name = &name[1..];
                let known = MODELS.contains(&name).then(|| Answer::json(model(name)));
                known.ok_or_else(|| Refusal::Provoked(Refused::Model, name.to_owned()))
            }
            _ => Err(query.unknown_route()),
        };
    }
    if query.method != Method::POST {
        return Err(query.unknown_route());
    }
    match path {
        "/chat/completions" => {
            let body = query.object()?;
            chat::complete(vendor, &body, model_of(&body)?)
        }
        "/embeddings" => {
            let body = query.object()?;
            chat::embed(vendor, &body, model_of(&body)?)
        }
        "/responses" => {
            let body = query.object()?;
            responses::respond(vendor, &body, model_of(&body)?)
        }
        _ => Err(query.unknown_route()),
    }
}

fn model(name: &str) -> Value {
    json!({ "id": name, "object": "model", "created": CREATED, "owned_by": "lockgate-sample" })
}

fn model_of(body: &Value) -> Result<&str, Refusal> {
    body.get("model").and_then(Value::as_str).filter(|model| !model.is_empty()).ok_or(Refusal::Missing("model"))
}

/// OpenAI's error object.
pub(super) fn refuse(refusal: &Refusal) -> (StatusCode, Value) {
    let (status, message, kind, parameter, code) = match refusal {
        Refusal::Provoked(Refused::Credential, _) | Refusal::Credential => (
            StatusCode::UNAUTHORIZED,
            "Incorrect API key provided: sk-***. You can find your API key at \
             https://platform.openai.com/account/api-keys."
                .to_owned(),
            "invalid_request_error",
            None,
            Some("invalid_api_key"),
        ),
        Refusal::NoCredential => (
            StatusCode::UNAUTHORIZED,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
             auth."
                .to_owned(),
            "invalid_request_error",
            None,
            None,
        ),
        Refusal::Provoked(Refused::Invalid, _) => (
            StatusCode::BAD_REQUEST,
            "The prompt asked the sample upstream for a 400.".to_owned(),
            "invalid_request_error",
            Some("messages"),
            Some("invalid_value"),
        ),
        Refusal::Provoked(Refused::Forbidden, _) => (
            StatusCode::FORBIDDEN,
            "You are not allowed to generate from this model.".to_owned(),
            "invalid_request_error",
            None,
            None,
        ),
        Refusal::Provoked(Refused::Model, model) => (
            StatusCode::NOT_FOUND,
            format!("The model `{model}` does not exist or you do not have access to it."),
            "invalid_request_error",
            None,
            Some("model_not_found"),
        ),
        Refusal::Provoked(Refused::RateLimit, model) => (
            StatusCode::TOO_MANY_REQUESTS,
            format!("Rate limit reached for {model} on requests per min (RPM): Limit 3, Used 3, Requested 1."),
            "requests",
            None,
            Some("rate_limit_exceeded"),
        ),
        Refusal::Provoked(Refused::Broken, _) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            "The server had an error while processing your request. Sorry about that!".to_owned(),
            "server_error",
            None,
            None,
        ),
        Refusal::Provoked(Refused::Overloaded, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "That model is currently overloaded with other requests.".to_owned(),
            "server_error",
            None,
            None,
        ),
        Refusal::Malformed => (
            StatusCode::BAD_REQUEST,
            "We could not parse the JSON body of your request.".to_owned(),
            "invalid_request_error",
            None,
            None,
        ),
        Refusal::Missing(field) => (
            StatusCode::BAD_REQUEST,
            format!("Missing required parameter: '{field}'."),
            "invalid_request_error",
            Some(*field),
            Some("missing_required_parameter"),
        ),
        Refusal::Unknown(argument) => (
            StatusCode::BAD_REQUEST,
            format!("Unrecognized request argument supplied: {argument}"),
            "invalid_request_error",
            None,
            None,
        ),
        Refusal::Route(method, path) => {
            (StatusCode::NOT_FOUND, format!("Invalid URL ({method} {path})"), "invalid_request_error", None, None)
        }
        Refusal::Body => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "Maximum content size limit exceeded.".to_owned(),
            "invalid_request_error",
            None,
            None,
        ),
    };
    (status, json!({ "error": { "message": message, "type": kind, "param": parameter, "code": code } }))
}
