//! Convergence: which nodes of a gateway serve a revision, and since when.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::actor::Actor;
use super::extract::{Path, Query};
use super::problem::Problem;
use super::router::App;
use crate::model::error::Error;
use crate::model::node::NodeStatus;
use crate::model::role::Permission;
use crate::store::{gateway, node, now};

/// Which revision.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SyncQuery {
    /// The newest when absent.
    revision: Option<i64>,
}

/// How far a revision has come on a gateway.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sync {
    /// The revision asked for.
    revision: i64,
    /// The newest.
    head: i64,
    /// Every node that the gateway knows.
    nodes: Vec<SyncedNode>,
    /// Every connected node serves it, and there is one.
    applied: bool,
    /// Since when every connected node serves it; null: not yet.
    #[serde(with = "time::serde::rfc3339::option")]
    applied_at: Option<OffsetDateTime>,
}

/// How far a revision has come on a node.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncedNode {
    /// Unique within the gateway.
    name: String,
    /// How it is doing.
    status: NodeStatus,
    /// What it serves.
    revision: i64,
    /// It serves this revision or a later one.
    applied: bool,
    /// When it first said so; null: not yet, or too long ago to be remembered.
    #[serde(with = "time::serde::rfc3339::option")]
    at: Option<OffsetDateTime>,
}

/// Ask how far a revision has come on a gateway
#[utoipa::path(
    get, path = "/gateways/{gateway}/sync", tag = "gateways", operation_id = "getSync",
    params(("gateway" = String, Path, description = "Name or id"), SyncQuery),
    responses(
        (status = 200, body = Sync),
        (status = "4XX", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(
    State(app): State<App>,
    actor: Actor,
    Path(key): Path<String>,
    Query(query): Query<SyncQuery>,
) -> Result<Json<Sync>, Error> {
    actor.require(Permission::CatalogueRead)?;
    let mut transaction = app.store.read().await?;
    let gateway = gateway::require(&mut transaction, actor.organization_id, &key).await?;
    let head = node::head(&mut transaction, actor.organization_id).await?;
    let revision = query.revision.unwrap_or(head);
    let at = now();
    let first = node::applied_at(&mut transaction, actor.organization_id, gateway.id, revision).await?;
    let nodes: Vec<_> = node::list(&mut transaction, actor.organization_id, gateway.id)
        .await?
        .into_iter()
        .map(|node| SyncedNode {
            status: node.status(at, head),
            revision: node.revision,
            applied: node.revision >= revision,
            at: first
                .get(&node.id)
                .filter(|_| node.revision >= revision)
                .and_then(|at| OffsetDateTime::from_unix_timestamp_nanos(i128::from(*at) * 1_000).ok()),
            name: node.name,
        })
        .collect();
    let connected = || nodes.iter().filter(|node| matches!(node.status, NodeStatus::Connected | NodeStatus::Applying));
    let applied = connected().next().is_some() && connected().all(|node| node.applied);
    let applied_at = if applied { connected().filter_map(|node| node.at).max() } else { None };
    Ok(Json(Sync { revision, head, nodes, applied, applied_at }))
}
