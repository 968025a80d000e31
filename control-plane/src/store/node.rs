//! Nodes and their receipts: who is connected to which gateway, and who served which revision when.

use std::collections::BTreeMap;

use sqlx::types::{Json, Uuid};
use time::OffsetDateTime;

use super::{Store, Transaction, engine::run, microseconds};
use crate::model::{
    error::{Error, Internal},
    id::NodeId,
    node::{Node, NodeStatus, Rejected},
};

/// Receipts kept per node; older ones are only of historical interest.
const RECEIPTS: i64 = 1_000;

/// Ids of all tokens that open the link now.
pub async fn live_tokens(store: &Store, now: OffsetDateTime) -> Result<Vec<Uuid>, Error> {
    let rows: Vec<(Uuid, Option<OffsetDateTime>)> = run!(store.engine(), connection =>
        sqlx::query_as("SELECT id, expires_at FROM gateway_token WHERE revoked_at IS NULL")
            .fetch_all(connection).await)?;
    let live = rows.into_iter().filter(|(_, expires_at)| expires_at.is_none_or(|expires_at| expires_at > now));
    Ok(live.map(|(id, _)| id).collect())
}

/// A node that opens a stream.
#[derive(Clone, Debug)]
pub struct Arrival<'a> {
    /// The tenant.
    pub organization_id: Uuid,
    /// Whose node it is.
    pub gateway_id: Uuid,
    /// Shown by it.
    pub token_id: Uuid,
    /// As it calls itself.
    pub name: &'a str,
    /// Of its process.
    pub boot: Uuid,
    /// Of its binary.
    pub version: &'a str,
    /// Of the stream; only its receipts count from now on.
    pub connection: Uuid,
    /// What it serves; 0: nothing.
    pub revision: i64,
}

/// Notes that a node's stream is open, and makes the node when it is new.
pub async fn arrive(store: &Store, arrival: &Arrival<'_>, at: OffsetDateTime) -> Result<NodeId, Error> {
    let Arrival { organization_id, gateway_id, token_id, name, boot, version, connection: stream, revision } = arrival;
    let mut transaction = store.engine().begin().await?;
    let id: Uuid = run!(transaction, connection => sqlx::query_scalar(
            "INSERT INTO node (id, organization_id, gateway_id, name, boot, version, status, revision, rejected, \
             connected_at, last_seen_at, connection) \
             VALUES ($1, $2, $3, $4, $5, $6, 'connected', $7, $8, $9, $9, $10) \
             ON CONFLICT (gateway_id, name) DO UPDATE SET boot = excluded.boot, version = excluded.version, \
             status = excluded.status, revision = excluded.revision, connected_at = excluded.connected_at, \
             last_seen_at = excluded.last_seen_at, connection = excluded.connection \
             RETURNING id",
        )
        .bind(NodeId::new().0).bind(organization_id).bind(gateway_id).bind(*name).bind(boot).bind(*version)
        .bind(revision).bind(Json(Vec::<Rejected>::new())).bind(at).bind(stream)
        .fetch_one(connection).await)?;
    run!(transaction, connection => sqlx::query("UPDATE gateway_token SET last_used_at = $1 WHERE id = $2")
        .bind(at).bind(token_id).execute(connection).await.map(|_| ()))?;
    transaction.commit().await?;
    Ok(NodeId(id))
}

/// Something that a node's stream has to say about it.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Which node.
    pub node: NodeId,
    /// The tenant.
    pub organization_id: Uuid,
    /// Whose node it is.
    pub gateway_id: Uuid,
    /// For people.
    pub gateway_name: String,
    /// For people.
    pub name: String,
    /// Its stream.
    pub connection: Uuid,
    /// When.
    pub at: OffsetDateTime,
    /// What.
    pub news: News,
}

/// What a receipt says.
#[derive(Clone, Debug)]
pub enum News {
    /// It is alive.
    Seen,
    /// It serves this revision.
    Applied {
        /// Of the organization.
        revision: i64,
        /// All that it could not take, as of this revision.
        rejected: Vec<Rejected>,
        /// It wrote the configuration down.
        persisted: bool,
    },
    /// Its stream ended, or is about to, in this way.
    Status(NodeStatus),
}

/// Writes receipts down within a transaction; those of streams that are no longer the node's newest change nothing.
/// Returns which of them counted, in order.
pub async fn record(transaction: &mut Transaction, receipts: &[Receipt]) -> Result<Vec<bool>, Error> {
    let mut counted = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        let Receipt { node, organization_id, connection: stream, at, news, .. } = receipt;
        let changed = match news {
            News::Seen => run!(transaction, connection => sqlx::query(
                    "UPDATE node SET last_seen_at = $1 WHERE id = $2 AND connection = $3",
                )
                .bind(at).bind(node.0).bind(stream).execute(connection).await.map(|done| done.rows_affected()))?,
            News::Status(status) => run!(transaction, connection => sqlx::query(
                    "UPDATE node SET status = $1, last_seen_at = $2 WHERE id = $3 AND connection = $4",
                )
                .bind(status.as_str()).bind(at).bind(node.0).bind(stream)
                .execute(connection).await.map(|done| done.rows_affected()))?,
            News::Applied { revision, rejected, persisted } => {
                let rejected = keep_since(transaction, *node, rejected.clone()).await?;
                let changed = run!(transaction, connection => sqlx::query(
                        "UPDATE node SET status = CASE WHEN status = 'draining' THEN status ELSE 'connected' END, \
                         revision = $1, rejected = $2, persisted = $3, \
                         last_seen_at = $4, acked_at = $4 WHERE id = $5 AND connection = $6",
                    )
                    .bind(revision).bind(Json(&rejected)).bind(persisted).bind(at).bind(node.0).bind(stream)
                    .execute(connection).await.map(|done| done.rows_affected()))?;
                if changed > 0 {
                    receive(transaction, *organization_id, *node, *revision, *at).await?;
                }
                changed
            }
        };
        counted.push(changed > 0);
    }
    Ok(counted)
}

/// A rejection that stands since an earlier acknowledgement keeps its time.
async fn keep_since(
    transaction: &mut Transaction,
    node: NodeId,
    mut rejected: Vec<Rejected>,
) -> Result<Vec<Rejected>, Error> {
    if rejected.is_empty() {
        return Ok(rejected);
    }
    let before: Option<Json<Vec<Rejected>>> = run!(transaction, connection =>
        sqlx::query_scalar("SELECT rejected FROM node WHERE id = $1").bind(node.0).fetch_optional(connection).await)?;
    let before: BTreeMap<_, _> = before
        .map(|Json(before)| before)
        .unwrap_or_default()
        .into_iter()
        .map(|old| ((old.kind, old.id, old.revision), old.since_us))
        .collect();
    for rejection in &mut rejected {
        if let Some(since_us) = before.get(&(rejection.kind.clone(), rejection.id, rejection.revision)) {
            rejection.since_us = *since_us;
        }
    }
    Ok(rejected)
}

async fn receive(
    transaction: &mut Transaction,
    organization_id: Uuid,
    node: NodeId,
    revision: i64,
    at: OffsetDateTime,
) -> Result<(), Error> {
    run!(transaction, connection => sqlx::query(
            "INSERT INTO node_receipt (organization_id, node_id, revision, applied_at_us) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (node_id, revision) DO NOTHING",
        )
        .bind(organization_id).bind(node.0).bind(revision).bind(microseconds(at))
        .execute(connection).await.map(|_| ()))?;
    run!(transaction, connection => sqlx::query("DELETE FROM node_receipt WHERE node_id = $1 AND revision <= $2")
        .bind(node.0).bind(revision - RECEIPTS).execute(connection).await.map(|_| ()))?;
    Ok(())
}

type Row = (
    Uuid,
    String,
    String,
    String,
    i64,
    Json<Vec<Rejected>>,
    bool,
    OffsetDateTime,
    OffsetDateTime,
    Option<OffsetDateTime>,
);

/// The nodes of one gateway, by name.
pub async fn list(transaction: &mut Transaction, organization_id: Uuid, gateway_id: Uuid) -> Result<Vec<Node>, Error> {
    let rows: Vec<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, version, status, revision, rejected, persisted, connected_at, last_seen_at, acked_at \
             FROM node WHERE organization_id = $1 AND gateway_id = $2 ORDER BY name",
        )
        .bind(organization_id).bind(gateway_id).fetch_all(connection).await)?;
    rows.into_iter()
        .map(|(id, name, version, status, revision, rejected, persisted, connected_at, last_seen_at, acked_at)| {
            let written_status = NodeStatus::parse(&status)
                .ok_or_else(|| Error::Internal(Internal::message("a node's status is none that we know")))?;
            Ok(Node {
                id: NodeId(id),
                name,
                version,
                written_status,
                revision,
                rejected: rejected.0,
                persisted,
                connected_at,
                last_seen_at,
                acked_at,
            })
        })
        .collect()
}

/// When each node of a gateway first served this revision or a later one, in Unix microseconds.
pub async fn applied_at(
    transaction: &mut Transaction,
    organization_id: Uuid,
    gateway_id: Uuid,
    revision: i64,
) -> Result<BTreeMap<NodeId, i64>, Error> {
    let rows: Vec<(Uuid, i64)> = run!(transaction, connection => sqlx::query_as(
            "SELECT node_id, MIN(applied_at_us) FROM node_receipt WHERE organization_id = $1 AND revision >= $2 \
             AND node_id IN (SELECT id FROM node WHERE organization_id = $1 AND gateway_id = $3) GROUP BY node_id",
        )
        .bind(organization_id).bind(revision).bind(gateway_id).fetch_all(connection).await)?;
    Ok(rows.into_iter().map(|(id, at)| (NodeId(id), at)).collect())
}

/// The newest revision, within the same moment as the lists.
pub async fn head(transaction: &mut Transaction, organization_id: Uuid) -> Result<i64, Error> {
    Ok(run!(transaction, connection =>
        sqlx::query_scalar("SELECT revision FROM organization WHERE id = $1")
            .bind(organization_id).fetch_one(connection).await)?)
}

/// Deployments of a gateway that nodes serve or have yet to let go of, and their status.
pub async fn deployments(transaction: &mut Transaction, gateway_id: Uuid) -> Result<BTreeMap<Uuid, String>, Error> {
    let rows: Vec<(Uuid, String)> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, status FROM deployment WHERE gateway_id = $1 AND status <> 'undeployed'",
        )
        .bind(gateway_id).fetch_all(connection).await)?;
    Ok(rows.into_iter().collect())
}
