//! Everything that one gateway's nodes must know, read at one revision in one transaction, and which parts of it
//! changed since an earlier one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ipnet::IpNet;
use serde_json::Value;
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::change::Kind;
use super::endpoint::decode;
use super::engine::{Transaction, run};
use super::{Store, microseconds, price, template};
use crate::model::api_key::Scope;
use crate::model::context::Context;
use crate::model::deployment::EndpointKind;
use crate::model::error::{Error, Internal};
use crate::model::gateway::GatewaySpec;
use crate::model::id::ProviderId;
use crate::model::limit::Limit;
use crate::model::price::Price;
use crate::model::provider::ProviderSpec;
use crate::model::proxy::{ProxySpec, ProxyTarget};
use crate::model::template::Template;

/// One gateway's configuration at one revision. Lists are in order of their ids.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Of the store.
    pub lineage: Uuid,
    /// The tenant.
    pub organization_id: Uuid,
    /// Of the organization, at which all of this was read.
    pub revision: i64,
    /// When that revision was committed, Unix microseconds.
    pub committed_at_us: i64,
    /// The gateway itself.
    pub gateway: GatewayEntry,
    /// All templates: a gateway strips every vendor's credential names, used or not.
    pub templates: Vec<TemplateEntry>,
    /// What is deployed there.
    pub endpoints: Vec<EndpointEntry>,
    /// Every key of the organization that is not revoked; expired ones too, the node's clock decides.
    pub api_keys: Vec<ApiKeyEntry>,
    /// Those that `endpoints` use.
    pub secrets: Vec<SecretEntry>,
    /// Of the templates and providers that `endpoints` use.
    pub prices: Vec<PriceEntry>,
}

/// The gateway's own settings.
#[derive(Clone, Debug)]
pub struct GatewayEntry {
    /// Also the id of its settings.
    pub id: Uuid,
    /// Unique in the organization.
    pub name: String,
    /// Without trailing slashes.
    pub base_urls: Vec<String>,
    /// Private and loopback networks that upstreams may lie in.
    pub upstream_networks: Vec<IpNet>,
    /// That last changed it.
    pub revision: i64,
}

/// A template and the revision that brought it.
#[derive(Clone, Debug)]
pub struct TemplateEntry {
    /// The data.
    pub template: Template,
    /// That last changed it.
    pub revision: i64,
}

/// A deployed endpoint: its frozen spec, and what is read live.
#[derive(Clone, Debug)]
pub struct EndpointEntry {
    /// Of the provider or proxy.
    pub id: Uuid,
    /// Live.
    pub name: String,
    /// Live.
    pub disabled: bool,
    /// Live.
    pub limits: Vec<Limit>,
    /// Frozen; free of overlap on this gateway.
    pub context: Context,
    /// Of the frozen form.
    pub deployment_id: Uuid,
    /// 1, 2, ...
    pub deployment_version: i64,
    /// Of the template it is spoken to by; a proxy's is its provider's.
    pub template_id: Uuid,
    /// The frozen spec.
    pub frozen: Frozen,
    /// That last changed what a node sees of it.
    pub revision: i64,
}

/// A frozen spec. Its own `disabled` and `limits` are not to be read: the live ones are in [`EndpointEntry`].
#[derive(Clone, Debug)]
pub enum Frozen {
    /// With an upstream.
    Provider(Box<ProviderSpec>),
    /// Over providers that are in the same catalog.
    Proxy(Box<ProxySpec>, Vec<Target>),
}

/// A provider that a proxy stands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Id of an [`EndpointEntry`] in the same catalog.
    pub provider_id: Uuid,
    /// Share among targets of one priority.
    pub weight: u32,
    /// Lower first.
    pub priority: u32,
    /// The proxy's name of a model to the provider's own.
    pub aliases: BTreeMap<String, String>,
}

/// A key: digests only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyEntry {
    /// Of the key.
    pub id: Uuid,
    /// One, or two during the grace of a rotation; the newest first.
    pub credentials: Vec<KeyCredential>,
    /// What it opens among this catalog's endpoints, in order.
    pub endpoint_ids: Vec<Uuid>,
    /// Unix milliseconds; none: never.
    pub expires_at_ms: Option<i64>,
    /// Switched off.
    pub disabled: bool,
    /// What else it is bound to.
    pub scope: Scope,
    /// How much it may be used.
    pub limits: Vec<Limit>,
    /// That last changed it.
    pub revision: i64,
}

/// One live secret of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCredential {
    /// SHA-256 of the whole key, 32 bytes.
    pub digest: Vec<u8>,
    /// End of its grace, Unix milliseconds; none: the key's own expiry.
    pub expires_at_ms: Option<i64>,
}

/// A sealed value. `seal::Place` of it: [`super::secret::place`].
#[derive(Clone, Debug)]
pub struct SecretEntry {
    /// Of the secret.
    pub id: Uuid,
    /// Raised by every new value.
    pub version: i64,
    /// Opens with the keyring, for its place alone.
    pub sealed: Vec<u8>,
    /// That last changed it.
    pub revision: i64,
}

/// What tokens cost, for a template or one provider.
#[derive(Clone, Debug)]
pub struct PriceEntry {
    /// Of the template or the provider.
    pub id: Uuid,
    /// Set by the organization, and told as this version.
    pub own: (String, Vec<Price>),
    /// Brought by the binary, and told as this version.
    pub shipped: (String, Vec<Price>),
    /// That last changed either.
    pub revision: i64,
}

/// What changed after one revision, up to another. A resource in here that the catalog lacks is gone (or never was on
/// this gateway); one that the catalog has is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Everything up to here was known.
    pub from: i64,
    /// Everything up to here is told.
    pub to: i64,
    /// The newest revision that touched each resource.
    pub touched: BTreeMap<(Kind, Uuid), i64>,
    /// Whether any of it takes something away.
    pub urgent: bool,
}

/// More changes than this and everything is the shorter message.
const MOST: i64 = 20_000;

impl Catalog {
    /// Reads it, at one moment; none: there is no such gateway in the organization.
    pub async fn read(store: &Store, organization_id: Uuid, gateway_id: Uuid) -> Result<Option<Self>, Error> {
        let mut transaction = store.read().await?;
        let (revision, committed_at_us) = head(&mut transaction, organization_id).await?;
        let gateway: Option<(String, Json<GatewaySpec>, i64)> = run!(transaction, connection => sqlx::query_as(
                "SELECT name, spec, revision FROM gateway WHERE organization_id = $1 AND id = $2",
            )
            .bind(organization_id).bind(gateway_id).fetch_optional(connection).await)?;
        let Some((name, Json(spec), gateway_revision)) = gateway else { return Ok(None) };
        let templates = template::all(&mut transaction, organization_id).await?;
        let templates: Vec<TemplateEntry> =
            templates.into_iter().map(|(template, revision)| TemplateEntry { template, revision }).collect();
        let endpoints = endpoints(&mut transaction, organization_id, gateway_id, &templates).await?;
        let api_keys = api_keys(&mut transaction, organization_id, &endpoints).await?;
        let secrets = secrets(&mut transaction, organization_id, &endpoints).await?;
        let prices = prices(&mut transaction, organization_id, &endpoints).await?;
        Ok(Some(Self {
            lineage: store.lineage(),
            organization_id,
            revision,
            committed_at_us,
            gateway: GatewayEntry {
                id: gateway_id,
                name,
                base_urls: spec.base_urls,
                upstream_networks: spec.upstream_networks,
                revision: gateway_revision,
            },
            templates,
            endpoints,
            api_keys,
            secrets,
            prices,
        }))
    }
}

/// The organization's newest revision and when it was committed (Unix microseconds; 0: before the log began).
pub async fn revision(store: &Store, organization_id: Uuid) -> Result<(i64, i64), Error> {
    let mut transaction = store.read().await?;
    head(&mut transaction, organization_id).await
}

/// What changed after `from`, up to `to`; none: too much, or `from` is not of this history.
pub async fn changes_since(store: &Store, organization_id: Uuid, from: i64, to: i64) -> Result<Option<Changes>, Error> {
    if from <= 0 || from > to {
        return Ok(None);
    }
    let rows: Vec<(String, Uuid, i64, bool)> = run!(store.engine(), connection => sqlx::query_as(
            "SELECT kind, resource_id, revision, urgent FROM change_log \
             WHERE organization_id = $1 AND revision > $2 AND revision <= $3 ORDER BY revision LIMIT $4",
        )
        .bind(organization_id).bind(from).bind(to).bind(MOST + 1).fetch_all(connection).await)?;
    if i64::try_from(rows.len()).unwrap_or(i64::MAX) > MOST {
        return Ok(None);
    }
    let mut changes = Changes { from, to, touched: BTreeMap::new(), urgent: false };
    for (kind, id, revision, urgent) in rows {
        let kind = Kind::parse(&kind).ok_or_else(|| defect("a change of no kind"))?;
        changes.touched.insert((kind, id), revision);
        changes.urgent |= urgent;
    }
    Ok(Some(changes))
}

async fn head(transaction: &mut Transaction, organization_id: Uuid) -> Result<(i64, i64), Error> {
    let revision: i64 = run!(transaction, connection =>
        sqlx::query_scalar("SELECT revision FROM organization WHERE id = $1")
            .bind(organization_id).fetch_one(connection).await)?;
    let committed: Option<i64> = run!(transaction, connection => sqlx::query_scalar(
            "SELECT MAX(committed_at_us) FROM change_log WHERE organization_id = $1 AND revision = \
             (SELECT MAX(revision) FROM change_log WHERE organization_id = $1)",
        )
        .bind(organization_id).fetch_one(connection).await)?;
    Ok((revision, committed.unwrap_or_default()))
}

#[derive(sqlx::FromRow)]
struct EndpointRow {
    id: Uuid,
    kind: String,
    name: String,
    disabled: bool,
    live_revision: i64,
    deployment_id: Uuid,
    version: i64,
    context: String,
    spec: Json<Value>,
    live: Json<Value>,
    revision: i64,
}

async fn endpoints(
    transaction: &mut Transaction,
    organization_id: Uuid,
    gateway_id: Uuid,
    templates: &[TemplateEntry],
) -> Result<Vec<EndpointEntry>, Error> {
    let rows: Vec<EndpointRow> = run!(transaction, connection => sqlx::query_as(
            "SELECT endpoint.id, kind, endpoint.name, disabled, live_revision, \
             deployment.id AS deployment_id, version, \
             deployment.context, deployment.spec, endpoint.spec AS live, deployment.revision \
             FROM deployment JOIN endpoint ON endpoint.id = deployment.endpoint_id \
             WHERE deployment.organization_id = $1 AND gateway_id = $2 \
             AND status IN ('deploying', 'deployed', 'rejected') ORDER BY endpoint.id",
        )
        .bind(organization_id).bind(gateway_id).fetch_all(connection).await)?;
    let template_id = |name: &str| {
        let entry = templates.iter().find(|entry| entry.template.name.as_str() == name);
        entry.map(|entry| entry.template.id.0).ok_or_else(|| defect("a provider without its template"))
    };
    let mut providers = BTreeMap::new();
    for row in rows.iter().filter(|row| row.kind == EndpointKind::Provider.as_str()) {
        let spec: ProviderSpec = decode(&row.spec.0)?;
        providers.insert(row.id, spec);
    }
    let mut entries = Vec::with_capacity(rows.len());
    for row in rows {
        let (template, frozen) = if let Some(spec) = providers.get(&row.id) {
            (spec.template.as_str(), Frozen::Provider(Box::new(spec.clone())))
        } else {
            let spec: ProxySpec = decode(&row.spec.0)?;
            let targets: Vec<Target> = spec.targets.iter().map(target).collect::<Result<_, _>>()?;
            let first = targets.first().and_then(|target| providers.get(&target.provider_id));
            let template = first.ok_or_else(|| defect("a deployed proxy whose provider is not"))?.template.as_str();
            (template, Frozen::Proxy(Box::new(spec), targets))
        };
        entries.push(EndpointEntry {
            id: row.id,
            name: row.name,
            disabled: row.disabled,
            limits: row.live.0.get("limits").map_or(Ok(Vec::new()), decode)?,
            context: Context::try_from(row.context).map_err(|error| Error::Internal(Internal::new(error)))?,
            deployment_id: row.deployment_id,
            deployment_version: row.version,
            template_id: template_id(template)?,
            frozen,
            revision: row.revision.max(row.live_revision),
        });
    }
    Ok(entries)
}

fn target(target: &ProxyTarget) -> Result<Target, Error> {
    let provider: ProviderId = target.provider.parse().map_err(|error| Error::Internal(Internal::new(error)))?;
    Ok(Target {
        provider_id: provider.0,
        weight: target.weight,
        priority: target.priority,
        aliases: target.aliases.clone(),
    })
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    id: Uuid,
    expires_at: Option<OffsetDateTime>,
    disabled: bool,
    scope: Json<Scope>,
    limits: Json<Vec<Limit>>,
    revision: i64,
}

async fn api_keys(
    transaction: &mut Transaction,
    organization_id: Uuid,
    endpoints: &[EndpointEntry],
) -> Result<Vec<ApiKeyEntry>, Error> {
    let keys: Vec<KeyRow> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, expires_at, disabled, scope, limits, revision FROM api_key \
             WHERE organization_id = $1 AND revoked_at IS NULL ORDER BY id",
        )
        .bind(organization_id).fetch_all(connection).await)?;
    let secrets: Vec<(Uuid, Vec<u8>, Option<OffsetDateTime>)> = run!(transaction, connection => sqlx::query_as(
            "SELECT api_key_id, digest, expires_at FROM api_key_secret WHERE organization_id = $1 \
             ORDER BY api_key_id, id DESC",
        )
        .bind(organization_id).fetch_all(connection).await)?;
    let links: Vec<(Uuid, Uuid)> = run!(transaction, connection => sqlx::query_as(
            "SELECT api_key_id, endpoint_id FROM api_key_endpoint WHERE organization_id = $1 \
             ORDER BY api_key_id, endpoint_id",
        )
        .bind(organization_id).fetch_all(connection).await)?;
    let served: BTreeSet<Uuid> = endpoints.iter().map(|endpoint| endpoint.id).collect();
    let mut credentials: HashMap<Uuid, Vec<KeyCredential>> = HashMap::with_capacity(keys.len());
    for (id, digest, expires_at) in secrets {
        let credential = KeyCredential { digest, expires_at_ms: expires_at.map(milliseconds) };
        credentials.entry(id).or_default().push(credential);
    }
    let mut opened: HashMap<Uuid, Vec<Uuid>> = HashMap::with_capacity(keys.len());
    for (id, endpoint_id) in links {
        if served.contains(&endpoint_id) {
            opened.entry(id).or_default().push(endpoint_id);
        }
    }
    let entry = |row: KeyRow| {
        let KeyRow { id, expires_at, disabled, scope: Json(scope), limits: Json(limits), revision } = row;
        ApiKeyEntry {
            id,
            credentials: credentials.remove(&id).unwrap_or_default(),
            endpoint_ids: opened.remove(&id).unwrap_or_default(),
            expires_at_ms: expires_at.map(milliseconds),
            disabled,
            scope,
            limits,
            revision,
        }
    };
    Ok(keys.into_iter().map(entry).collect())
}

async fn secrets(
    transaction: &mut Transaction,
    organization_id: Uuid,
    endpoints: &[EndpointEntry],
) -> Result<Vec<SecretEntry>, Error> {
    let mut used: BTreeSet<Uuid> = BTreeSet::new();
    for endpoint in endpoints {
        match &endpoint.frozen {
            Frozen::Provider(spec) => used.extend(spec.upstream.credential.iter().map(|one| one.secret.0)),
            Frozen::Proxy(..) => {}
        }
    }
    let mut entries = Vec::with_capacity(used.len());
    for id in used {
        let row: Option<(i64, Vec<u8>, i64)> = run!(transaction, connection => sqlx::query_as(
                "SELECT version, sealed, revision FROM secret WHERE organization_id = $1 AND id = $2",
            )
            .bind(organization_id).bind(id).fetch_optional(connection).await)?;
        let (version, sealed, revision) = row.ok_or_else(|| defect("a deployed credential whose secret is gone"))?;
        entries.push(SecretEntry { id, version, sealed, revision });
    }
    Ok(entries)
}

async fn prices(
    transaction: &mut Transaction,
    organization_id: Uuid,
    endpoints: &[EndpointEntry],
) -> Result<Vec<PriceEntry>, Error> {
    let mut used = BTreeSet::new();
    for endpoint in endpoints {
        match &endpoint.frozen {
            Frozen::Provider(_) => used.extend([endpoint.id, endpoint.template_id]),
            Frozen::Proxy(..) => {}
        }
    }
    let mut entries: BTreeMap<Uuid, PriceEntry> = BTreeMap::new();
    for price::Row { scope, id, list, revision } in price::rows(transaction, organization_id).await? {
        if !used.contains(&id) {
            continue;
        }
        let price::Kept { version, prices } = list;
        let entry = entries.entry(id).or_insert_with(|| PriceEntry {
            id,
            own: (String::new(), Vec::new()),
            shipped: (String::new(), Vec::new()),
            revision: 0,
        });
        entry.revision = entry.revision.max(revision);
        if scope == "shipped" {
            entry.shipped = (version.unwrap_or_default(), prices);
        } else {
            entry.own = (format!("r{revision}"), prices);
        }
    }
    Ok(entries.into_values().collect())
}

fn milliseconds(at: OffsetDateTime) -> i64 {
    microseconds(at) / 1000
}

fn defect(message: &str) -> Error {
    Error::Internal(Internal::message(message))
}
