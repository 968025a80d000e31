//! The link's certificate authority: one row for the whole installation.

use super::{Store, engine::run, now};
use crate::model::error::{Error, Internal};

/// As it is kept; the key is sealed in its place.
#[derive(Debug)]
pub struct Authority {
    /// DER.
    pub certificate: Vec<u8>,
    /// Opens with the key ring only.
    pub sealed_key: Vec<u8>,
}

/// The authority, if one was made.
pub async fn find(store: &Store) -> Result<Option<Authority>, Error> {
    let row: Option<(Vec<u8>, Vec<u8>)> = run!(store.engine(), connection =>
        sqlx::query_as("SELECT certificate, sealed_key FROM link_authority WHERE id = 1")
            .fetch_optional(connection).await)?;
    Ok(row.map(|(certificate, sealed_key)| Authority { certificate, sealed_key }))
}

/// Keeps this one unless another was there first; returns the one that is kept.
pub async fn create(store: &Store, certificate: &[u8], sealed_key: &[u8]) -> Result<Authority, Error> {
    run!(store.engine(), connection => sqlx::query(
            "INSERT INTO link_authority (id, organization_id, certificate, sealed_key, created_at) \
             VALUES (1, $1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
        )
        .bind(store.first_organization()).bind(certificate).bind(sealed_key).bind(now())
        .execute(connection).await.map(|_| ()))?;
    find(store).await?.ok_or_else(|| Error::Internal(Internal::message("the link's authority is missing")))
}
