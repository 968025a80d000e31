//! Prices over REST: what is shipped, and what the organization sets over it.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::actor::Actor;
use super::answer;
use super::extract::{IfMatch, Path, Replacement};
use super::page::List;
use super::router::App;
use crate::model::error::Error;
use crate::model::price::{PriceList, PriceListInput, PriceScope};
use crate::model::role::Permission;
use crate::store::price;

/// Every template's prices, then those of providers with prices of their own.
#[utoipa::path(get, path = "/prices", tag = "prices", operation_id = "listPrices",
    responses((status = 200, body = List<PriceList>)))]
pub async fn list(State(app): State<App>, actor: Actor) -> Result<Json<List<PriceList>>, Error> {
    actor.require(Permission::CatalogueRead)?;
    Ok(Json(List::all(price::list(&app.store, actor.organization_id, &app.templates).await?)))
}

/// The prices of one template.
#[utoipa::path(get, path = "/prices/templates/{template}", tag = "prices", operation_id = "getTemplatePrices",
    params(("template" = String, Path, description = "Name or id.")), responses((status = 200, body = PriceList)))]
pub async fn get_template(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    get(&app, &actor, (PriceScope::Template, &key)).await
}

/// Set the organization's prices for a template. In force at once, for requests that end from then on.
#[utoipa::path(put, path = "/prices/templates/{template}", tag = "prices", operation_id = "replaceTemplatePrices",
    params(("template" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    request_body = PriceListInput, responses((status = 200, body = PriceList)))]
pub async fn replace_template(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
    Replacement { input, repeated }: Replacement<PriceListInput>,
) -> Result<Response, Error> {
    let check = |current: &PriceList| if_match.check(current.revision).and_then(|()| repeated.check(current));
    set(&app, &actor, ((PriceScope::Template, &key), Some(input)), check).await
}

/// Go back to the shipped prices of a template.
#[utoipa::path(delete, path = "/prices/templates/{template}", tag = "prices", operation_id = "removeTemplatePrices",
    params(("template" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    responses((status = 200, body = PriceList)))]
pub async fn remove_template(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
) -> Result<Response, Error> {
    set(&app, &actor, ((PriceScope::Template, &key), None), |current| if_match.check(current.revision)).await
}

/// The prices that one provider has of its own; its template's hold for everything else.
#[utoipa::path(get, path = "/prices/llm-providers/{provider}", tag = "prices", operation_id = "getProviderPrices",
    params(("provider" = String, Path, description = "Name or id.")), responses((status = 200, body = PriceList)))]
pub async fn get_provider(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    get(&app, &actor, (PriceScope::Provider, &key)).await
}

/// Set a provider's own prices. In force at once, for requests that end from then on.
#[utoipa::path(put, path = "/prices/llm-providers/{provider}", tag = "prices", operation_id = "replaceProviderPrices",
    params(("provider" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    request_body = PriceListInput, responses((status = 200, body = PriceList)))]
pub async fn replace_provider(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
    Replacement { input, repeated }: Replacement<PriceListInput>,
) -> Result<Response, Error> {
    let check = |current: &PriceList| if_match.check(current.revision).and_then(|()| repeated.check(current));
    set(&app, &actor, ((PriceScope::Provider, &key), Some(input)), check).await
}

/// Go back to the template's prices.
#[utoipa::path(delete, path = "/prices/llm-providers/{provider}", tag = "prices",
    operation_id = "removeProviderPrices",
    params(("provider" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    responses((status = 200, body = PriceList)))]
pub async fn remove_provider(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
) -> Result<Response, Error> {
    set(&app, &actor, ((PriceScope::Provider, &key), None), |current| if_match.check(current.revision)).await
}

async fn get(app: &App, actor: &Actor, key: (PriceScope, &str)) -> Result<Response, Error> {
    actor.require(Permission::CatalogueRead)?;
    let found = price::get(&app.store, actor.organization_id, &app.templates, key).await?;
    Ok(answer::read(found.revision, &found))
}

async fn set(
    app: &App,
    actor: &Actor,
    wanted: ((PriceScope, &str), Option<PriceListInput>),
    check: impl FnOnce(&PriceList) -> Result<(), Error>,
) -> Result<Response, Error> {
    actor.require(Permission::EndpointsWrite)?;
    let made = price::replace(&app.store, &actor.author(), &app.templates, wanted, check).await?;
    Ok(answer::written(made.value.revision, made.revision, None, &made.value))
}
