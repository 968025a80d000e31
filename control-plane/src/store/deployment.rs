//! Deployments: freezing a draft under a version, taking it away, and what the nodes said about it.

mod progress;

use serde_json::{Value, json};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::Entry;
use super::change::{Author, Change, Kind};
use super::endpoint::{self, decode};
use super::engine::{Transaction, execute, run};
use super::{Store, Written, gateway, price, proxy};
use crate::model::context::Context;
use crate::model::deployment::{Deployment, DeploymentInput, DeploymentStatus, EndpointKind, Progress, Rejection};
use crate::model::error::{Conflict, Error, Internal, Violation};
use crate::model::id::DeploymentId;
use crate::model::page::Page;
use crate::model::provider::ProviderSpec;
use crate::model::proxy::ProxySpec;
pub use progress::{acknowledged, rejected, settled};

/// Which deployments are asked for.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Name or id.
    pub endpoint: Option<String>,
    /// Name or id.
    pub gateway: Option<String>,
    /// Where they stand.
    pub status: Option<DeploymentStatus>,
}

#[derive(Clone, Debug, sqlx::FromRow)]
struct Row {
    id: Uuid,
    endpoint_id: Uuid,
    endpoint: String,
    kind: String,
    gateway_id: Uuid,
    gateway: String,
    version: i64,
    status: String,
    spec: Json<Value>,
    secret_id: Option<Uuid>,
    rejection: Option<Json<Rejection>>,
    revision: i64,
    created_by: String,
    created_at: OffsetDateTime,
    deployed_at: Option<OffsetDateTime>,
    nodes: i64,
    acked: i64,
}

impl Row {
    fn status(&self) -> Result<DeploymentStatus, Error> {
        DeploymentStatus::parse(&self.status)
            .ok_or_else(|| Error::Internal(Internal::message("a deployment of no status")))
    }

    fn kind(&self) -> Result<EndpointKind, Error> {
        EndpointKind::parse(&self.kind).ok_or_else(|| Error::Internal(Internal::message("an endpoint of no kind")))
    }

    fn view(self) -> Result<Deployment, Error> {
        Ok(Deployment {
            id: DeploymentId(self.id),
            endpoint_kind: self.kind()?,
            status: self.status()?,
            endpoint: self.endpoint,
            gateway: self.gateway,
            version: self.version,
            revision: self.revision,
            created_at: self.created_at,
            created_by: self.created_by,
            deployed_at: self.deployed_at,
            rejection: self.rejection.map(|Json(rejection)| rejection),
            progress: Progress { nodes: self.nodes, acked: self.acked },
        })
    }
}

/// One deployment.
pub async fn get(store: &Store, organization_id: Uuid, id: &str) -> Result<Deployment, Error> {
    let mut transaction = store.read().await?;
    require(&mut transaction, organization_id, id).await?.view()
}

/// Newest first.
pub async fn list(
    store: &Store,
    organization_id: Uuid,
    filter: &Filter,
    page: &Page,
) -> Result<Vec<Deployment>, Error> {
    let mut transaction = store.read().await?;
    let endpoint_id = match &filter.endpoint {
        None => None,
        Some(key) => match endpoint::find(&mut transaction, organization_id, None, key).await? {
            Some(row) => Some(row.id),
            None => return Ok(Vec::new()),
        },
    };
    let gateway_id = match &filter.gateway {
        None => None,
        Some(key) => match gateway::find(&mut transaction, organization_id, key).await? {
            Some(row) => Some(row.id),
            None => return Ok(Vec::new()),
        },
    };
    let before = page.after.as_deref().and_then(|id| id.parse::<DeploymentId>().ok()).map(|id| id.0);
    let status = filter.status.map(DeploymentStatus::as_str);
    let rows: Vec<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT deployment.id, endpoint_id, endpoint.name AS endpoint, endpoint.kind, gateway_id, \
             gateway.name AS gateway, version, status, deployment.spec, deployment.secret_id, rejection, \
             deployment.revision, created_by, deployment.created_at, deployed_at, \
             (SELECT COUNT(*) FROM node WHERE node.gateway_id = deployment.gateway_id \
              AND node.status IN ('connected', 'applying')) AS nodes, \
             (SELECT COUNT(*) FROM node WHERE node.gateway_id = deployment.gateway_id \
              AND node.status IN ('connected', 'applying') AND node.revision >= deployment.revision) AS acked \
             FROM deployment JOIN endpoint ON endpoint.id = deployment.endpoint_id \
             JOIN gateway ON gateway.id = deployment.gateway_id \
             WHERE deployment.organization_id = $1 AND ($2 IS NULL OR deployment.id < $2) \
             AND ($3 IS NULL OR endpoint_id = $3) AND ($4 IS NULL OR gateway_id = $4) AND ($5 IS NULL OR status = $5) \
             AND endpoint.name LIKE $6 ESCAPE '!' ORDER BY deployment.id DESC LIMIT $7",
        )
        .bind(organization_id).bind(before).bind(endpoint_id).bind(gateway_id).bind(status)
        .bind(page.pattern()).bind(page.rows()).fetch_all(connection).await)?;
    rows.into_iter().map(Row::view).collect()
}

/// Freezes an endpoint's draft as the next version on a gateway; what was deployed there before is history.
pub async fn deploy(store: &Store, author: &Author, input: &DeploymentInput) -> Result<Written<Deployment>, Error> {
    let mut change = Change::begin(store, author).await?;
    let organization_id = author.organization_id;
    let Some(row) = endpoint::find(change.transaction(), organization_id, None, &input.endpoint).await? else {
        let message = format!("there is no endpoint `{}`", input.endpoint);
        return Err(Violation::new("/endpoint", "not_found", message).into());
    };
    let Some(gateway) = gateway::find(change.transaction(), organization_id, &input.gateway).await? else {
        let message = format!("there is no gateway `{}`", input.gateway);
        return Err(Violation::new("/gateway", "not_found", message).into());
    };
    let wanted =
        Wanted { endpoint_id: row.id, endpoint: &row.name, kind: row.kind()?, gateway: &gateway, spec: &row.spec.0 };
    let id = place(&mut change, &wanted).await?;
    finish(change, id, "deployment.create").await
}

/// Deploys what an earlier version froze, as a new version.
pub async fn restore(store: &Store, author: &Author, id: &str) -> Result<Written<Deployment>, Error> {
    let mut change = Change::begin(store, author).await?;
    let organization_id = author.organization_id;
    let row = require(change.transaction(), organization_id, id).await?;
    if let Some(secret_id) = row.secret_id {
        let there: Option<Uuid> = run!(change, connection => sqlx::query_scalar("SELECT id FROM secret WHERE id = $1")
            .bind(secret_id).fetch_optional(connection).await)?;
        if there.is_none() {
            let detail = format!("version {} used a credential that is gone; deploy the draft", row.version);
            return Err(Error::Conflict(Conflict::Conflict, detail));
        }
    }
    let gateway = gateway::require(change.transaction(), organization_id, &row.gateway).await?;
    let kind = row.kind()?;
    let wanted =
        Wanted { endpoint_id: row.endpoint_id, endpoint: &row.endpoint, kind, gateway: &gateway, spec: &row.spec.0 };
    let id = place(&mut change, &wanted).await?;
    finish(change, id, "deployment.restore").await
}

/// Takes an endpoint off a gateway. What is off already stays as it is.
pub async fn undeploy(store: &Store, author: &Author, id: &str) -> Result<Written<Deployment>, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, id).await?;
    if !row.status()?.is_live() {
        let revision = change.revision() - 1;
        return Ok(Written { value: row.view()?, revision });
    }
    for (name, spec) in live_proxies(&mut change, row.gateway_id).await? {
        if proxy::providers_of(&spec)?.contains(&row.endpoint_id) {
            let detail =
                format!("the llm proxy `{name}` stands on it on the gateway `{}`; undeploy it first", row.gateway);
            return Err(Error::Conflict(Conflict::InUse, detail));
        }
    }
    let revision = change.revision();
    execute!(
        change,
        sqlx::query("UPDATE deployment SET status = 'undeploying', revision = $2 WHERE id = $1")
            .bind(row.id)
            .bind(revision)
    )?;
    change.remove(Kind::Endpoint, row.endpoint_id);
    if let Some(secret_id) = row.secret_id {
        change.put(Kind::Secret, secret_id);
    }
    touch_prices(&mut change, row.endpoint_id, &row.spec.0).await?;
    touch_keys(&mut change, row.endpoint_id).await?;
    finish(change, row.id, "deployment.undeploy").await
}

/// What is to be served from now on.
struct Wanted<'a> {
    endpoint_id: Uuid,
    endpoint: &'a str,
    kind: EndpointKind,
    gateway: &'a gateway::Row,
    spec: &'a Value,
}

/// Checks it against what the gateway serves, and writes it as the next version.
async fn place(change: &mut Change<'_>, wanted: &Wanted<'_>) -> Result<Uuid, Error> {
    let Wanted { endpoint_id, endpoint, kind, gateway, spec } = wanted;
    let (context, secret_id) = match kind {
        EndpointKind::Provider => {
            let spec: ProviderSpec = decode(spec)?;
            let secret_id = spec.upstream.credential.map(|credential| credential.secret.0);
            (spec.context, secret_id)
        }
        EndpointKind::Proxy => {
            let spec: ProxySpec = decode(spec)?;
            for provider_id in proxy::providers_of(&spec)? {
                require_deployed(change, provider_id, gateway).await?;
            }
            (spec.context, None)
        }
    };
    let others: Vec<(String, String)> = run!(change, connection => sqlx::query_as(
            "SELECT endpoint.name, deployment.context FROM deployment \
             JOIN endpoint ON endpoint.id = deployment.endpoint_id WHERE gateway_id = $1 AND endpoint_id <> $2 \
             AND status IN ('deploying', 'deployed', 'rejected')",
        )
        .bind(gateway.id).bind(endpoint_id).fetch_all(connection).await)?;
    for (other, theirs) in others {
        if Context::try_from(theirs.clone()).is_ok_and(|theirs| theirs.overlaps(&context)) {
            let detail = format!("`{context}` overlaps with `{theirs}` of `{other}` on the gateway `{}`", gateway.name);
            return Err(Error::Conflict(Conflict::ContextTaken, detail));
        }
    }
    let previous: Vec<(Uuid, String, Option<Uuid>)> = run!(change, connection => sqlx::query_as(
            "SELECT id, status, secret_id FROM deployment WHERE endpoint_id = $1 AND gateway_id = $2 \
             AND status <> 'undeployed'",
        )
        .bind(endpoint_id).bind(gateway.id).fetch_all(connection).await)?;
    let mut served_before = false;
    for (id, status, secret_id) in previous {
        served_before |= DeploymentStatus::parse(&status).is_some_and(DeploymentStatus::is_live);
        execute!(change, sqlx::query("UPDATE deployment SET status = 'undeployed' WHERE id = $1").bind(id))?;
        if let Some(secret_id) = secret_id {
            change.put(Kind::Secret, secret_id);
        }
    }
    let version: Option<i64> = run!(change, connection => sqlx::query_scalar(
            "SELECT MAX(version) FROM deployment WHERE endpoint_id = $1 AND gateway_id = $2",
        )
        .bind(endpoint_id).bind(gateway.id).fetch_one(connection).await)?;
    let id = DeploymentId::new().0;
    let (organization_id, revision, at) = (change.organization_id(), change.revision(), change.at());
    let created_by = change.author().label();
    execute!(
        change,
        sqlx::query(
            "INSERT INTO deployment (id, organization_id, endpoint_id, gateway_id, version, status, context, \
             secret_id, spec, revision, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, 'deploying', $6, $7, $8, $9, $10, $11)",
        )
        .bind(id)
        .bind(organization_id)
        .bind(endpoint_id)
        .bind(gateway.id)
        .bind(version.unwrap_or_default() + 1)
        .bind(context.as_str())
        .bind(secret_id)
        .bind(Json(spec))
        .bind(revision)
        .bind(&created_by)
        .bind(at)
    )?;
    tracing::debug!(endpoint.name = %endpoint, gateway.name = %gateway.name, "an endpoint was deployed");
    change.put(Kind::Endpoint, *endpoint_id);
    if let Some(secret_id) = secret_id {
        change.put(Kind::Secret, secret_id);
    }
    touch_prices(change, *endpoint_id, spec).await?;
    if !served_before {
        touch_keys(change, *endpoint_id).await?;
    }
    Ok(id)
}

/// A gateway holds the prices of what it serves.
async fn touch_prices(change: &mut Change<'_>, endpoint_id: Uuid, spec: &Value) -> Result<(), Error> {
    match spec["template"].as_str() {
        Some(template) => price::touch(change, endpoint_id, template).await,
        // A proxy: its providers have theirs.
        None => Ok(()),
    }
}

/// A proxy serves nothing without its providers.
async fn require_deployed(change: &mut Change<'_>, provider_id: Uuid, gateway: &gateway::Row) -> Result<(), Error> {
    let deployed: Option<Uuid> = run!(change, connection => sqlx::query_scalar(
            "SELECT id FROM deployment WHERE endpoint_id = $1 AND gateway_id = $2 \
             AND status IN ('deploying', 'deployed', 'rejected')",
        )
        .bind(provider_id).bind(gateway.id).fetch_optional(connection).await)?;
    if deployed.is_some() {
        return Ok(());
    }
    let provider: Option<String> = run!(change, connection =>
        sqlx::query_scalar("SELECT name FROM endpoint WHERE id = $1")
            .bind(provider_id).fetch_optional(connection).await)?;
    let provider = provider.unwrap_or_default();
    let detail = format!("its provider `{provider}` is not deployed on the gateway `{}`", gateway.name);
    Err(Error::Conflict(Conflict::NotDeployed, detail))
}

/// A key's form on a gateway names the endpoints that are there: it changes when one comes or goes.
async fn touch_keys(change: &mut Change<'_>, endpoint_id: Uuid) -> Result<(), Error> {
    let keys: Vec<Uuid> = run!(change, connection => sqlx::query_scalar(
            "SELECT api_key_id FROM api_key_endpoint JOIN api_key ON api_key.id = api_key_id \
             WHERE endpoint_id = $1 AND revoked_at IS NULL",
        )
        .bind(endpoint_id).fetch_all(connection).await)?;
    for id in keys {
        change.put(Kind::ApiKey, id);
    }
    Ok(())
}

async fn live_proxies(change: &mut Change<'_>, gateway_id: Uuid) -> Result<Vec<(String, ProxySpec)>, Error> {
    let rows: Vec<(String, Json<ProxySpec>)> = run!(change, connection => sqlx::query_as(
            "SELECT endpoint.name, deployment.spec FROM deployment \
             JOIN endpoint ON endpoint.id = deployment.endpoint_id WHERE gateway_id = $1 AND kind = 'proxy' \
             AND status IN ('deploying', 'deployed', 'rejected') ORDER BY endpoint.name",
        )
        .bind(gateway_id).fetch_all(connection).await)?;
    Ok(rows.into_iter().map(|(name, Json(spec))| (name, spec)).collect())
}

async fn require(transaction: &mut Transaction, organization_id: Uuid, key: &str) -> Result<Row, Error> {
    let missing = || Error::NotFound { noun: "deployment", key: key.to_owned() };
    let id: DeploymentId = key.parse().map_err(|_| missing())?;
    let row: Option<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT deployment.id, endpoint_id, endpoint.name AS endpoint, endpoint.kind, gateway_id, \
             gateway.name AS gateway, version, status, deployment.spec, deployment.secret_id, rejection, \
             deployment.revision, created_by, deployment.created_at, deployed_at, \
             (SELECT COUNT(*) FROM node WHERE node.gateway_id = deployment.gateway_id \
              AND node.status IN ('connected', 'applying')) AS nodes, \
             (SELECT COUNT(*) FROM node WHERE node.gateway_id = deployment.gateway_id \
              AND node.status IN ('connected', 'applying') AND node.revision >= deployment.revision) AS acked \
             FROM deployment JOIN endpoint ON endpoint.id = deployment.endpoint_id \
             JOIN gateway ON gateway.id = deployment.gateway_id \
             WHERE deployment.organization_id = $1 AND deployment.id = $2",
        )
        .bind(organization_id).bind(id.0).fetch_optional(connection).await)?;
    row.ok_or_else(missing)
}

async fn finish(mut change: Change<'_>, id: Uuid, action: &'static str) -> Result<Written<Deployment>, Error> {
    let organization_id = change.organization_id();
    let row = require(change.transaction(), organization_id, &DeploymentId(id).to_string()).await?;
    let changes = json!({ "endpoint": row.endpoint, "gateway": row.gateway, "version": row.version, "spec": row.spec });
    let value = row.view()?;
    let committed = change.commit(Entry::done(action, "deployment", id, changes)).await?;
    Ok(Written { value, revision: committed.revision })
}
