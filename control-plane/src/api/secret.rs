//! Secrets over REST: values go in, never out.

use axum::Json;
use axum::extract::State;
use axum::response::Response;

use super::actor::Actor;
use super::answer;
use super::extract::{Body, IfMatch, Path, Query, Replacement};
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::error::Error;
use crate::model::resource::{Draft, Secret};
use crate::model::role::Permission;
use crate::store::secret;

/// A secret as it is written.
pub type SecretInput = Draft<crate::model::secret::SecretInput>;

/// Secrets in order of their names.
#[utoipa::path(get, path = "/secrets", tag = "secrets", operation_id = "listSecrets",
    params(PageQuery), responses((status = 200, body = List<Secret>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<Secret>>, Error> {
    actor.require(Permission::SecretsRead)?;
    let page = query.page()?;
    let rows = secret::list(&app.store, actor.organization_id, &page).await?;
    Ok(Json(List::page(rows, &page, |row| row.name.to_string())))
}

/// Make a secret.
#[utoipa::path(post, path = "/secrets", tag = "secrets", operation_id = "createSecret",
    request_body = SecretInput, responses((status = 201, body = Secret)))]
pub async fn create(State(app): State<App>, actor: Actor, Body(input): Body<SecretInput>) -> Result<Response, Error> {
    actor.require(Permission::SecretsWrite)?;
    let made = secret::create(&app.store, &app.keyring, &actor.author(), input).await?;
    let location = format!("/api/v1/secrets/{}", made.value.id);
    Ok(answer::written(made.value.revision, made.revision, Some(location), &made.value))
}

/// One secret, by name or id; never its value.
#[utoipa::path(get, path = "/secrets/{secret}", tag = "secrets", operation_id = "getSecret",
    params(("secret" = String, Path, description = "Name or id.")), responses((status = 200, body = Secret)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(key): Path<String>) -> Result<Response, Error> {
    actor.require(Permission::SecretsRead)?;
    let found = secret::get(&app.store, actor.organization_id, &key).await?;
    Ok(answer::read(found.revision, &found))
}

/// Give a secret its next value. In force at once, everywhere.
#[utoipa::path(put, path = "/secrets/{secret}", tag = "secrets", operation_id = "replaceSecret",
    params(("secret" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    request_body = SecretInput, responses((status = 200, body = Secret)))]
pub async fn replace(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
    Replacement { input, repeated }: Replacement<SecretInput>,
) -> Result<Response, Error> {
    actor.require(Permission::SecretsWrite)?;
    let made = secret::replace(&app.store, &app.keyring, &actor.author(), (&key, input), |current| {
        if_match.check(current.revision)?;
        repeated.check(current)
    })
    .await?;
    Ok(answer::written(made.value.revision, made.revision, None, &made.value))
}

/// Remove a secret that nothing uses.
#[utoipa::path(delete, path = "/secrets/{secret}", tag = "secrets", operation_id = "removeSecret",
    params(("secret" = String, Path, description = "Name or id."),
        ("if-match" = String, Header, description = "The ETag it was read with, or `*`.")),
    responses((status = 204)))]
pub async fn remove(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    if_match: IfMatch,
) -> Result<Response, Error> {
    actor.require(Permission::SecretsWrite)?;
    let made = secret::delete(&app.store, &actor.author(), &key, |revision| if_match.check(revision)).await?;
    Ok(answer::removed(made))
}
