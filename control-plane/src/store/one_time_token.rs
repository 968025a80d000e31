//! Tokens that open once: the first owner's, and sign-in links. Used by compare-and-set, so that of many claims at one
//! time exactly one goes on.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::audit::{self, Entry, Outcome};
use super::change::Author;
use super::engine::{Engine, Transaction, run};
use super::member::{self, Member, NewMember};
use crate::model::error::{Conflict, Error};
use crate::model::id::UserId;

/// The first owner's token is good for this long.
pub const BOOTSTRAP: Duration = Duration::hours(24);
/// A sign-in link is good for this long.
pub const SIGN_IN: Duration = Duration::minutes(10);

/// Stores a bootstrap token's digest. Other live ones stay: another control plane may have printed one too.
pub async fn create_bootstrap(
    engine: &Engine,
    organization_id: Uuid,
    digest: &[u8; 32],
    at: OffsetDateTime,
) -> Result<(), Error> {
    insert(engine, organization_id, "bootstrap", None, digest, at, at + BOOTSTRAP).await
}

/// Stores a sign-in link's digest.
pub async fn create_sign_in(
    engine: &Engine,
    organization_id: Uuid,
    member_id: Uuid,
    digest: &[u8; 32],
    at: OffsetDateTime,
) -> Result<(), Error> {
    insert(engine, organization_id, "sign_in", Some(member_id), digest, at, at + SIGN_IN).await
}

async fn insert(
    engine: &Engine,
    organization_id: Uuid,
    purpose: &str,
    member_id: Option<Uuid>,
    digest: &[u8; 32],
    at: OffsetDateTime,
    expires_at: OffsetDateTime,
) -> Result<(), Error> {
    run!(engine, connection => sqlx::query(
            "INSERT INTO one_time_token (id, organization_id, purpose, member_id, digest, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(Uuid::now_v7()).bind(organization_id).bind(purpose).bind(member_id).bind(digest.as_slice())
        .bind(at).bind(expires_at)
        .execute(connection).await.map(|_| ()))?;
    Ok(())
}

/// Whether this bootstrap token would open now; uses nothing up. Asked before a password is hashed for a stranger.
pub async fn bootstrap_is_live(engine: &Engine, digest: &[u8; 32], at: OffsetDateTime) -> Result<bool, Error> {
    let row: Option<(OffsetDateTime, Option<OffsetDateTime>)> = run!(engine, connection => sqlx::query_as(
            "SELECT expires_at, used_at FROM one_time_token WHERE digest = $1 AND purpose = 'bootstrap'",
        )
        .bind(digest.as_slice()).fetch_optional(connection).await)?;
    Ok(row.is_some_and(|(expires_at, used_at)| used_at.is_none() && at < expires_at))
}

/// Makes the first owner, or nothing: [`Error::Unauthenticated`] when the token does not open, a conflict when there is
/// a member already.
pub async fn claim_bootstrap(
    engine: &Engine,
    author: &Author,
    digest: &[u8; 32],
    new: &NewMember,
    password: &str,
    at: OffsetDateTime,
) -> Result<Member, Error> {
    let id = UserId::new().0;
    let mut transaction = engine.begin().await?;
    // First, because it locks the organization's row: claims go one after the other from here.
    let entry = Entry::done("bootstrap.claim", "user", id, serde_json::json!({ "email": new.email }));
    audit::append(&mut transaction, author, at, &entry).await?;
    let somebody: Option<Uuid> = run!(transaction, connection =>
        sqlx::query_scalar("SELECT id FROM member WHERE organization_id = $1 LIMIT 1")
            .bind(author.organization_id).fetch_optional(connection).await)?;
    if somebody.is_some() {
        let detail = "this installation has its first owner; sign in instead".to_owned();
        return Err(Error::Conflict(Conflict::Conflict, detail));
    }
    if use_up(&mut transaction, "bootstrap", digest, at).await?.is_none() {
        return Err(Error::Unauthenticated);
    }
    let member = member::insert(&mut transaction, author.organization_id, id, new, Some(password), at).await?;
    transaction.commit().await?;
    Ok(member)
}

/// Uses a sign-in link up; whom it signs in.
pub async fn claim_sign_in(engine: &Engine, digest: &[u8; 32], at: OffsetDateTime) -> Result<Option<Member>, Error> {
    let mut transaction = engine.begin().await?;
    let Some((organization_id, Some(member_id))) = use_up(&mut transaction, "sign_in", digest, at).await? else {
        return Ok(None);
    };
    transaction.commit().await?;
    member::get(engine, organization_id, member_id).await.map(Some)
}

async fn use_up(
    transaction: &mut Transaction,
    purpose: &str,
    digest: &[u8; 32],
    at: OffsetDateTime,
) -> Result<Option<(Uuid, Option<Uuid>)>, Error> {
    let row: Option<(Uuid, Option<Uuid>, OffsetDateTime)> = run!(transaction, connection => sqlx::query_as(
            "UPDATE one_time_token SET used_at = $3 WHERE digest = $2 AND purpose = $1 AND used_at IS NULL \
             RETURNING organization_id, member_id, expires_at",
        )
        .bind(purpose).bind(digest.as_slice()).bind(at).fetch_optional(connection).await)?;
    Ok(row.filter(|(_, _, expires_at)| at < *expires_at).map(|(organization, member, _)| (organization, member)))
}

/// Notes a claim or sign-in that was refused.
pub async fn note_refusal(
    engine: &Engine,
    author: &Author,
    action: &'static str,
    member_id: Option<Uuid>,
    details: serde_json::Value,
    at: OffsetDateTime,
) -> Result<(), Error> {
    let mut transaction = engine.begin().await?;
    let entry =
        Entry { action, resource_kind: "user", resource_id: member_id, outcome: Outcome::Denied, changes: details };
    audit::append(&mut transaction, author, at, &entry).await?;
    transaction.commit().await
}
