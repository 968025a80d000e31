//! The request log, newest first.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;

use super::actor::Actor;
use super::extract::{Path, Query};
use super::page::List;
use super::problem::Problem;
use super::router::App;
use super::usage::time_of;
use crate::model::error::Error;
use crate::model::id::{ApiKeyId, ProviderId, ProxyId, RequestId};
use crate::model::request::{RequestEntry, RequestTrace};
use crate::model::role::Permission;
use crate::model::usage::Outcome;
use crate::store::microseconds;
use crate::store::request::{self, Names, RequestFilter};

const DEFAULT_LIMIT: u32 = 50;
const MOST: u32 = 500;

/// Which requests.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RequestQuery {
    /// How many at most, 1 to 500; 50 when absent.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// `nextCursor` of the page before.
    cursor: Option<String>,
    /// Name or id of a provider or proxy.
    endpoint: Option<String>,
    /// Name or id of an API key.
    key: Option<String>,
    /// How they ended.
    outcome: Option<Outcome>,
    /// Name or id of the provider that answered, last.
    provider: Option<String>,
    /// As served, or else as asked for.
    model: Option<String>,
    /// Sent to the client.
    status: Option<u16>,
    /// Nano-dollars, or more.
    #[serde(rename = "minCostNanos")]
    min_cost_nanos: Option<i64>,
    /// Milliseconds, or longer.
    #[serde(rename = "minDurationMs")]
    min_duration_ms: Option<u32>,
    /// RFC 3339.
    from: Option<String>,
    /// RFC 3339, not included.
    to: Option<String>,
}

/// List recorded requests
#[utoipa::path(
    get, path = "/requests", tag = "usage", operation_id = "listRequests",
    params(RequestQuery),
    responses(
        (status = 200, body = List<RequestEntry>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<RequestQuery>,
) -> Result<Json<List<RequestEntry>>, Error> {
    actor.require(Permission::UsageRead)?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Error::Malformed(format!("limit must be between 1 and {MOST}")));
    }
    let before = query.cursor.filter(|cursor| !cursor.is_empty()).map(|cursor| {
        let id: Result<RequestId, _> = cursor.parse();
        id.map_err(|_| Error::Malformed("cursor is none that a list gave".to_owned()))
    });
    let mut transaction = app.store.read().await?;
    let names = Names::read(&mut transaction, actor.organization_id).await?;
    let endpoint = |key: String| {
        let id = key.parse::<ProviderId>().map(|id| id.0).or_else(|_| key.parse::<ProxyId>().map(|id| id.0)).ok();
        id.or_else(|| names.endpoint_id(&key)).ok_or(Error::NotFound { noun: "endpoint", key })
    };
    let provider = query.provider.map(endpoint).transpose()?;
    let time = |name: &str, text: Option<String>| text.map(|text| time_of(name, &text).map(microseconds)).transpose();
    let key = query.key.map(|key| {
        let id = key.parse::<ApiKeyId>().map(|id| id.0).ok();
        id.or_else(|| names.key_id(&key)).ok_or(Error::NotFound { noun: "api key", key })
    });
    let filter = RequestFilter {
        before: before.transpose()?.map(|id| id.0),
        endpoint_id: query.endpoint.map(endpoint).transpose()?,
        api_key_id: key.transpose()?,
        outcome: query.outcome,
        provider_id: provider,
        model: query.model.filter(|model| !model.contains('\0')),
        status: query.status.map(i64::from),
        min_cost_nanos: query.min_cost_nanos,
        min_duration_us: query.min_duration_ms.map(|ms| i64::from(ms) * 1_000),
        from_us: time("from", query.from)?,
        to_us: time("to", query.to)?,
    };
    let mut data = request::list(&mut transaction, actor.organization_id, &filter, i64::from(limit) + 1).await?;
    let more = data.len() > limit as usize;
    data.truncate(limit as usize);
    let next_cursor = data.last().filter(|_| more).map(|entry| entry.id.to_string());
    Ok(Json(List { data, next_cursor }))
}

/// Read one recorded request, and why it ended as it did
#[utoipa::path(
    get, path = "/requests/{id}", tag = "usage", operation_id = "getRequest",
    params(("id" = String, Path, description = "As the answer's `x-lockgate-request-id` told it: `req_...`")),
    responses(
        (status = 200, body = RequestTrace),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Json<RequestTrace>, Error> {
    actor.require(Permission::UsageRead)?;
    let Ok(id) = key.parse::<RequestId>() else { return Err(Error::NotFound { noun: "request", key }) };
    let mut transaction = app.store.read().await?;
    let trace = request::get(&mut transaction, actor.organization_id, id.0).await?;
    trace.map(Json).ok_or(Error::NotFound { noun: "request", key })
}
