//! Deployments: an endpoint's spec, frozen under a version, on a gateway.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::id::DeploymentId;

/// Which kind of endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EndpointKind {
    /// An LLM provider.
    Provider,
    /// An LLM proxy.
    Proxy,
}

impl EndpointKind {
    /// As the store has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Proxy => "proxy",
        }
    }

    /// For people.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Provider => "llm provider",
            Self::Proxy => "llm proxy",
        }
    }

    /// Of its typed ids.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Provider => super::id::ProviderId::PREFIX,
            Self::Proxy => super::id::ProxyId::PREFIX,
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Provider, Self::Proxy].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeploymentStatus {
    /// Not every connected node serves it yet.
    Deploying,
    /// Every connected node serves it.
    Deployed,
    /// A node refused it and goes on with what it served before.
    Rejected,
    /// Some connected node may still serve it.
    Undeploying,
    /// Nobody serves it.
    Undeployed,
}

impl DeploymentStatus {
    const ALL: [Self; 5] = [Self::Deploying, Self::Deployed, Self::Rejected, Self::Undeploying, Self::Undeployed];

    /// As the store has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deploying => "deploying",
            Self::Deployed => "deployed",
            Self::Rejected => "rejected",
            Self::Undeploying => "undeploying",
            Self::Undeployed => "undeployed",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether gateways are meant to serve it.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Deploying | Self::Deployed | Self::Rejected => true,
            Self::Undeploying | Self::Undeployed => false,
        }
    }

    /// Whether nodes have yet to answer.
    pub const fn is_pending(self) -> bool {
        match self {
            Self::Deploying | Self::Undeploying => true,
            Self::Deployed | Self::Rejected | Self::Undeployed => false,
        }
    }
}

/// A deployment as it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// Its id.
    pub id: DeploymentId,
    /// Name of the endpoint.
    pub endpoint: String,
    /// What kind that is.
    pub endpoint_kind: EndpointKind,
    /// Name of the gateway.
    pub gateway: String,
    /// 1, 2, ... of this endpoint on this gateway.
    pub version: i64,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// The organization's revision that brought it.
    pub revision: i64,
    /// When it was asked for.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// By whom.
    pub created_by: String,
    /// When every connected node served it; null: not yet, or never.
    #[serde(with = "time::serde::rfc3339::option")]
    pub deployed_at: Option<OffsetDateTime>,
    /// Why a node refused it.
    pub rejection: Option<Rejection>,
    /// How far it is.
    pub progress: Progress,
}

/// Why a node refused a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rejection {
    /// JSON pointer into the resource; empty: the whole.
    pub pointer: String,
    /// From the data plane's closed set.
    pub code: String,
    /// For the author.
    pub message: String,
}

/// How many of a gateway's connected nodes have acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Connected now.
    pub nodes: i64,
    /// Of these, how many serve this revision or a later one.
    pub acked: i64,
}

/// What to deploy where.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentInput {
    /// Name or id of a provider or proxy.
    pub endpoint: String,
    /// Name or id of a gateway.
    pub gateway: String,
}

/// An endpoint's deployment, as the endpoint shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentDeployment {
    /// Its id.
    pub id: DeploymentId,
    /// Name of the gateway.
    pub gateway: String,
    /// 1, 2, ...
    pub version: i64,
    /// Where it stands.
    pub status: DeploymentStatus,
}

/// Where callers reach a deployed endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct InvokeUrl {
    /// Name of the gateway.
    pub gateway: String,
    /// Base URL and context.
    pub url: String,
}
