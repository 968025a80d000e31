//! Gateways and the tokens their nodes connect with.

use ipnet::IpNet;
use proto::token::{TokenKind, digest, parse};
use serde_json::json;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{Entry, difference};
use super::change::{Author, Change, Kind};
use super::engine::{Transaction, execute, run};
use super::{Store, Written, now};
use crate::model::error::{Conflict, Error, Violation};
use crate::model::gateway::{GatewaySpec, GatewayToken, GatewayTokenInput};
use crate::model::id::{GatewayId, GatewayTokenId};
use crate::model::name::{Key, Name};
use crate::model::page::Page;
use crate::model::resource::{Draft, Resource};
use crate::random;
use crate::sensitive::Sensitive;

/// Two, so that one can be replaced by the other.
const ACTIVE_TOKENS: usize = 2;

/// One row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Row {
    /// Of the gateway.
    pub id: Uuid,
    /// Unique in the organization.
    pub name: String,
    /// What its author said.
    pub spec: Json<GatewaySpec>,
    /// That last changed it.
    pub revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl Row {
    fn resource(self) -> Resource<GatewaySpec> {
        let Self { id, name, spec: Json(spec), revision, created_at, updated_at } = self;
        Resource { id: GatewayId(id).to_string(), name: Name::stored(name), revision, created_at, updated_at, spec }
    }
}

/// By id or name, or `not found`.
pub async fn require(transaction: &mut Transaction, organization_id: Uuid, key: &str) -> Result<Row, Error> {
    find(transaction, organization_id, key)
        .await?
        .ok_or_else(|| Error::NotFound { noun: "gateway", key: key.to_owned() })
}

/// By id or name.
pub async fn find(transaction: &mut Transaction, organization_id: Uuid, key: &str) -> Result<Option<Row>, Error> {
    let key = Key::read(key, &[GatewayId::PREFIX]);
    let (id, name) = key.parts();
    Ok(run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, spec, revision, created_at, updated_at FROM gateway \
             WHERE organization_id = $1 AND (id = $2 OR name = $3)",
        )
        .bind(organization_id).bind(id).bind(name).fetch_optional(connection).await)?)
}

/// One gateway.
pub async fn get(store: &Store, organization_id: Uuid, key: &str) -> Result<Resource<GatewaySpec>, Error> {
    let mut transaction = store.read().await?;
    require(&mut transaction, organization_id, key).await.map(Row::resource)
}

/// In order of names.
pub async fn list(store: &Store, organization_id: Uuid, page: &Page) -> Result<Vec<Resource<GatewaySpec>>, Error> {
    let mut transaction = store.read().await?;
    let rows: Vec<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, spec, revision, created_at, updated_at FROM gateway \
             WHERE organization_id = $1 AND ($2 IS NULL OR name > $2) AND name LIKE $3 ESCAPE '!' \
             ORDER BY name LIMIT $4",
        )
        .bind(organization_id).bind(&page.after).bind(page.pattern()).bind(page.rows())
        .fetch_all(connection).await)?;
    Ok(rows.into_iter().map(Row::resource).collect())
}

/// Every network that any gateway of the organization allows upstreams to lie in.
pub async fn networks(transaction: &mut Transaction, organization_id: Uuid) -> Result<Vec<IpNet>, Error> {
    let specs: Vec<Json<GatewaySpec>> = run!(transaction, connection =>
        sqlx::query_scalar("SELECT spec FROM gateway WHERE organization_id = $1")
            .bind(organization_id).fetch_all(connection).await)?;
    Ok(specs.into_iter().flat_map(|Json(spec)| spec.upstream_networks).collect())
}

/// A new gateway; its nodes need a token.
pub async fn create(
    store: &Store,
    author: &Author,
    draft: Draft<GatewaySpec>,
) -> Result<Written<Resource<GatewaySpec>>, Error> {
    let spec = draft.spec.accept()?;
    let mut change = Change::begin(store, author).await?;
    check_name(&mut change, None, &draft.name).await?;
    let id = GatewayId::new().0;
    let (organization_id, revision, at) = (change.organization_id(), change.revision(), change.at());
    execute!(
        change,
        sqlx::query(
            "INSERT INTO gateway (id, organization_id, name, spec, revision, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $6)",
        )
        .bind(id)
        .bind(organization_id)
        .bind(draft.name.as_str())
        .bind(Json(&spec))
        .bind(revision)
        .bind(at)
    )?;
    change.put(Kind::Settings, id);
    let changes = json!({ "name": draft.name, "spec": spec });
    finish(change, id, "gateway.create", changes).await
}

/// Another name or spec; in force at once. `networks_allowed`: whether the author may change `upstreamNetworks`.
pub async fn replace(
    store: &Store,
    author: &Author,
    (key, draft): (&str, Draft<GatewaySpec>),
    check_base: impl FnOnce(&Resource<GatewaySpec>, &GatewaySpec) -> Result<(), Error>,
) -> Result<Written<Resource<GatewaySpec>>, Error> {
    let mut change = Change::begin(store, author).await?;
    let before = require(change.transaction(), author.organization_id, key).await?;
    let spec = draft.spec.accept();
    check_base(&before.clone().resource(), spec.as_ref().unwrap_or(&before.spec))?;
    let spec = spec?;
    check_name(&mut change, Some(before.id), &draft.name).await?;
    let (revision, at) = (change.revision(), change.at());
    execute!(
        change,
        sqlx::query("UPDATE gateway SET name = $2, spec = $3, revision = $4, updated_at = $5 WHERE id = $1")
            .bind(before.id)
            .bind(draft.name.as_str())
            .bind(Json(&spec))
            .bind(revision)
            .bind(at)
    )?;
    change.put(Kind::Settings, before.id);
    let changes =
        difference(&json!({ "name": before.name, "spec": before.spec }), &json!({ "name": draft.name, "spec": spec }));
    finish(change, before.id, "gateway.replace", changes).await
}

/// Removes a gateway on which nothing is deployed; its tokens end.
pub async fn delete(
    store: &Store,
    author: &Author,
    key: &str,
    check_base: impl FnOnce(i64) -> Result<(), Error>,
) -> Result<i64, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, key).await?;
    check_base(row.revision)?;
    let deployed: Option<(String,)> = run!(change, connection => sqlx::query_as(
            "SELECT endpoint.name FROM deployment JOIN endpoint ON endpoint.id = deployment.endpoint_id \
             WHERE gateway_id = $1 AND status IN ('deploying', 'deployed', 'rejected') ORDER BY endpoint.name LIMIT 1",
        )
        .bind(row.id).fetch_optional(connection).await)?;
    if let Some((endpoint,)) = deployed {
        return Err(Error::Conflict(Conflict::InUse, format!("`{endpoint}` is deployed on it; undeploy it first")));
    }
    execute!(change, sqlx::query("DELETE FROM deployment WHERE gateway_id = $1").bind(row.id))?;
    execute!(change, sqlx::query("DELETE FROM gateway WHERE id = $1").bind(row.id))?;
    change.remove(Kind::Settings, row.id);
    let entry = Entry::done("gateway.remove", "gateway", row.id, json!({ "name": row.name }));
    Ok(change.commit(entry).await?.revision)
}

/// Gives a gateway its first base URL and networks, for start-ups that know them. What admins have set since is theirs,
/// and so is a gateway that they renamed or removed.
pub async fn set_base_url(store: &Store, name: &str, base_url: &str, networks: &[IpNet]) -> Result<(), Error> {
    let author = Author::system(store.first_organization());
    let mut transaction = store.read().await?;
    let row = find(&mut transaction, author.organization_id, name).await?;
    drop(transaction);
    let Some(row) = row.filter(|row| row.spec.0.base_urls.is_empty()) else { return Ok(()) };
    let mut spec = row.spec.0.clone();
    spec.base_urls = vec![base_url.to_owned()];
    spec.upstream_networks.extend(networks.iter().filter(|network| !row.spec.upstream_networks.contains(network)));
    let spec = spec.accept()?;
    if spec == row.spec.0 {
        return Ok(());
    }
    let draft = Draft { name: Name::stored(row.name), spec };
    replace(store, &author, (name, draft), |_, _| Ok(())).await?;
    Ok(())
}

// ---- tokens ---------------------------------------------------------------------------------------------------------

/// A token that can be shown once.
#[derive(Debug)]
pub struct Minted {
    /// Its id.
    pub id: GatewayTokenId,
    /// The text.
    pub token: Sensitive,
    /// When it ends.
    pub expires_at: Option<OffsetDateTime>,
}

/// Whom a gateway token lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Of the token.
    pub token_id: Uuid,
    /// The gateway whose configuration it opens.
    pub gateway_id: Uuid,
    /// The gateway's name.
    pub gateway: String,
    /// Its organization.
    pub organization_id: Uuid,
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    id: Uuid,
    public_id: String,
    expires_at: Option<OffsetDateTime>,
    last_used_at: Option<OffsetDateTime>,
    created_at: OffsetDateTime,
}

/// Mints a token; `ca_fingerprint` is of the certificate authority that the link's certificate is signed by.
pub async fn mint_token(
    store: &Store,
    author: &Author,
    key: &str,
    input: GatewayTokenInput,
    ca_fingerprint: &str,
) -> Result<Written<Minted>, Error> {
    let mut change = Change::begin(store, author).await?;
    let gateway = require(change.transaction(), author.organization_id, key).await?;
    if input.expires_in.is_some_and(|after| after.as_millis() == 0) {
        return Err(Violation::invalid("/expiresIn", "must not be zero").into());
    }
    let active = active_tokens(change.transaction(), gateway.id).await?;
    if active.len() >= ACTIVE_TOKENS {
        let detail = format!("the gateway `{}` has two active tokens; revoke one first", gateway.name);
        return Err(Error::Conflict(Conflict::Conflict, detail));
    }
    let token = random::token(TokenKind::Gateway, Some(ca_fingerprint));
    let public_id = parse(TokenKind::Gateway, token.expose()).unwrap_or_default().to_owned();
    let id = GatewayTokenId::new();
    let (organization_id, at) = (change.organization_id(), change.at());
    let expires_at = input.expires_in.map(|after| at + after.as_time());
    execute!(
        change,
        sqlx::query(
            "INSERT INTO gateway_token (id, organization_id, gateway_id, public_id, digest, expires_at, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id.0)
        .bind(organization_id)
        .bind(gateway.id)
        .bind(&public_id)
        .bind(digest(token.expose()).to_vec())
        .bind(expires_at)
        .bind(at)
    )?;
    let changes = json!({ "gateway": gateway.name, "token": public_id });
    let committed = change.commit(Entry::done("gateway-token.create", "gateway-token", id.0, changes)).await?;
    Ok(Written { value: Minted { id, token, expires_at }, revision: committed.revision })
}

/// The active tokens of a gateway.
pub async fn list_tokens(store: &Store, organization_id: Uuid, key: &str) -> Result<Vec<GatewayToken>, Error> {
    let mut transaction = store.read().await?;
    let gateway = require(&mut transaction, organization_id, key).await?;
    let rows = active_tokens(&mut transaction, gateway.id).await?;
    Ok(rows
        .into_iter()
        .map(|row| GatewayToken {
            id: GatewayTokenId(row.id),
            display: format!("{}{}_...", TokenKind::Gateway.prefix(), row.public_id),
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
        })
        .collect())
}

/// Revokes a token; streams opened with it end.
pub async fn revoke_token(store: &Store, author: &Author, key: &str, token: &str) -> Result<i64, Error> {
    let mut change = Change::begin(store, author).await?;
    let gateway = require(change.transaction(), author.organization_id, key).await?;
    let missing = || Error::NotFound { noun: "gateway token", key: token.to_owned() };
    let id: GatewayTokenId = token.parse().map_err(|_| missing())?;
    let at = change.at();
    let revoked = execute!(
        change,
        sqlx::query(
            "UPDATE gateway_token SET revoked_at = $3 WHERE id = $1 AND gateway_id = $2 AND revoked_at IS NULL"
        )
        .bind(id.0)
        .bind(gateway.id)
        .bind(at)
    )?;
    if revoked == 0 {
        return Err(missing());
    }
    let entry = Entry::done("gateway-token.revoke", "gateway-token", id.0, json!({ "gateway": gateway.name }));
    Ok(change.commit(entry).await?.revision)
}

/// Whom this text lets in; none: nobody. A malformed one costs no lookup.
pub async fn admit(store: &Store, token: &Sensitive) -> Result<Option<Admitted>, Error> {
    if parse(TokenKind::Gateway, token.expose()).is_err() {
        return Ok(None);
    }
    let row: Option<(Uuid, Uuid, String, Uuid, Option<OffsetDateTime>)> = run!(store.engine(), connection =>
        sqlx::query_as(
            "SELECT gateway_token.id, gateway.id, gateway.name, gateway.organization_id, expires_at FROM gateway_token \
             JOIN gateway ON gateway.id = gateway_token.gateway_id WHERE digest = $1 AND revoked_at IS NULL",
        )
        .bind(digest(token.expose()).to_vec()).fetch_optional(connection).await)?;
    Ok(row.and_then(|(token_id, gateway_id, gateway, organization_id, expires_at)| {
        let over = expires_at.is_some_and(|at| at <= now());
        (!over).then_some(Admitted { token_id, gateway_id, gateway, organization_id })
    }))
}

/// Whether a token that once let someone in still would.
pub async fn still_admits(store: &Store, token_id: Uuid) -> Result<bool, Error> {
    let row: Option<(Option<OffsetDateTime>, Option<OffsetDateTime>)> = run!(store.engine(), connection =>
        sqlx::query_as("SELECT expires_at, revoked_at FROM gateway_token WHERE id = $1")
            .bind(token_id).fetch_optional(connection).await)?;
    Ok(row.is_some_and(|(expires_at, revoked_at)| revoked_at.is_none() && expires_at.is_none_or(|at| at > now())))
}

/// Notes that a node connected with it.
pub async fn token_used(store: &Store, token_id: Uuid) -> Result<(), Error> {
    execute!(
        store.engine(),
        sqlx::query("UPDATE gateway_token SET last_used_at = $2 WHERE id = $1").bind(token_id).bind(now())
    )?;
    Ok(())
}

async fn active_tokens(transaction: &mut Transaction, gateway_id: Uuid) -> Result<Vec<TokenRow>, Error> {
    let rows: Vec<TokenRow> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, public_id, expires_at, last_used_at, created_at FROM gateway_token \
             WHERE gateway_id = $1 AND revoked_at IS NULL ORDER BY id",
        )
        .bind(gateway_id).fetch_all(connection).await)?;
    let now = now();
    Ok(rows.into_iter().filter(|row| row.expires_at.is_none_or(|at| at > now)).collect())
}

async fn check_name(change: &mut Change<'_>, own: Option<Uuid>, name: &Name) -> Result<(), Error> {
    let organization_id = change.organization_id();
    match find(change.transaction(), organization_id, name.as_str()).await? {
        Some(other) if Some(other.id) != own => {
            Err(Error::Conflict(Conflict::NameTaken, format!("the gateway `{name}` has this name")))
        }
        Some(_) | None => Ok(()),
    }
}

async fn finish(
    mut change: Change<'_>,
    id: Uuid,
    action: &'static str,
    changes: serde_json::Value,
) -> Result<Written<Resource<GatewaySpec>>, Error> {
    let organization_id = change.organization_id();
    let value = require(change.transaction(), organization_id, &GatewayId(id).to_string()).await?.resource();
    let committed = change.commit(Entry::done(action, "gateway", id, changes)).await?;
    Ok(Written { value, revision: committed.revision })
}
