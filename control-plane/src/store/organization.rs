//! The tenant's own row.

use uuid::Uuid;

use super::engine::{Engine, run};
use crate::model::error::Error;

/// The name that people see.
pub async fn display_name(engine: &Engine, id: Uuid) -> Result<String, Error> {
    Ok(run!(engine, connection =>
        sqlx::query_scalar("SELECT display_name FROM organization WHERE id = $1").bind(id).fetch_one(connection).await)?)
}
