//! The audit trail: entries are appended within the transaction of the change they tell of, each chained to the one
//! before it by its hash.

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::change::Author;
use super::engine::{Engine, Transaction, execute, run};
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

/// The members that differ, each `{"from", "to"}`; objects are compared member by member.
pub fn difference(before: &Value, after: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return serde_json::json!({ "from": before, "to": after });
    };
    let mut changes = serde_json::Map::new();
    for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
        let (was, is) = (old.get(name).unwrap_or(&Value::Null), new.get(name).unwrap_or(&Value::Null));
        if was != is {
            changes.insert(name.clone(), difference(was, is));
        }
    }
    Value::Object(changes)
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
    let row = Row {
        id: AuditId::new().0,
        seq,
        at,
        actor_kind: author.kind.as_str().to_owned(),
        actor_id: author.id,
        action: entry.action.to_owned(),
        resource_kind: entry.resource_kind.to_owned(),
        resource_id: entry.resource_id,
        outcome: entry.outcome.as_str().to_owned(),
        request_id: author.request_id,
        changes: sqlx::types::Json(entry.changes.clone()),
    };
    let hash = row.hash(author.organization_id, &previous).to_vec();
    execute!(
        transaction,
        sqlx::query(
            "INSERT INTO audit (id, organization_id, seq, at, actor_kind, actor_id, action, resource_kind, \
             resource_id, outcome, request_id, changes, previous_hash, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        )
        .bind(row.id)
        .bind(author.organization_id)
        .bind(row.seq)
        .bind(row.at)
        .bind(&row.actor_kind)
        .bind(row.actor_id)
        .bind(&row.action)
        .bind(&row.resource_kind)
        .bind(row.resource_id)
        .bind(&row.outcome)
        .bind(row.request_id)
        .bind(&row.changes)
        .bind(&previous)
        .bind(&hash)
    )?;
    execute!(
        transaction,
        sqlx::query("UPDATE organization SET audit_hash = $2 WHERE id = $1").bind(author.organization_id).bind(&hash)
    )?;
    Ok(())
}

/// One entry as it is kept, without the links of the chain.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Row {
    /// Of the entry.
    pub id: Uuid,
    /// 1, 2, 3, ... within the organization, without gaps.
    pub seq: i64,
    /// When.
    pub at: OffsetDateTime,
    /// `system`, `user`, `token` or `anonymous`.
    pub actor_kind: String,
    /// The member's or token's.
    pub actor_id: Option<Uuid>,
    /// A noun and a verb.
    pub action: String,
    /// The noun.
    pub resource_kind: String,
    /// The resource, where there is one.
    pub resource_id: Option<Uuid>,
    /// `done`, `denied` or `failed`.
    pub outcome: String,
    /// Of the request.
    pub request_id: Option<Uuid>,
    /// The fields that changed.
    pub changes: sqlx::types::Json<Value>,
}

impl Row {
    /// Covers every column and the entry before. Each part is preceded by its length, so that nothing can be moved from
    /// one column to the next.
    fn hash(&self, organization_id: Uuid, previous: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        let optional = |id: &Option<Uuid>| id.map_or_else(Vec::new, |id| id.as_bytes().to_vec());
        part(b"lockgate audit 1");
        part(previous);
        part(organization_id.as_bytes());
        part(self.id.as_bytes());
        part(&self.seq.to_be_bytes());
        part(&super::microseconds(self.at).to_be_bytes());
        part(self.actor_kind.as_bytes());
        part(&optional(&self.actor_id));
        part(self.action.as_bytes());
        part(self.resource_kind.as_bytes());
        part(&optional(&self.resource_id));
        part(self.outcome.as_bytes());
        part(&optional(&self.request_id));
        part(canonical(&self.changes.0).as_bytes());
        hasher.finalize().into()
    }
}

/// JSON with the members of every object in order of their names: a database may give them back in another.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let members: Vec<_> = members
                .into_iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

/// Newest first, below the number `before`; at most `limit`. `search` is a part of the action.
pub async fn list(
    engine: &Engine,
    organization_id: Uuid,
    before: Option<i64>,
    search: &str,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    Ok(run!(engine, connection => sqlx::query_as(
            "SELECT id, seq, at, actor_kind, actor_id, action, resource_kind, resource_id, outcome, request_id, \
             changes FROM audit WHERE organization_id = $1 AND seq < $2 AND action LIKE $3 ESCAPE '\\' \
             ORDER BY seq DESC LIMIT $4",
        )
        .bind(organization_id).bind(before.unwrap_or(i64::MAX)).bind(super::contains(search)).bind(limit)
        .fetch_all(connection).await)?)
}

/// What a walk along the chain found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Every entry is there, in order, as it was written.
    Whole {
        /// How many.
        entries: i64,
    },
    /// From this entry on nothing is proven.
    Broken {
        /// The first entry that is missing or not as it was written.
        seq: i64,
    },
}

/// Walks the whole chain of one organization, from the first entry to the head that the organization's row holds.
pub async fn verify(engine: &Engine, organization_id: Uuid) -> Result<Verified, Error> {
    const AT_ONCE: i64 = 1000;
    let mut moment = engine.read().await?;
    let (head, head_hash): (i64, Vec<u8>) = run!(moment, connection =>
        sqlx::query_as("SELECT audit_seq, audit_hash FROM organization WHERE id = $1")
            .bind(organization_id).fetch_one(connection).await)?;
    let (mut seq, mut hash) = (0, vec![0_u8; 32]);
    loop {
        let rows: Vec<Link> = run!(moment, connection => sqlx::query_as(
                "SELECT id, seq, at, actor_kind, actor_id, action, resource_kind, resource_id, outcome, request_id, \
                 changes, previous_hash, hash FROM audit WHERE organization_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
            )
            .bind(organization_id).bind(seq).bind(AT_ONCE).fetch_all(connection).await)?;
        if rows.is_empty() {
            break;
        }
        for link in rows {
            let right = link.row.seq == seq + 1
                && link.previous_hash == hash
                && link.row.hash(organization_id, &hash).as_slice() == link.hash;
            if !right {
                return Ok(Verified::Broken { seq: seq + 1 });
            }
            (seq, hash) = (link.row.seq, link.hash);
        }
    }
    // Entries cut off at the end leave a chain that is whole in itself; the head gives them away.
    if seq == head && hash == head_hash {
        Ok(Verified::Whole { entries: seq })
    } else {
        Ok(Verified::Broken { seq: seq + 1 })
    }
}

#[derive(sqlx::FromRow)]
struct Link {
    #[sqlx(flatten)]
    row: Row,
    previous_hash: Vec<u8>,
    hash: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_members_does_not_count_and_their_values_do() {
        let one: Value = serde_json::from_str(r#"{"b":[1,{"d":2,"c":"x"}],"a":null}"#).unwrap();
        assert_eq!(canonical(&one), r#"{"a":null,"b":[1,{"c":"x","d":2}]}"#);
    }
}
