//! Azure OpenAI's paths and errors: deployments and API versions around OpenAI's shapes.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::trigger::{Refusal, Refused};
use super::{Answer, Query, Vendor, chat, openai};

/// The first API version that knows `stream_options`.
const STREAM_OPTIONS_SINCE: &str = "2024-10-21";

/// Answers a request to an Azure OpenAI resource.
pub(super) fn handle(query: &Query<'_>) -> Result<Answer, Refusal> {
    if let Some(path) = query.path.strip_prefix("/openai/v1") {
        return openai::answer(query, Vendor::Azure, path);
    }
    let (Some(path), Some(version)) = (query.path.strip_prefix("/openai/deployments/"), query.parameter("api-version"))
    else {
        return Err(query.unknown_route());
    };
    let Some((deployment, operation)) = path.split_once('/') else { return Err(query.unknown_route()) };
    if query.method != Method::POST {
        return Err(query.unknown_route());
    }
    match operation {
        "chat/completions" => {
            let body = query.object()?;
            let options = body.get("stream_options").is_some_and(|options| !options.is_null());
            // Versions are dates, so their text sorts; `-preview` and the like come after the date.
            if options && version.get(..STREAM_OPTIONS_SINCE.len()).is_none_or(|date| date < STREAM_OPTIONS_SINCE) {
                return Err(Refusal::Unknown("stream_options"));
            }
            chat::complete(Vendor::Azure, &body, deployment)
        }
        "embeddings" => chat::embed(Vendor::Azure, &query.object()?, deployment),
        _ => Err(query.unknown_route()),
    }
}

/// Azure's own errors at the edge, OpenAI's behind it.
pub(super) fn refuse(refusal: &Refusal) -> (StatusCode, Value) {
    let edge = |status: StatusCode, code: &str, message: &str| {
        (status, json!({ "error": { "code": code, "message": message } }))
    };
    match refusal {
        Refusal::Provoked(Refused::Credential, _) | Refusal::Credential | Refusal::NoCredential => edge(
            StatusCode::UNAUTHORIZED,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key \
             for an active subscription and use a correct regional API endpoint for your resource.",
        ),
        Refusal::Provoked(Refused::Model, _) => edge(
            StatusCode::NOT_FOUND,
            "DeploymentNotFound",
            "The API deployment for this resource does not exist. If you created the deployment within the last 5 \
             minutes, please wait a moment and try again.",
        ),
        Refusal::Provoked(Refused::RateLimit, _) => edge(
            StatusCode::TOO_MANY_REQUESTS,
            "429",
            "Requests to the ChatCompletions_Create Operation have exceeded call rate limit of your current pricing \
             tier. Please retry after 1 second.",
        ),
        Refusal::Route(..) => edge(StatusCode::NOT_FOUND, "404", "Resource not found"),
        Refusal::Provoked(Refused::Invalid | Refused::Forbidden | Refused::Broken | Refused::Overloaded, _)
        | Refusal::Malformed
        | Refusal::Missing(_)
        | Refusal::Unknown(_)
        | Refusal::Body => openai::refuse(refusal),
    }
}
