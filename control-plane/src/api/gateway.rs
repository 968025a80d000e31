//! Gateways and their tokens over REST.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::actor::Actor;
use super::answer;
use super::extract::{Body, IfMatch, Path, Query, Replacement};
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::error::Error;
use crate::model::gateway::{GatewaySpec, GatewayToken, GatewayTokenInput, MintedGatewayToken};
use crate::model::resource::{Draft, Gateway};
use crate::model::role::Permission;
use crate::store::gateway;

/// A gateway as it is written.
pub type GatewayInput = Draft<GatewaySpec>;

/// Gateways in order of their names.
#[utoipa::path(get, path = "/gateways", tag = "gateways", operation_id = "listGateways",
    params(PageQuery), responses((status = 200, body = List<Gateway>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<Gateway>>, Error> {
    actor.require(Permission::CatalogueRead)?;
    let page = query.page()?;
    let rows = gateway::list(&app.store, actor.organization_id, &page).await?;
    Ok(Json(List::page(rows, &page, |row| row.name.to_string())))
}

/// Make a gateway. Its nodes need a token. `upstreamNetworks` are for owners alone.
#[utoipa::path(post, path = "/gateways", tag = "gateways", operation_id = "createGateway",
    request_body = GatewayInput, responses((status = 201, body = Gateway)))]
pub async fn create(State(app): State<App>, actor: Actor, Body(input): Body<GatewayInput>) -> Result<Response, Error> {
    actor.require(Permission::GatewaysWrite)?;
    if !input.spec.upstream_networks.is_empty() {
        actor.require(Permission::GatewayNetworks)?;
    }
    let made = gateway::create(&app.store, &actor.author(), input).await?;
    let location = format!("/api/v1/gateways/{}", made.value.id);
    Ok(answer::written(made.value.revision, made.revision, Some(location), &made.value))
}

/// One gateway, by name or id.
#[utoipa::path(get, path = "/gateways/{gateway}", tag = "gateways", operation_id = "getGateway",
    params(("gateway" = String, Path, description = "Name or id.")), responses((status = 200, body = Gateway)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::CatalogueRead)?;
    let found = gateway::get(&app.store, actor.organization_id, &key).await?;
    Ok(answer::read(found.revision, &found))
}

/// Replace a gateway. In force at once. `upstreamNetworks` are for owners alone.
#[utoipa::path(put, path = "/gateways/{gateway}", tag = "gateways", operation_id = "replaceGateway",
    params(("gateway" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    request_body = GatewayInput, responses((status = 200, body = Gateway)))]
pub async fn replace(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
    Replacement { input, repeated }: Replacement<GatewayInput>,
) -> Result<Response, Error> {
    actor.require(Permission::GatewaysWrite)?;
    let made = gateway::replace(&app.store, &actor.author(), (&key, input), |current, wanted| {
        if_match.check(current.revision)?;
        repeated.check(current)?;
        if current.spec.upstream_networks != wanted.upstream_networks {
            actor.require(Permission::GatewayNetworks)?;
        }
        Ok(())
    })
    .await?;
    Ok(answer::written(made.value.revision, made.revision, None, &made.value))
}

/// Remove a gateway on which nothing is deployed.
#[utoipa::path(delete, path = "/gateways/{gateway}", tag = "gateways", operation_id = "removeGateway",
    params(("gateway" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
) -> Result<Response, Error> {
    actor.require(Permission::GatewaysWrite)?;
    let made = gateway::delete(&app.store, &actor.author(), &key, |revision| if_match.check(revision)).await?;
    Ok(answer::removed(made))
}

/// The active tokens of a gateway; never their text.
#[utoipa::path(get, path = "/gateways/{gateway}/tokens", tag = "gateways", operation_id = "listGatewayTokens",
    params(("gateway" = String, Path, description = "Name or id.")),
    responses((status = 200, body = List<GatewayToken>)))]
pub async fn list_tokens(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
) -> Result<Json<List<GatewayToken>>, Error> {
    actor.require(Permission::GatewayTokensRead)?;
    Ok(Json(List::all(gateway::list_tokens(&app.store, actor.organization_id, &key).await?)))
}

/// Make a token for a gateway's nodes, shown this once. At most two are active.
#[utoipa::path(post, path = "/gateways/{gateway}/tokens", tag = "gateways", operation_id = "createGatewayToken",
    params(("gateway" = String, Path, description = "Name or id.")),
    request_body = GatewayTokenInput, responses((status = 201, body = MintedGatewayToken)))]
pub async fn create_token(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    Body(input): Body<GatewayTokenInput>,
) -> Result<Response, Error> {
    actor.require(Permission::GatewayTokensWrite)?;
    let made = gateway::mint_token(&app.store, &actor.author(), &key, input, &app.ca_fingerprint).await?;
    let gateway::Minted { id, token, expires_at } = made.value;
    let location = format!("/api/v1/gateways/{key}/tokens/{id}");
    let headers = [
        (header::LOCATION, HeaderValue::try_from(location).unwrap_or(HeaderValue::from_static("/api/v1/gateways"))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (answer::REVISION, HeaderValue::from(made.revision)),
    ];
    let body = MintedGatewayToken { id, token: token.expose().to_owned(), expires_at };
    Ok((StatusCode::CREATED, headers, Json(body)).into_response())
}

/// Revoke a gateway token. Nodes connected with it lose their stream and go on serving what they have.
#[utoipa::path(delete, path = "/gateways/{gateway}/tokens/{token}", tag = "gateways",
    operation_id = "removeGatewayToken",
    params(("gateway" = String, Path, description = "Name or id."), ("token" = String, Path, description = "Id.")),
    responses((status = 204)))]
pub async fn remove_token(
    State(app): State<App>,
    actor: Actor,
    Path((key, token)): Path<(String, String)>,
) -> Result<Response, Error> {
    actor.require(Permission::GatewayTokensWrite)?;
    let made = gateway::revoke_token(&app.store, &actor.author(), &key, &token).await?;
    Ok(answer::removed(made))
}
