//! Everything that one gateway's nodes must know, read at one revision in one transaction, and which parts of it
//! changed since an earlier one.

use std::collections::BTreeMap;

use ipnet::IpNet;
use uuid::Uuid;

use super::change::Kind;
use crate::model::context::Context;
use crate::model::provider::ProviderSpec;
use crate::model::proxy::ProxySpec;
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

/// A frozen spec. Its own `disabled` is not to be read: the live one is in [`EndpointEntry`].
#[derive(Clone, Debug)]
pub enum Frozen {
    /// With an upstream.
    Provider(Box<ProviderSpec>),
    /// Over providers that are in the same catalog.
    Proxy(Box<ProxySpec>, Vec<Target>),
}

/// A provider that a proxy stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Id of an [`EndpointEntry`] in the same catalog.
    pub provider_id: Uuid,
    /// Share among targets of one priority.
    pub weight: u32,
    /// Lower first.
    pub priority: u32,
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
