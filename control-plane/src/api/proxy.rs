//! LLM proxies over REST.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::actor::Actor;
use super::answer;
use super::extract::{Body, IfMatch, Path, Query, Replacement};
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::endpoint::LlmProxy;
use crate::model::error::Error;
use crate::model::proxy::ProxySpec;
use crate::model::resource::Draft;
use crate::model::role::Permission;
use crate::store::proxy;

/// A proxy as it is written.
pub type LlmProxyInput = Draft<ProxySpec>;

/// Proxies in order of their names.
#[utoipa::path(get, path = "/llm-proxies", tag = "llm-proxies", operation_id = "listLlmProxies",
    params(PageQuery), responses((status = 200, body = List<LlmProxy>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<LlmProxy>>, Error> {
    actor.require(Permission::CatalogueRead)?;
    let page = query.page()?;
    let rows = proxy::list(&app.store, actor.organization_id, &page).await?;
    Ok(Json(List::page(rows, &page, |row| row.resource.name.to_string())))
}

/// Make a proxy. It serves nothing until it is deployed.
#[utoipa::path(post, path = "/llm-proxies", tag = "llm-proxies", operation_id = "createLlmProxy",
    request_body = LlmProxyInput, responses((status = 201, body = LlmProxy)))]
pub async fn create(State(app): State<App>, actor: Actor, Body(input): Body<LlmProxyInput>) -> Result<Response, Error> {
    actor.require(Permission::EndpointsWrite)?;
    let made = proxy::create(&app.store, &app.templates, &actor.author(), input).await?;
    let resource = &made.value.resource;
    let location = format!("/api/v1/llm-proxies/{}", resource.id);
    Ok(answer::written(resource.revision, made.revision, Some(location), &made.value))
}

/// One proxy, by name or id.
#[utoipa::path(get, path = "/llm-proxies/{proxy}", tag = "llm-proxies", operation_id = "getLlmProxy",
    params(("proxy" = String, Path, description = "Name or id.")), responses((status = 200, body = LlmProxy)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::CatalogueRead)?;
    let found = proxy::get(&app.store, actor.organization_id, &key).await?;
    Ok(answer::read(found.resource.revision, &found))
}

/// Replace a proxy's draft. What is deployed goes on as it was, but for `disabled`, which is read live.
#[utoipa::path(put, path = "/llm-proxies/{proxy}", tag = "llm-proxies", operation_id = "replaceLlmProxy",
    params(("proxy" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    request_body = LlmProxyInput, responses((status = 200, body = LlmProxy)))]
pub async fn replace(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
    Replacement { input, repeated }: Replacement<LlmProxyInput>,
) -> Result<Response, Error> {
    actor.require(Permission::EndpointsWrite)?;
    let made = proxy::replace(&app.store, &app.templates, &actor.author(), (&key, input), |current| {
        if_match.check(current.resource.revision)?;
        repeated.check(current)
    })
    .await?;
    Ok(answer::written(made.value.resource.revision, made.revision, None, &made.value))
}

/// Remove a proxy that is deployed nowhere.
#[utoipa::path(delete, path = "/llm-proxies/{proxy}", tag = "llm-proxies", operation_id = "removeLlmProxy",
    params(("proxy" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
) -> Result<Response, Error> {
    actor.require(Permission::EndpointsWrite)?;
    let made = proxy::delete(&app.store, &actor.author(), &key, |revision| if_match.check(revision)).await?;
    Ok(answer::removed(made))
}
