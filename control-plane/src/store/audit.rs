//! The audit trail: entries are appended within the transaction of the change they tell of, each chained to the one
//! before it by its hash.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::change::Author;
use super::engine::{Transaction, execute, run};
use crate::model::error::Error;
use crate::model::id::AuditId;

/// What was attempted and what became of it. `changes` is an object and holds secrets only as digests.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// A verb and a noun, e.g. `llm-provider.create`.
    pub action: &'static str,
    /// The noun, e.g. `llm-provider`.
    pub resource_kind: &'static str,
    /// The resource, where there is one.
    pub resource_id: Option<Uuid>,
    /// What became of it.
    pub outcome: Outcome,
    /// An object: the fields that changed.
    pub changes: Value,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It happened.
    Done,
    /// The actor may not.
    Denied,
    /// It could not be done.
    Failed,
}

impl Outcome {
    /// As the table has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

impl Entry {
    /// Something that happened.
    pub fn done(action: &'static str, resource_kind: &'static str, resource_id: Uuid, changes: Value) -> Self {
        Self { action, resource_kind, resource_id: Some(resource_id), outcome: Outcome::Done, changes }
    }
}

/// Appends one entry; the organization's row is locked from here to the end of the transaction.
pub async fn append(
    transaction: &mut Transaction,
    author: &Author,
    at: OffsetDateTime,
    entry: &Entry,
) -> Result<(), Error> {
    let (seq, previous): (i64, Vec<u8>) = run!(transaction, connection => sqlx::query_as(
            "UPDATE organization SET audit_seq = audit_seq + 1 WHERE id = $1 RETURNING audit_seq, audit_hash",
        )
        .bind(author.organization_id).fetch_one(connection).await)?;
    let mut hasher = Sha256::new();
    hasher.update(&previous);
    hasher.update(seq.to_be_bytes());
    hasher.update(entry.action.as_bytes());
    hasher.update(entry.changes.to_string().as_bytes());
    let hash = hasher.finalize().to_vec();
    execute!(
        transaction,
        sqlx::query(
            "INSERT INTO audit (id, organization_id, seq, at, actor_kind, actor_id, action, resource_kind, \
             resource_id, outcome, request_id, changes, previous_hash, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(AuditId::new().0)
        .bind(author.organization_id)
        .bind(seq)
        .bind(at)
        .bind(author.kind.as_str())
        .bind(author.id)
        .bind(entry.action)
        .bind(entry.resource_kind)
        .bind(entry.resource_id)
        .bind(entry.outcome.as_str())
        .bind(author.request_id)
        .bind(sqlx::types::Json(&entry.changes))
        .bind(&previous)
        .bind(&hash)
    )?;
    execute!(
        transaction,
        sqlx::query("UPDATE organization SET audit_hash = $2 WHERE id = $1").bind(author.organization_id).bind(&hash)
    )?;
    Ok(())
}
