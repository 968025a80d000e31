//! API keys as rows: digests of at most two live secrets, and what they open.

use std::collections::BTreeMap;

use proto::token::{TokenKind, digest, parse};
use serde_json::json;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::Entry;
use super::change::{Author, Change, Kind};
use super::engine::{Transaction, execute, run};
use super::{Store, Written, endpoint, now};
use crate::model::api_key::{ApiKeyInput, ApiKeySpec, ApiKeyStatus, ENDPOINTS, RotateInput, Scope};
use crate::model::error::{Conflict, Error, Violation};
use crate::model::id::ApiKeyId;
use crate::model::limit::Limit;
use crate::model::name::{Key, Name};
use crate::model::page::Page;
use crate::model::resource::{Draft, Resource};
use crate::random;
use crate::sensitive::Sensitive;

/// A key as it is read.
pub type View = Resource<ApiKeySpec>;

/// A key and, this once, its text.
#[derive(Debug)]
pub struct Minted {
    /// As it is read from now on.
    pub key: View,
    /// The text.
    pub text: Sensitive,
}

#[derive(Clone, Debug, sqlx::FromRow)]
struct Row {
    id: Uuid,
    name: String,
    public_id: String,
    last4: String,
    expires_at: Option<OffsetDateTime>,
    disabled: bool,
    revoked_at: Option<OffsetDateTime>,
    last_used_at: Option<OffsetDateTime>,
    scope: Json<Scope>,
    limits: Json<Vec<Limit>>,
    revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

/// One key.
pub async fn get(store: &Store, organization_id: Uuid, key: &str) -> Result<View, Error> {
    let mut transaction = store.read().await?;
    let row = require(&mut transaction, organization_id, key).await?;
    view(&mut transaction, row).await
}

/// In order of names.
pub async fn list(store: &Store, organization_id: Uuid, page: &Page) -> Result<Vec<View>, Error> {
    let mut transaction = store.read().await?;
    let rows: Vec<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, public_id, last4, expires_at, disabled, revoked_at, last_used_at, scope, limits, revision, \
             created_at, updated_at FROM api_key \
             WHERE organization_id = $1 AND ($2 IS NULL OR name > $2) AND name LIKE $3 ESCAPE '!' \
             ORDER BY name LIMIT $4",
        )
        .bind(organization_id).bind(&page.after).bind(page.pattern()).bind(page.rows())
        .fetch_all(connection).await)?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view(&mut transaction, row).await?);
    }
    Ok(views)
}

/// A new key.
pub async fn create(store: &Store, author: &Author, draft: Draft<ApiKeyInput>) -> Result<Written<Minted>, Error> {
    let mut change = Change::begin(store, author).await?;
    let Draft { name, spec } = draft;
    let expires_at = spec.expiry(change.at())?;
    let scope = spec.scope().map_err(Error::Invalid)?;
    spec.check_limits()?;
    spec.check_labels()?;
    check_name(&mut change, None, &name).await?;
    let opened = resolve(&mut change, &spec.endpoints).await?;
    let text = random::token(TokenKind::ApiKey, None);
    let id = ApiKeyId::new().0;
    let (organization_id, revision, at) = (change.organization_id(), change.revision(), change.at());
    execute!(
        change,
        sqlx::query(
            "INSERT INTO api_key (id, organization_id, name, public_id, last4, expires_at, disabled, scope, revision, \
             created_at, updated_at, limits) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)",
        )
        .bind(id)
        .bind(organization_id)
        .bind(name.as_str())
        .bind(public_id(&text))
        .bind(text.last4())
        .bind(expires_at)
        .bind(false)
        .bind(Json(&scope))
        .bind(revision)
        .bind(at)
        .bind(Json(&spec.limits))
    )?;
    add_secret(&mut change, id, &text).await?;
    link(&mut change, id, &opened).await?;
    say(&mut change, id, &spec.labels).await?;
    change.put(Kind::ApiKey, id);
    let changes = json!({
        "name": name,
        "endpoints": spec.endpoints,
        "scope": scope,
        "limits": spec.limits,
        "labels": spec.labels,
        "expiresAt": expires_at.map(OffsetDateTime::unix_timestamp),
        "digest": hex(&digest(text.expose())),
    });
    let written = finish(change, id, "api-key.create", changes).await?;
    Ok(Written { value: Minted { key: written.value, text }, revision: written.revision })
}

/// Another name, other endpoints, labels, limits, another expiry.
pub async fn replace(
    store: &Store,
    author: &Author,
    (key, draft): (&str, Draft<ApiKeyInput>),
    check_base: impl FnOnce(&View) -> Result<(), Error>,
) -> Result<Written<View>, Error> {
    let mut change = Change::begin(store, author).await?;
    let before = require(change.transaction(), author.organization_id, key).await?;
    check_base(&view(change.transaction(), before.clone()).await?)?;
    refuse_revoked(&before)?;
    let Draft { name, spec } = draft;
    let expires_at = spec.expiry(change.at())?;
    let scope = spec.scope().map_err(Error::Invalid)?;
    spec.check_limits()?;
    spec.check_labels()?;
    check_name(&mut change, Some(before.id), &name).await?;
    let opened = resolve(&mut change, &spec.endpoints).await?;
    execute!(
        change,
        sqlx::query("UPDATE api_key SET name = $2, expires_at = $3, scope = $4, limits = $5 WHERE id = $1")
            .bind(before.id)
            .bind(name.as_str())
            .bind(expires_at)
            .bind(Json(&scope))
            .bind(Json(&spec.limits))
    )?;
    execute!(change, sqlx::query("DELETE FROM api_key_endpoint WHERE api_key_id = $1").bind(before.id))?;
    link(&mut change, before.id, &opened).await?;
    let said = labels(change.transaction(), before.id).await?;
    execute!(change, sqlx::query("DELETE FROM api_key_label WHERE api_key_id = $1").bind(before.id))?;
    say(&mut change, before.id, &spec.labels).await?;
    // It may open less than before.
    change.put_urgent(Kind::ApiKey, before.id);
    stamp(&mut change, before.id).await?;
    let second = |at: Option<OffsetDateTime>| at.map(OffsetDateTime::unix_timestamp);
    let changes = json!({
        "name": { "from": before.name, "to": name },
        "endpoints": spec.endpoints,
        "scope": { "from": before.scope.0, "to": scope },
        "limits": { "from": before.limits.0, "to": spec.limits },
        "labels": { "from": said, "to": spec.labels },
        "expiresAt": { "from": second(before.expires_at), "to": second(expires_at) },
    });
    finish(change, before.id, "api-key.replace", changes).await
}

/// A new secret; the one so far ends now or after its grace, and one that is older still ends now.
pub async fn rotate(store: &Store, author: &Author, key: &str, input: RotateInput) -> Result<Written<Minted>, Error> {
    let grace = input.grace()?;
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, key).await?;
    refuse_revoked(&row)?;
    let text = random::token(TokenKind::ApiKey, None);
    let at = change.at();
    execute!(
        change,
        sqlx::query("DELETE FROM api_key_secret WHERE api_key_id = $1 AND expires_at IS NOT NULL").bind(row.id)
    )?;
    if grace.as_millis() == 0 {
        execute!(change, sqlx::query("DELETE FROM api_key_secret WHERE api_key_id = $1").bind(row.id))?;
    } else {
        execute!(
            change,
            sqlx::query("UPDATE api_key_secret SET expires_at = $2 WHERE api_key_id = $1")
                .bind(row.id)
                .bind(at + grace.as_time())
        )?;
    }
    add_secret(&mut change, row.id, &text).await?;
    execute!(
        change,
        sqlx::query("UPDATE api_key SET public_id = $2, last4 = $3 WHERE id = $1")
            .bind(row.id)
            .bind(public_id(&text))
            .bind(text.last4())
    )?;
    change.put_urgent(Kind::ApiKey, row.id);
    stamp(&mut change, row.id).await?;
    let changes = json!({ "grace": grace, "digest": hex(&digest(text.expose())) });
    let written = finish(change, row.id, "api-key.rotate", changes).await?;
    Ok(Written { value: Minted { key: written.value, text }, revision: written.revision })
}

/// Ends a key for good. Once revoked, revoking again changes nothing.
pub async fn revoke(store: &Store, author: &Author, key: &str) -> Result<Written<View>, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, key).await?;
    let at = change.at();
    execute!(
        change,
        sqlx::query("UPDATE api_key SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL").bind(row.id).bind(at)
    )?;
    change.remove(Kind::ApiKey, row.id);
    stamp(&mut change, row.id).await?;
    finish(change, row.id, "api-key.revoke", json!({ "name": row.name })).await
}

/// Switches a key off or on.
pub async fn disable(store: &Store, author: &Author, key: &str, disabled: bool) -> Result<Written<View>, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, key).await?;
    refuse_revoked(&row)?;
    execute!(change, sqlx::query("UPDATE api_key SET disabled = $2 WHERE id = $1").bind(row.id).bind(disabled))?;
    if disabled {
        change.put_urgent(Kind::ApiKey, row.id);
    } else {
        change.put(Kind::ApiKey, row.id);
    }
    stamp(&mut change, row.id).await?;
    finish(change, row.id, "api-key.disable", json!({ "disabled": { "from": row.disabled, "to": disabled } })).await
}

/// Removes a key; usage keeps its id.
pub async fn delete(
    store: &Store,
    author: &Author,
    key: &str,
    check_base: impl FnOnce(i64) -> Result<(), Error>,
) -> Result<i64, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, key).await?;
    check_base(row.revision)?;
    execute!(change, sqlx::query("DELETE FROM api_key WHERE id = $1").bind(row.id))?;
    change.remove(Kind::ApiKey, row.id);
    let entry = Entry::done("api-key.remove", "api-key", row.id, json!({ "name": row.name }));
    Ok(change.commit(entry).await?.revision)
}

async fn require(transaction: &mut Transaction, organization_id: Uuid, key: &str) -> Result<Row, Error> {
    find(transaction, organization_id, key)
        .await?
        .ok_or_else(|| Error::NotFound { noun: "api key", key: key.to_owned() })
}

async fn find(transaction: &mut Transaction, organization_id: Uuid, key: &str) -> Result<Option<Row>, Error> {
    let key = Key::read(key, &[ApiKeyId::PREFIX]);
    let (id, name) = key.parts();
    Ok(run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, public_id, last4, expires_at, disabled, revoked_at, last_used_at, scope, limits, revision, \
             created_at, updated_at FROM api_key WHERE organization_id = $1 AND (id = $2 OR name = $3)",
        )
        .bind(organization_id).bind(id).bind(name).fetch_optional(connection).await)?)
}

async fn view(transaction: &mut Transaction, row: Row) -> Result<View, Error> {
    let endpoints: Vec<String> = run!(transaction, connection => sqlx::query_scalar(
            "SELECT endpoint.name FROM api_key_endpoint JOIN endpoint ON endpoint.id = api_key_endpoint.endpoint_id \
             WHERE api_key_id = $1 ORDER BY endpoint.name",
        )
        .bind(row.id).fetch_all(connection).await)?;
    let graces: Vec<Option<OffsetDateTime>> = run!(transaction, connection => sqlx::query_scalar(
            "SELECT expires_at FROM api_key_secret WHERE api_key_id = $1",
        )
        .bind(row.id).fetch_all(connection).await)?;
    let now = now();
    let status = ApiKeyStatus::at(now, row.revoked_at.is_some(), row.disabled, row.expires_at);
    let spec = ApiKeySpec {
        display: format!("{}{}_...{}", TokenKind::ApiKey.prefix(), row.public_id, row.last4),
        endpoints,
        models: row.scope.0.models,
        addresses: row.scope.0.addresses,
        limits: row.limits.0,
        labels: labels(transaction, row.id).await?,
        status,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        previous_expires_at: graces.into_iter().flatten().find(|at| *at > now && status != ApiKeyStatus::Revoked),
    };
    Ok(Resource {
        id: ApiKeyId(row.id).to_string(),
        name: Name::stored(row.name),
        revision: row.revision,
        created_at: row.created_at,
        updated_at: row.updated_at,
        spec,
    })
}

async fn resolve(change: &mut Change<'_>, endpoints: &[String]) -> Result<Vec<Uuid>, Error> {
    if endpoints.is_empty() || endpoints.len() > ENDPOINTS {
        return Err(Violation::invalid("/endpoints", format!("must name 1 to {ENDPOINTS} endpoints")).into());
    }
    let organization_id = change.organization_id();
    let names: Vec<String> = run!(change, connection =>
        sqlx::query_scalar("SELECT name FROM endpoint WHERE organization_id = $1 ORDER BY name")
            .bind(organization_id).fetch_all(connection).await)?;
    let mut ids = Vec::with_capacity(endpoints.len());
    let mut violations = Vec::new();
    for (index, key) in endpoints.iter().enumerate() {
        match endpoint::find(change.transaction(), organization_id, None, key).await? {
            Some(row) if !ids.contains(&row.id) => ids.push(row.id),
            Some(_) => {}
            None => violations.push(
                Violation::new(format!("/endpoints/{index}"), "not_found", format!("there is no endpoint `{key}`"))
                    .suggest(key, names.iter().map(String::as_str)),
            ),
        }
    }
    if violations.is_empty() { Ok(ids) } else { Err(Error::Invalid(violations)) }
}

async fn link(change: &mut Change<'_>, id: Uuid, endpoints: &[Uuid]) -> Result<(), Error> {
    let organization_id = change.organization_id();
    for endpoint_id in endpoints {
        execute!(
            change,
            sqlx::query("INSERT INTO api_key_endpoint (organization_id, api_key_id, endpoint_id) VALUES ($1, $2, $3)")
                .bind(organization_id)
                .bind(id)
                .bind(endpoint_id)
        )?;
    }
    Ok(())
}

/// What is said of a key.
async fn labels(transaction: &mut Transaction, id: Uuid) -> Result<BTreeMap<String, String>, Error> {
    let rows: Vec<(String, String)> = run!(transaction, connection =>
        sqlx::query_as("SELECT name, value FROM api_key_label WHERE api_key_id = $1")
            .bind(id).fetch_all(connection).await)?;
    Ok(rows.into_iter().collect())
}

async fn say(change: &mut Change<'_>, id: Uuid, labels: &BTreeMap<String, String>) -> Result<(), Error> {
    let organization_id = change.organization_id();
    for (name, value) in labels {
        execute!(
            change,
            sqlx::query(
                "INSERT INTO api_key_label (organization_id, api_key_id, name, value) VALUES ($1, $2, $3, $4)",
            )
            .bind(organization_id)
            .bind(id)
            .bind(name)
            .bind(value)
        )?;
    }
    Ok(())
}

async fn add_secret(change: &mut Change<'_>, id: Uuid, text: &Sensitive) -> Result<(), Error> {
    let (organization_id, at) = (change.organization_id(), change.at());
    execute!(
        change,
        sqlx::query(
            "INSERT INTO api_key_secret (id, organization_id, api_key_id, digest, created_at) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(Uuid::now_v7())
        .bind(organization_id)
        .bind(id)
        .bind(digest(text.expose()).to_vec())
        .bind(at)
    )?;
    Ok(())
}

async fn stamp(change: &mut Change<'_>, id: Uuid) -> Result<(), Error> {
    let (revision, at) = (change.revision(), change.at());
    execute!(
        change,
        sqlx::query("UPDATE api_key SET revision = $2, updated_at = $3 WHERE id = $1").bind(id).bind(revision).bind(at)
    )?;
    Ok(())
}

async fn check_name(change: &mut Change<'_>, own: Option<Uuid>, name: &Name) -> Result<(), Error> {
    let organization_id = change.organization_id();
    match find(change.transaction(), organization_id, name.as_str()).await? {
        Some(other) if Some(other.id) != own => {
            Err(Error::Conflict(Conflict::NameTaken, format!("the api key `{name}` has this name")))
        }
        Some(_) | None => Ok(()),
    }
}

fn refuse_revoked(row: &Row) -> Result<(), Error> {
    if row.revoked_at.is_some() {
        return Err(Error::Conflict(Conflict::Conflict, format!("the api key `{}` is revoked for good", row.name)));
    }
    Ok(())
}

fn public_id(text: &Sensitive) -> &str {
    parse(TokenKind::ApiKey, text.expose()).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(64), |text, byte| text + &format!("{byte:02x}"))
}

async fn finish(
    mut change: Change<'_>,
    id: Uuid,
    action: &'static str,
    changes: serde_json::Value,
) -> Result<Written<View>, Error> {
    let organization_id = change.organization_id();
    let row = require(change.transaction(), organization_id, &ApiKeyId(id).to_string()).await?;
    let value = view(change.transaction(), row).await?;
    let committed = change.commit(Entry::done(action, "api-key", id, changes)).await?;
    Ok(Written { value, revision: committed.revision })
}
