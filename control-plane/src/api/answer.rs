//! What answers to reads and writes of the catalogue have alike: `ETag`, `Location`, `x-lockgate-revision`.

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::extract::{Input, strict};
use crate::model::endpoint::VOLATILE as ENDPOINT_VOLATILE;
use crate::model::error::{Error, Violation};
use crate::model::name::Name;
use crate::model::resource::{Draft, READ_ONLY};

/// The organization's revision after a write.
pub const REVISION: HeaderName = HeaderName::from_static("x-lockgate-revision");

/// A resource as it is read, with its `ETag`.
pub fn read(revision: i64, body: &impl Serialize) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, tag(revision));
    (headers, Json(body)).into_response()
}

/// A resource after a write; `location` when it is new.
pub fn written(own: i64, made: i64, location: Option<String>, body: &impl Serialize) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::ETAG, tag(own));
    headers.insert(REVISION, HeaderValue::from(made));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut status = StatusCode::OK;
    if let Some(location) = location {
        status = StatusCode::CREATED;
        headers.insert(header::LOCATION, HeaderValue::try_from(location).expect("ids are ASCII"));
    }
    (status, headers, Json(body)).into_response()
}

/// After a removal.
pub fn removed(made: i64) -> Response {
    (StatusCode::NO_CONTENT, [(REVISION, HeaderValue::from(made))]).into_response()
}

fn tag(revision: i64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).expect("digits are ASCII")
}

/// Reads `{"name", ..spec}`.
pub fn draft<S: serde::de::DeserializeOwned>(
    mut members: serde_json::Map<String, serde_json::Value>,
) -> Result<Draft<S>, Error> {
    let name = match members.remove("name") {
        Some(serde_json::Value::String(text)) => {
            Name::try_from(text).map_err(|error| Violation::invalid("/name", error.to_string()))
        }
        Some(_) => Err(Violation::invalid("/name", "must be text")),
        None => Err(Violation::new("/name", "required", "is required")),
    };
    match (name, strict(members, &["name"])) {
        (Ok(name), Ok(spec)) => Ok(Draft { name, spec }),
        (Err(violation), Err(Error::Invalid(mut others))) => {
            others.insert(0, violation);
            Err(Error::Invalid(others))
        }
        (Err(violation), _) => Err(violation.into()),
        (Ok(_), Err(error)) => Err(error),
    }
}

/// Inputs that no noun's read-only members belong to.
macro_rules! plain_inputs {
    ($($name:ty),* $(,)?) => {$(
        impl Input for $name {
            fn read(members: serde_json::Map<String, serde_json::Value>) -> Result<Self, Error> {
                strict(members, &[])
            }
        }
    )*};
}

plain_inputs!(
    crate::model::api_key::RotateInput,
    crate::model::api_key::DisableInput,
    crate::model::gateway::GatewayTokenInput,
    crate::model::deployment::DeploymentInput,
);

impl Input for crate::model::price::PriceListInput {
    const READ_ONLY: &'static [&'static str] = &["scope", "name", "shipped", "version", "revision"];

    fn read(members: serde_json::Map<String, serde_json::Value>) -> Result<Self, Error> {
        strict(members, &[])
    }
}

/// Inputs of nouns: a name, a spec, members that a PUT may repeat, and members that change by themselves.
macro_rules! noun_inputs {
    ($($spec:ty => $read_only:expr, $volatile:expr;)*) => {$(
        impl Input for Draft<$spec> {
            const READ_ONLY: &'static [&'static str] = &$read_only;
            const VOLATILE: &'static [&'static str] = &$volatile;

            fn read(members: serde_json::Map<String, serde_json::Value>) -> Result<Self, Error> {
                draft(members)
            }
        }
    )*};
}

noun_inputs!(
    crate::model::provider::ProviderInput => READ_ONLY, ENDPOINT_VOLATILE;
    crate::model::proxy::ProxySpec => READ_ONLY, ENDPOINT_VOLATILE;
    crate::model::gateway::GatewaySpec => READ_ONLY, [];
    crate::model::secret::SecretInput =>
        ["id", "revision", "createdAt", "updatedAt", "last4", "version"], ["usedBy"];
    crate::model::api_key::ApiKeyInput =>
        ["id", "revision", "createdAt", "updatedAt", "display"], ["status", "lastUsedAt", "previousExpiresAt"];
);
