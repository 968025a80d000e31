//! The store's identity, and what the first start makes: lineage, organization, and the gateway `default`.

use uuid::Uuid;

use super::engine::{Engine, execute, run};
use super::now;
use crate::model::error::{Error, Internal};
use crate::model::id::{GatewayId, OrganizationId};

/// What never changes for as long as the store lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Random: nodes learn from it that a cursor belongs to another store.
    pub lineage: Uuid,
    /// The organization that the first start made.
    pub organization_id: Uuid,
}

/// Reads the installation, or makes it. Two control planes that start at once on a new Postgres make one.
pub async fn ensure(engine: &Engine) -> Result<Installation, Error> {
    if let Some(found) = find(engine).await? {
        return Ok(found);
    }
    let at = now();
    let made = Installation { lineage: Uuid::new_v4(), organization_id: OrganizationId::new().0 };
    let mut transaction = engine.begin().await?;
    let claimed = execute!(
        transaction,
        sqlx::query(
            "INSERT INTO installation (id, lineage, organization_id, created_at) VALUES (1, $1, $2, $3) \
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(made.lineage)
        .bind(made.organization_id)
        .bind(at)
    )?;
    if claimed == 1 {
        execute!(
            transaction,
            sqlx::query(
                "INSERT INTO organization (id, name, display_name, revision, audit_seq, audit_hash, created_at) \
                 VALUES ($1, 'default', 'Default', 1, 0, $2, $3)",
            )
            .bind(made.organization_id)
            .bind(vec![0_u8; 32])
            .bind(at)
        )?;
        execute!(
            transaction,
            sqlx::query(
                "INSERT INTO gateway (id, organization_id, name, spec, revision, created_at, updated_at) \
                 VALUES ($1, $2, 'default', $3, 1, $4, $4)",
            )
            .bind(GatewayId::new().0)
            .bind(made.organization_id)
            .bind(sqlx::types::Json(serde_json::json!({ "displayName": "Default" })))
            .bind(at)
        )?;
    }
    transaction.commit().await?;
    find(engine).await?.ok_or_else(|| Error::Internal(Internal::message("the installation row is missing")))
}

async fn find(engine: &Engine) -> Result<Option<Installation>, Error> {
    let row: Option<(Uuid, Uuid)> = run!(engine, connection =>
        sqlx::query_as("SELECT lineage, organization_id FROM installation WHERE id = 1")
            .fetch_optional(connection).await)?;
    Ok(row.map(|(lineage, organization_id)| Installation { lineage, organization_id }))
}
