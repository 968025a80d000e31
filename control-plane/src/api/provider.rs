//! LLM providers over REST.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::actor::Actor;
use super::answer;
use super::extract::{Body, IfMatch, Path, Query, Replacement};
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::endpoint::LlmProvider;
use crate::model::error::Error;
use crate::model::provider::ProviderInput;
use crate::model::resource::Draft;
use crate::model::role::Permission;
use crate::store::change::Author;
use crate::store::provider;

/// A provider as it is written.
pub type LlmProviderInput = Draft<ProviderInput>;

fn context<'a>(app: &'a App, author: &'a Author) -> provider::Context<'a> {
    provider::Context { store: &app.store, templates: &app.templates, keyring: &app.keyring, author }
}

/// Providers in order of their names.
#[utoipa::path(get, path = "/llm-providers", tag = "llm-providers", operation_id = "listLlmProviders",
    params(PageQuery), responses((status = 200, body = List<LlmProvider>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<LlmProvider>>, Error> {
    actor.require(Permission::CatalogueRead)?;
    let page = query.page()?;
    let rows = provider::list(&app.store, actor.organization_id, &page).await?;
    Ok(Json(List::page(rows, &page, |row| row.resource.name.to_string())))
}

/// Make a provider. It serves nothing until it is deployed.
#[utoipa::path(post, path = "/llm-providers", tag = "llm-providers", operation_id = "createLlmProvider",
    request_body = LlmProviderInput, responses((status = 201, body = LlmProvider)))]
pub async fn create(
    State(app): State<App>,
    actor: Actor,
    Body(input): Body<LlmProviderInput>,
) -> Result<Response, Error> {
    actor.require(Permission::EndpointsWrite)?;
    let author = actor.author();
    let made = provider::create(context(&app, &author), input).await?;
    let resource = &made.value.resource;
    let location = format!("/api/v1/llm-providers/{}", resource.id);
    Ok(answer::written(resource.revision, made.revision, Some(location), &made.value))
}

/// One provider, by name or id.
#[utoipa::path(get, path = "/llm-providers/{provider}", tag = "llm-providers", operation_id = "getLlmProvider",
    params(("provider" = String, Path, description = "Name or id.")), responses((status = 200, body = LlmProvider)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::CatalogueRead)?;
    let found = provider::get(&app.store, actor.organization_id, &key).await?;
    Ok(answer::read(found.resource.revision, &found))
}

/// Replace a provider's draft. What is deployed goes on as it was, but for `disabled`, which is read live.
#[utoipa::path(put, path = "/llm-providers/{provider}", tag = "llm-providers", operation_id = "replaceLlmProvider",
    params(("provider" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    request_body = LlmProviderInput, responses((status = 200, body = LlmProvider)))]
pub async fn replace(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
    Replacement { input, repeated }: Replacement<LlmProviderInput>,
) -> Result<Response, Error> {
    actor.require(Permission::EndpointsWrite)?;
    let author = actor.author();
    let made = provider::replace(context(&app, &author), &key, input, |current| {
        if_match.check(current.resource.revision)?;
        repeated.check(current)
    })
    .await?;
    Ok(answer::written(made.value.resource.revision, made.revision, None, &made.value))
}

/// Remove a provider that is deployed nowhere and that no proxy stands on.
#[utoipa::path(delete, path = "/llm-providers/{provider}", tag = "llm-providers", operation_id = "removeLlmProvider",
    params(("provider" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
) -> Result<Response, Error> {
    actor.require(Permission::EndpointsWrite)?;
    let made = provider::delete(&app.store, &actor.author(), &key, |revision| if_match.check(revision)).await?;
    Ok(answer::removed(made))
}
