//! Providers and proxies as rows: one table, one namespace of names, contexts that do not overlap.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::change::Change;
use super::engine::{Transaction, execute, run};
use crate::model::context::Context;
use crate::model::deployment::{CurrentDeployment, DeploymentStatus, EndpointKind, InvokeUrl};
use crate::model::endpoint::EndpointView;
use crate::model::error::{Conflict, Error, Internal};
use crate::model::gateway::GatewaySpec;
use crate::model::id::{DeploymentId, ProviderId, ProxyId};
use crate::model::limit::Limit;
use crate::model::name::{Key, Name};
use crate::model::page::Page;
use crate::model::provider::ProviderSpec;
use crate::model::proxy::ProxySpec;
use crate::model::resource::{Resource, Warning};

/// A provider's or proxy's spec, as far as rows care.
pub trait EndpointSpec: Serialize + DeserializeOwned {
    /// Which of the two.
    const KIND: EndpointKind;
    /// Its context.
    fn context(&self) -> &Context;
    /// Its live switch.
    fn disabled(&self) -> bool;
    /// Its live rules.
    fn limits(&self) -> &[Limit];
    /// Its credential.
    fn secret_id(&self) -> Option<Uuid>;
}

impl EndpointSpec for ProviderSpec {
    const KIND: EndpointKind = EndpointKind::Provider;

    fn context(&self) -> &Context {
        &self.context
    }

    fn disabled(&self) -> bool {
        self.disabled
    }

    fn limits(&self) -> &[Limit] {
        &self.limits
    }

    fn secret_id(&self) -> Option<Uuid> {
        self.upstream.credential.as_ref().map(|credential| credential.secret.0)
    }
}

impl EndpointSpec for ProxySpec {
    const KIND: EndpointKind = EndpointKind::Proxy;

    fn context(&self) -> &Context {
        &self.context
    }

    fn disabled(&self) -> bool {
        self.disabled
    }

    fn limits(&self) -> &[Limit] {
        &self.limits
    }

    fn secret_id(&self) -> Option<Uuid> {
        None
    }
}

/// One row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Row {
    /// Within: a UUID; outside it has its kind's prefix.
    pub id: Uuid,
    kind: String,
    /// Unique among both kinds.
    pub name: String,
    /// The draft.
    pub spec: Json<Value>,
    /// That last changed it.
    pub revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl Row {
    /// Provider or proxy.
    pub fn kind(&self) -> Result<EndpointKind, Error> {
        EndpointKind::parse(&self.kind).ok_or_else(|| Error::Internal(Internal::message("an endpoint of no kind")))
    }

    /// The draft, typed.
    pub fn spec<S: EndpointSpec>(&self) -> Result<S, Error> {
        decode(&self.spec.0)
    }

    /// The resource, typed.
    pub fn resource<S: EndpointSpec>(&self) -> Result<Resource<S>, Error> {
        Ok(Resource {
            id: proto::id::encode(S::KIND.prefix(), self.id),
            name: Name::stored(self.name.clone()),
            revision: self.revision,
            created_at: self.created_at,
            updated_at: self.updated_at,
            spec: self.spec()?,
        })
    }
}

/// What a spec column holds.
pub(super) fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| Error::Internal(Internal::new(error)))
}

/// By id or name; of either kind when `kind` is none.
pub async fn find(
    transaction: &mut Transaction,
    organization_id: Uuid,
    kind: Option<EndpointKind>,
    key: &str,
) -> Result<Option<Row>, Error> {
    let prefixes: &[&'static str] = match kind {
        Some(EndpointKind::Provider) => &[ProviderId::PREFIX],
        Some(EndpointKind::Proxy) => &[ProxyId::PREFIX],
        None => &[ProviderId::PREFIX, ProxyId::PREFIX],
    };
    let key = Key::read(key, prefixes);
    let (id, name) = key.parts();
    let kind = kind.map(EndpointKind::as_str);
    Ok(run!(transaction, connection => sqlx::query_as(
            "SELECT id, kind, name, spec, revision, created_at, updated_at FROM endpoint \
             WHERE organization_id = $1 AND (id = $2 OR name = $3) AND ($4 IS NULL OR kind = $4)",
        )
        .bind(organization_id).bind(id).bind(name).bind(kind)
        .fetch_optional(connection).await)?)
}

/// By id or name, or `not found`.
pub async fn require<S: EndpointSpec>(
    transaction: &mut Transaction,
    organization_id: Uuid,
    key: &str,
) -> Result<Row, Error> {
    find(transaction, organization_id, Some(S::KIND), key)
        .await?
        .ok_or_else(|| Error::NotFound { noun: S::KIND.noun(), key: key.to_owned() })
}

/// In order of names.
pub async fn list(
    transaction: &mut Transaction,
    organization_id: Uuid,
    kind: EndpointKind,
    page: &Page,
) -> Result<Vec<Row>, Error> {
    Ok(run!(transaction, connection => sqlx::query_as(
            "SELECT id, kind, name, spec, revision, created_at, updated_at FROM endpoint \
             WHERE organization_id = $1 AND kind = $2 AND ($3 IS NULL OR name > $3) AND name LIKE $4 ESCAPE '!' \
             ORDER BY name LIMIT $5",
        )
        .bind(organization_id).bind(kind.as_str()).bind(&page.after).bind(page.pattern()).bind(page.rows())
        .fetch_all(connection).await)?)
}

/// Refuses a name that another endpoint has, and a context that another one's overlaps.
pub async fn check_free(
    change: &mut Change<'_>,
    own: Option<Uuid>,
    name: &Name,
    context: &Context,
) -> Result<(), Error> {
    let organization_id = change.organization_id();
    let others: Vec<(Uuid, String, String, String)> = run!(change, connection => sqlx::query_as(
            "SELECT id, kind, name, context FROM endpoint WHERE organization_id = $1 ORDER BY name",
        )
        .bind(organization_id).fetch_all(connection).await)?;
    let others = || others.iter().filter(|(id, ..)| Some(*id) != own);
    let noun = |kind: &str| EndpointKind::parse(kind).map_or("endpoint", EndpointKind::noun);
    if let Some((_, kind, ..)) = others().find(|(_, _, other, _)| other == name.as_str()) {
        return Err(Error::Conflict(Conflict::NameTaken, format!("the {} `{name}` has this name", noun(kind))));
    }
    for (_, kind, other, theirs) in others() {
        let overlaps = Context::try_from(theirs.clone()).is_ok_and(|theirs| theirs.overlaps(context));
        if overlaps {
            let detail = format!("`{context}` overlaps with `{theirs}` of the {} `{other}`", noun(kind));
            return Err(Error::Conflict(Conflict::ContextTaken, detail));
        }
    }
    Ok(())
}

/// Writes a new row.
pub async fn insert<S: EndpointSpec>(change: &mut Change<'_>, id: Uuid, name: &Name, spec: &S) -> Result<(), Error> {
    let (organization_id, revision, at) = (change.organization_id(), change.revision(), change.at());
    execute!(
        change,
        sqlx::query(
            "INSERT INTO endpoint (id, organization_id, kind, name, context, secret_id, disabled, spec, \
             live_revision, revision, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10, $10)",
        )
        .bind(id)
        .bind(organization_id)
        .bind(S::KIND.as_str())
        .bind(name.as_str())
        .bind(spec.context().as_str())
        .bind(spec.secret_id())
        .bind(spec.disabled())
        .bind(Json(spec))
        .bind(revision)
        .bind(at)
    )?;
    Ok(())
}

/// Overwrites a row; tells the gateways at once what they read live.
pub async fn update<S: EndpointSpec>(
    change: &mut Change<'_>,
    before: &Row,
    name: &Name,
    spec: &S,
) -> Result<(), Error> {
    let (revision, at) = (change.revision(), change.at());
    let was: S = before.spec()?;
    let switched = was.disabled() != spec.disabled();
    if switched && spec.disabled() {
        change.put_urgent(super::change::Kind::Endpoint, before.id);
    }
    let live = switched || before.name != name.as_str() || was.limits() != spec.limits();
    if live && !(switched && spec.disabled()) {
        change.put(super::change::Kind::Endpoint, before.id);
    }
    execute!(
        change,
        sqlx::query(
            "UPDATE endpoint SET name = $2, context = $3, secret_id = $4, disabled = $5, spec = $6, revision = $7, \
             updated_at = $8, live_revision = CASE WHEN $9 THEN $7 ELSE live_revision END WHERE id = $1",
        )
        .bind(before.id)
        .bind(name.as_str())
        .bind(spec.context().as_str())
        .bind(spec.secret_id())
        .bind(spec.disabled())
        .bind(Json(spec))
        .bind(revision)
        .bind(at)
        .bind(live)
    )?;
    Ok(())
}

/// Removes a row that nobody depends on; keys lose it from what they open.
pub async fn delete(change: &mut Change<'_>, row: &Row) -> Result<(), Error> {
    let deployed: Option<(String,)> = run!(change, connection => sqlx::query_as(
            "SELECT gateway.name FROM deployment JOIN gateway ON gateway.id = deployment.gateway_id \
             WHERE endpoint_id = $1 AND status IN ('deploying', 'deployed', 'rejected') ORDER BY gateway.name LIMIT 1",
        )
        .bind(row.id).fetch_optional(connection).await)?;
    if let Some((gateway,)) = deployed {
        let detail = format!("`{}` is deployed on the gateway `{gateway}`; undeploy it first", row.name);
        return Err(Error::Conflict(Conflict::InUse, detail));
    }
    let proxy: Option<(String,)> = run!(change, connection => sqlx::query_as(
            "SELECT endpoint.name FROM proxy_target JOIN endpoint ON endpoint.id = proxy_target.proxy_id \
             WHERE proxy_target.provider_id = $1 ORDER BY endpoint.name LIMIT 1",
        )
        .bind(row.id).fetch_optional(connection).await)?;
    if let Some((proxy,)) = proxy {
        return Err(Error::Conflict(Conflict::InUse, format!("the llm proxy `{proxy}` stands on `{}`", row.name)));
    }
    execute!(change, sqlx::query("DELETE FROM endpoint WHERE id = $1").bind(row.id))?;
    Ok(())
}

/// Where endpoints are deployed, by endpoint.
#[derive(Debug, Default)]
pub struct Standings(HashMap<Uuid, Vec<Standing>>);

#[derive(Debug, sqlx::FromRow)]
struct Standing {
    id: Uuid,
    endpoint_id: Uuid,
    gateway: String,
    gateway_spec: Json<GatewaySpec>,
    version: i64,
    status: String,
    context: String,
    spec: Json<Value>,
}

/// Reads where the organization's endpoints are deployed; one endpoint's alone, where one is given.
pub async fn standings(
    transaction: &mut Transaction,
    organization_id: Uuid,
    endpoint_id: Option<Uuid>,
) -> Result<Standings, Error> {
    let rows: Vec<Standing> = run!(transaction, connection => sqlx::query_as(
            "SELECT deployment.id, endpoint_id, gateway.name AS gateway, gateway.spec AS gateway_spec, version, \
             status, context, deployment.spec FROM deployment JOIN gateway ON gateway.id = deployment.gateway_id \
             WHERE deployment.organization_id = $1 AND ($2 IS NULL OR endpoint_id = $2) AND status <> 'undeployed' \
             ORDER BY gateway.name, version",
        )
        .bind(organization_id).bind(endpoint_id).fetch_all(connection).await)?;
    let mut standings = Standings::default();
    for row in rows {
        standings.0.entry(row.endpoint_id).or_default().push(row);
    }
    Ok(standings)
}

impl Standings {
    /// The endpoint as it is read.
    pub fn view<S: EndpointSpec>(&self, row: &Row, warnings: Vec<Warning>) -> Result<EndpointView<S>, Error> {
        let mut view = EndpointView {
            resource: row.resource::<S>()?,
            pending_changes: false,
            invoke_urls: Vec::new(),
            deployments: Vec::new(),
            warnings,
        };
        for standing in self.0.get(&row.id).map(Vec::as_slice).unwrap_or_default() {
            let status = DeploymentStatus::parse(&standing.status)
                .ok_or_else(|| Error::Internal(Internal::message("a deployment of no status")))?;
            if status.is_live() {
                view.pending_changes |= frozen_part(&standing.spec.0) != frozen_part(&row.spec.0);
                view.invoke_urls.extend(standing.gateway_spec.base_urls.iter().map(|base| InvokeUrl {
                    gateway: standing.gateway.clone(),
                    url: format!("{base}{}", standing.context),
                }));
            }
            view.deployments.push(CurrentDeployment {
                id: DeploymentId(standing.id),
                gateway: standing.gateway.clone(),
                version: standing.version,
                status,
            });
        }
        Ok(view)
    }
}

/// A spec without what is read live.
fn frozen_part(spec: &Value) -> Value {
    let mut spec = spec.clone();
    if let Some(members) = spec.as_object_mut() {
        members.remove("disabled");
        members.remove("limits");
    }
    spec
}
