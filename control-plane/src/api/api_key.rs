//! API keys over REST.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::actor::Actor;
use super::answer;
use super::extract::{Body, IfMatch, Path, Query, Replacement};
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::api_key::{DisableInput, RotateInput};
use crate::model::error::Error;
use crate::model::resource::{ApiKey, Draft, MintedApiKey};
use crate::model::role::Permission;
use crate::store::api_key::{self, Minted};

/// A key as it is written.
pub type ApiKeyInput = Draft<crate::model::api_key::ApiKeyInput>;

fn once(minted: Minted) -> MintedApiKey {
    let Minted { key, text } = minted;
    MintedApiKey { resource: key, key: text.expose().to_owned() }
}

/// API keys in order of their names; never the keys.
#[utoipa::path(get, path = "/api-keys", tag = "api-keys", operation_id = "listApiKeys",
    params(PageQuery), responses((status = 200, body = List<ApiKey>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<ApiKey>>, Error> {
    actor.require(Permission::KeysRead)?;
    let page = query.page()?;
    let rows = api_key::list(&app.store, actor.organization_id, &page).await?;
    Ok(Json(List::page(rows, &page, |row| row.name.to_string())))
}

/// Make an API key, shown this once. In force at once.
#[utoipa::path(post, path = "/api-keys", tag = "api-keys", operation_id = "createApiKey",
    request_body = ApiKeyInput, responses((status = 201, body = MintedApiKey)))]
pub async fn create(State(app): State<App>, actor: Actor, Body(input): Body<ApiKeyInput>) -> Result<Response, Error> {
    actor.require(Permission::KeysWrite)?;
    let made = api_key::create(&app.store, &actor.author(), input).await?;
    let body = once(made.value);
    let location = format!("/api/v1/api-keys/{}", body.resource.id);
    Ok(answer::written(body.resource.revision, made.revision, Some(location), &body))
}

/// One API key, by name or id; never the key.
#[utoipa::path(get, path = "/api-keys/{apiKey}", tag = "api-keys", operation_id = "getApiKey",
    params(("apiKey" = String, Path, description = "Name or id.")), responses((status = 200, body = ApiKey)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::KeysRead)?;
    let found = api_key::get(&app.store, actor.organization_id, &key).await?;
    Ok(answer::read(found.revision, &found))
}

/// Replace an API key's name, endpoints and expiry. In force at once.
#[utoipa::path(put, path = "/api-keys/{apiKey}", tag = "api-keys", operation_id = "replaceApiKey",
    params(("apiKey" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    request_body = ApiKeyInput, responses((status = 200, body = ApiKey)))]
pub async fn replace(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
    Replacement { input, repeated }: Replacement<ApiKeyInput>,
) -> Result<Response, Error> {
    actor.require(Permission::KeysWrite)?;
    let made = api_key::replace(&app.store, &actor.author(), (&key, input), |current| {
        if_match.check(current.revision)?;
        repeated.check(current)
    })
    .await?;
    Ok(answer::written(made.value.revision, made.revision, None, &made.value))
}

/// Remove an API key.
#[utoipa::path(delete, path = "/api-keys/{apiKey}", tag = "api-keys", operation_id = "removeApiKey",
    params(("apiKey" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
) -> Result<Response, Error> {
    actor.require(Permission::KeysWrite)?;
    let made = api_key::delete(&app.store, &actor.author(), &key, |revision| if_match.check(revision)).await?;
    Ok(answer::removed(made))
}

/// Give an API key a new secret, shown this once; the one so far ends after its grace.
#[utoipa::path(post, path = "/api-keys/{apiKey}/rotate", tag = "api-keys", operation_id = "rotateApiKey",
    params(("apiKey" = String, Path, description = "Name or id.")),
    request_body = RotateInput, responses((status = 200, body = MintedApiKey)))]
pub async fn rotate(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    Body(input): Body<RotateInput>,
) -> Result<Response, Error> {
    actor.require(Permission::KeysWrite)?;
    let made = api_key::rotate(&app.store, &actor.author(), &key, input).await?;
    let body = once(made.value);
    Ok(answer::written(body.resource.revision, made.revision, None, &body))
}

/// Revoke an API key for good.
#[utoipa::path(post, path = "/api-keys/{apiKey}/revoke", tag = "api-keys", operation_id = "revokeApiKey",
    params(("apiKey" = String, Path, description = "Name or id.")), responses((status = 200, body = ApiKey)))]
pub async fn revoke(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::KeysWrite)?;
    let made = api_key::revoke(&app.store, &actor.author(), &key).await?;
    Ok(answer::written(made.value.revision, made.revision, None, &made.value))
}

/// Switch an API key off or on.
#[utoipa::path(post, path = "/api-keys/{apiKey}/disable", tag = "api-keys", operation_id = "disableApiKey",
    params(("apiKey" = String, Path, description = "Name or id.")),
    request_body = DisableInput, responses((status = 200, body = ApiKey)))]
pub async fn disable(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    Body(input): Body<DisableInput>,
) -> Result<Response, Error> {
    actor.require(Permission::KeysWrite)?;
    let made = api_key::disable(&app.store, &actor.author(), &key, input.disabled).await?;
    Ok(answer::written(made.value.revision, made.revision, None, &made.value))
}
