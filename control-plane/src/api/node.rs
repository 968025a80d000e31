//! The nodes of a gateway: which are connected, what they serve, what they refused.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::actor::Actor;
use super::extract::Path;
use super::page::List;
use super::problem::Problem;
use super::router::App;
use crate::model::error::Error;
use crate::model::id::{ApiKeyId, GatewayId, NodeId, ProviderId, ProxyId, SecretId, TemplateId};
use crate::model::node::{Node, NodeStatus, Rejected};
use crate::model::role::Permission;
use crate::store::request::Names;
use crate::store::{gateway, node, now};

/// A process of a gateway.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayNode {
    /// Stays the same for a node of the same name.
    id: NodeId,
    /// Unique within the gateway.
    name: String,
    /// Of its binary.
    version: String,
    /// How it is doing.
    status: NodeStatus,
    /// What it serves; 0: nothing.
    revision: i64,
    /// Start of its newest stream.
    #[serde(with = "time::serde::rfc3339")]
    connected_at: OffsetDateTime,
    /// Its last sign of life.
    #[serde(with = "time::serde::rfc3339")]
    last_seen_at: OffsetDateTime,
    /// Its last acknowledgement; null: none yet.
    #[serde(with = "time::serde::rfc3339::option")]
    acked_at: Option<OffsetDateTime>,
    /// False: it could not write down what it serves; a restart without the control plane brings back an older state.
    persisted: bool,
    /// What it serves in an older form, or not at all.
    rejected: Vec<RejectedResource>,
}

/// A resource that a node could not take in its newest form.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RejectedResource {
    /// `settings`, `template`, `provider`, `proxy`, `endpoint` (one that is gone), `api_key`, `secret` or `unknown`.
    kind: String,
    /// Its id.
    resource: String,
    /// Its name; null: it is gone, or has none.
    name: Option<String>,
    /// JSON pointer into it; empty: the whole.
    pointer: String,
    /// Why, from a closed set.
    code: String,
    /// For the author.
    message: String,
    /// Of the form that was rejected.
    revision: i64,
    /// When the node first said so.
    #[serde(with = "time::serde::rfc3339")]
    since: OffsetDateTime,
}

/// List the nodes of a gateway
#[utoipa::path(
    get, path = "/gateways/{gateway}/nodes", tag = "gateways", operation_id = "listNodes",
    params(("gateway" = String, Path, description = "Name or id")),
    responses(
        (status = 200, body = List<GatewayNode>),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
) -> Result<Json<List<GatewayNode>>, Error> {
    actor.require(Permission::CatalogueRead)?;
    let mut transaction = app.store.read().await?;
    let gateway = gateway::require(&mut transaction, actor.organization_id, &key).await?;
    let head = node::head(&mut transaction, actor.organization_id).await?;
    let nodes = node::list(&mut transaction, actor.organization_id, gateway.id).await?;
    let names = Names::read(&mut transaction, actor.organization_id).await?;
    let at = now();
    Ok(Json(List::all(nodes.into_iter().map(|node| view(node, at, head, &names)).collect())))
}

fn view(node: Node, at: OffsetDateTime, head: i64, names: &Names) -> GatewayNode {
    let status = node.status(at, head);
    let Node {
        id,
        name,
        version,
        written_status: _,
        revision,
        rejected,
        persisted,
        connected_at,
        last_seen_at,
        acked_at,
    } = node;
    let rejected = rejected.into_iter().map(|rejected| view_rejected(rejected, names)).collect();
    GatewayNode { id, name, version, status, revision, connected_at, last_seen_at, acked_at, persisted, rejected }
}

fn view_rejected(rejected: Rejected, names: &Names) -> RejectedResource {
    let Rejected { kind, id, revision, pointer, code, message, since_us } = rejected;
    let (kind, resource, name) = match (kind.as_str(), names.endpoint_kind(id)) {
        ("endpoint", Some(("provider", name))) => ("provider".to_owned(), ProviderId(id).to_string(), Some(name)),
        ("endpoint", Some(("proxy", name))) => ("proxy".to_owned(), ProxyId(id).to_string(), Some(name)),
        ("api_key", _) => (kind, ApiKeyId(id).to_string(), names.key_name(id)),
        ("secret", _) => (kind, SecretId(id).to_string(), None),
        ("template", _) => (kind, TemplateId(id).to_string(), None),
        ("settings", _) => (kind, GatewayId(id).to_string(), None),
        _ => (kind, id.to_string(), None),
    };
    RejectedResource {
        kind,
        resource,
        name: name.map(str::to_owned),
        pointer,
        code,
        message,
        revision,
        since: OffsetDateTime::from_unix_timestamp_nanos(i128::from(since_us) * 1_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
    }
}
