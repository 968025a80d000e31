//! What the nodes said about deployments, and waiting for it. Nothing here changes configuration.

use sqlx::types::Json;
use uuid::Uuid;

use super::get;
use crate::model::deployment::{Deployment, DeploymentStatus, Rejection};
use crate::model::error::Error;
use crate::model::id::DeploymentId;
use crate::store::engine::{execute, run};
use crate::store::{Store, now};

/// Every connected node of the gateway serves `revision` or a later one; `refused` are the endpoints that one of them
/// refuses (see [`rejected`]). Advances what waited for that, wakes those who wait, and returns what moved. No
/// configuration changes.
pub async fn acknowledged(
    store: &Store,
    gateway_id: Uuid,
    revision: i64,
    refused: &[Uuid],
) -> Result<Vec<Uuid>, Error> {
    let rows: Vec<(Uuid, Uuid, String)> = run!(store.engine(), connection => sqlx::query_as(
            "SELECT id, endpoint_id, status FROM deployment WHERE gateway_id = $1 AND revision <= $2 \
             AND status IN ('deploying', 'undeploying', 'rejected')",
        )
        .bind(gateway_id).bind(revision).fetch_all(connection).await)?;
    let at = now();
    let mut moved = Vec::new();
    for (id, endpoint_id, status) in rows {
        let (next, deployed_at) = match DeploymentStatus::parse(&status) {
            Some(DeploymentStatus::Undeploying) => (DeploymentStatus::Undeployed, None),
            Some(DeploymentStatus::Deploying | DeploymentStatus::Rejected) if !refused.contains(&endpoint_id) => {
                (DeploymentStatus::Deployed, Some(at))
            }
            _ => continue,
        };
        // Compare and set: it may have been replaced or undeployed in the meantime.
        let done = execute!(
            store.engine(),
            sqlx::query(
                "UPDATE deployment SET status = $2, rejection = NULL, \
                 deployed_at = CASE WHEN $3 IS NULL THEN deployed_at ELSE $3 END WHERE id = $1 AND status = $4",
            )
            .bind(id)
            .bind(next.as_str())
            .bind(deployed_at)
            .bind(&status)
        )?;
        if done > 0 {
            moved.push(id);
        }
    }
    store.progressed();
    Ok(moved)
}

/// A node refused an endpoint's deployment of `revision` or an earlier one, and goes on with what it served before.
/// Returns the deployment, if that is news.
pub async fn rejected(
    store: &Store,
    gateway_id: Uuid,
    endpoint_id: Uuid,
    revision: i64,
    rejection: &Rejection,
) -> Result<Option<Uuid>, Error> {
    let id: Option<Uuid> = run!(store.engine(), connection => sqlx::query_scalar(
            "UPDATE deployment SET status = 'rejected', rejection = $4 WHERE gateway_id = $1 AND endpoint_id = $2 \
             AND revision <= $3 AND status IN ('deploying', 'deployed') RETURNING id",
        )
        .bind(gateway_id).bind(endpoint_id).bind(revision).bind(Json(rejection))
        .fetch_optional(connection).await)?;
    store.progressed();
    Ok(id)
}

/// Waits until nodes have answered, or the deadline is over; the deployment as it then stands.
pub async fn settled(
    store: &Store,
    organization_id: Uuid,
    id: DeploymentId,
    deadline: std::time::Duration,
) -> Result<Deployment, Error> {
    // Another control plane may hold the node's stream: its progress does not wake us, so we look now and then.
    const FLOOR: std::time::Duration = std::time::Duration::from_millis(250);
    let mut progress = store.progress();
    let end = tokio::time::Instant::now() + deadline;
    loop {
        progress.mark_unchanged();
        let deployment = get(store, organization_id, &id.to_string()).await?;
        if !deployment.status.is_pending() || tokio::time::Instant::now() >= end {
            return Ok(deployment);
        }
        let next = (tokio::time::Instant::now() + FLOOR).min(end);
        // Either way we look again.
        let _ = tokio::time::timeout_at(next, progress.changed()).await;
    }
}
