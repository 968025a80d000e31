//! The last step of every failed request: an [`Error`] becomes `application/problem+json` (RFC 9457).
//!
//! The texts of 5xx answers are constants; what happened goes to the log, once, under the request's id.

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::error::{Conflict, Error, Violation};
use crate::model::id::RequestId;

/// On every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A failed request's body.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// `https://lockgate.dev/errors/<code>`.
    r#type: String,
    /// The same for every problem of this code.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// From a closed set; what programs decide by.
    code: &'static str,
    /// Also in the header `x-request-id` and in the log.
    #[schema(value_type = String)]
    request_id: RequestId,
    /// What is wrong with which part of the body.
    errors: Vec<ProblemItem>,
}

/// One thing wrong with the body.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemItem {
    /// JSON pointer; empty: the whole body.
    pointer: String,
    /// `invalid`, `required`, `unknown_field`, `not_supported`, `read_only` or `not_found`.
    code: &'static str,
    /// For people.
    message: String,
    /// The nearest thing that would have been right.
    #[serde(skip_serializing_if = "Option::is_none")]
    suggestion: Option<String>,
}

impl From<Violation> for ProblemItem {
    fn from(violation: Violation) -> Self {
        let Violation { pointer, code, message, suggestion } = violation;
        Self { pointer, code, message, suggestion }
    }
}

/// Everything of a [`Problem`] but the request's id; travels as an extension of the response to [`finish`].
#[derive(Clone, Debug)]
struct Draft {
    status: StatusCode,
    code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<ProblemItem>,
}

impl Draft {
    fn new(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, title, detail: detail.into(), errors: Vec::new() }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut retry_after = None;
        let draft = match self {
            Self::Invalid(violations) => {
                let unsupported = violations.iter().all(|violation| violation.code == "not_supported");
                let detail = violations
                    .iter()
                    .map(|violation| format!("{}: {}", violation.pointer, violation.message))
                    .collect::<Vec<_>>()
                    .join("; ");
                let mut draft = if unsupported {
                    Draft::new(StatusCode::UNPROCESSABLE_ENTITY, "not_supported", "Not supported yet", detail)
                } else {
                    Draft::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "The input is not valid", detail)
                };
                draft.errors = violations.into_iter().map(ProblemItem::from).collect();
                draft
            }
            Self::Malformed(detail) => {
                Draft::new(StatusCode::BAD_REQUEST, "malformed", "The request could not be read", detail)
            }
            Self::Unauthenticated => Draft::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "Not signed in",
                "sign in, or send a personal access token as a bearer",
            ),
            Self::Forbidden(detail) => Draft::new(StatusCode::FORBIDDEN, "forbidden", "Not allowed", detail),
            Self::NotFound { noun, key } => {
                Draft::new(StatusCode::NOT_FOUND, "not_found", "Not found", format!("there is no {noun} `{key}`"))
            }
            Self::Conflict(conflict, detail) => {
                let (code, title) = match conflict {
                    Conflict::Conflict => ("conflict", "Something is in the way"),
                    Conflict::NameTaken => ("name_taken", "The name is taken"),
                    Conflict::ContextTaken => ("context_taken", "The context is taken"),
                    Conflict::InUse => ("in_use", "Still in use"),
                    Conflict::NotDeployed => ("not_deployed", "Not deployed"),
                };
                Draft::new(StatusCode::CONFLICT, code, title, detail)
            }
            Self::RevisionMismatch { current } => Draft::new(
                StatusCode::PRECONDITION_FAILED,
                "revision_mismatch",
                "Changed in the meantime",
                format!("the resource is at revision {current}: read it again and repeat the change on that"),
            ),
            Self::RevisionRequired => Draft::new(
                StatusCode::PRECONDITION_REQUIRED,
                "revision_required",
                "If-Match is required",
                "send the ETag that the resource was read with as If-Match",
            ),
            Self::TooLarge { limit } => Draft::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "The body is too large",
                format!("at most {limit} bytes are read"),
            ),
            Self::UnsupportedMediaType => Draft::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Not JSON",
                "send the body as application/json",
            ),
            Self::Throttled { retry_after: wait } => {
                let seconds = wait.as_secs().max(1);
                retry_after = Some(seconds);
                Draft::new(StatusCode::TOO_MANY_REQUESTS, "throttled", "Too often", format!("try again in {seconds} s"))
            }
            Self::Unavailable(internal) => {
                tracing::warn!(error = ?internal, "something the control plane needs is away");
                retry_after = Some(1);
                Draft::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    "Not available now",
                    "the control plane cannot answer now; gateways keep serving",
                )
            }
            Self::Internal(internal) => {
                tracing::error!(error = ?internal, "a request failed by a defect of the control plane");
                Draft::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "internal",
                    "Internal error",
                    "the control plane failed; its log says why under this request's id",
                )
            }
        };
        let mut response = draft.status.into_response();
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(draft);
        response
    }
}

/// The outermost layer: gives the request its id, writes it on the answer, and renders problems with it.
pub async fn finish(mut request: Request, next: Next) -> Response {
    let id = RequestId::new();
    request.extensions_mut().insert(id);
    let span = tracing::info_span!("request", request.id = %id);
    let mut response = tracing::Instrument::instrument(next.run(request), span).await;
    if let Some(draft) = response.extensions_mut().remove::<Draft>() {
        let Draft { status, code, title, detail, errors } = draft;
        let problem = Problem {
            r#type: format!("https://lockgate.dev/errors/{code}"),
            title,
            status: status.as_u16(),
            detail,
            code,
            request_id: id,
            errors,
        };
        let retry_after = response.headers_mut().remove(header::RETRY_AFTER);
        let body = serde_json::to_vec(&problem).expect("a problem is plain data");
        response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(value) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, value);
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
    let value = HeaderValue::try_from(id.to_string()).expect("ids are ASCII");
    response.headers_mut().insert(REQUEST_ID, value);
    response
}

/// No such path.
pub fn no_route(request: &Request) -> Error {
    Error::NotFound { noun: "path", key: request.uri().path().to_owned() }
}
