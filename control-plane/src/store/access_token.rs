//! Personal access tokens: what scripts sign in with. A token acts as its member, in the member's role of the moment.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::change::Author;
use super::engine::{Engine, run};
use crate::model::error::Error;
use crate::model::id::TokenId;
use crate::model::role::Role;

/// `last_used_at` is written at most this often.
const TOUCH: Duration = Duration::minutes(1);

/// One row. The token itself is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct AccessToken {
    /// Of the token.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// The token's last four characters.
    pub last4: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// `None`: never.
    pub expires_at: Option<OffsetDateTime>,
    /// To a minute.
    pub last_used_at: Option<OffsetDateTime>,
}

/// Whose token it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    /// Of the token.
    pub id: Uuid,
    /// Whose organization.
    pub organization_id: Uuid,
    /// Whom it acts as.
    pub member_id: Uuid,
    /// What that member may do now.
    pub role: Role,
    /// `None`: never.
    pub expires_at: Option<OffsetDateTime>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    organization_id: Uuid,
    member_id: Uuid,
    #[sqlx(try_from = "String")]
    role: Role,
    expires_at: Option<OffsetDateTime>,
    last_used_at: Option<OffsetDateTime>,
}

/// What a new token is.
#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    /// For people.
    pub name: &'a str,
    /// SHA-256 of the whole text.
    pub digest: [u8; 32],
    /// The text's last four characters.
    pub last4: &'a str,
    /// `None`: never.
    pub expires_at: Option<OffsetDateTime>,
}

/// Adds one for a member.
pub async fn create(
    engine: &Engine,
    author: &Author,
    member_id: Uuid,
    new: &NewToken<'_>,
    at: OffsetDateTime,
) -> Result<AccessToken, Error> {
    let id = TokenId::new().0;
    let mut transaction = engine.begin().await?;
    let changes = serde_json::json!({ "name": new.name, "last4": new.last4 });
    audit::append(&mut transaction, author, at, &Entry::done("token.create", "token", id, changes)).await?;
    run!(transaction, connection => sqlx::query(
            "INSERT INTO access_token (id, organization_id, member_id, name, digest, last4, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id).bind(author.organization_id).bind(member_id).bind(new.name).bind(new.digest.as_slice())
        .bind(new.last4).bind(at).bind(new.expires_at)
        .execute(connection).await.map(|_| ()))?;
    transaction.commit().await?;
    Ok(AccessToken {
        id,
        name: new.name.to_owned(),
        last4: new.last4.to_owned(),
        created_at: at,
        expires_at: new.expires_at,
        last_used_at: None,
    })
}

/// Of one member, after the id `after`, in order of ids; at most `limit`. `search` is a part of the name, lower case.
pub async fn list(
    engine: &Engine,
    organization_id: Uuid,
    member_id: Uuid,
    after: Option<Uuid>,
    search: &str,
    limit: i64,
) -> Result<Vec<AccessToken>, Error> {
    Ok(run!(engine, connection => sqlx::query_as(
            "SELECT id, name, last4, created_at, expires_at, last_used_at FROM access_token \
             WHERE organization_id = $1 AND member_id = $2 AND id > $3 AND lower(name) LIKE $4 ESCAPE '\\' \
             ORDER BY id LIMIT $5",
        )
        .bind(organization_id).bind(member_id).bind(after.unwrap_or(Uuid::nil()))
        .bind(super::contains(search)).bind(limit)
        .fetch_all(connection).await)?)
}

/// The good token with this digest; notes its use.
pub async fn find(engine: &Engine, digest: &[u8; 32], at: OffsetDateTime) -> Result<Option<Bearer>, Error> {
    let row: Option<Row> = run!(engine, connection => sqlx::query_as(
            "SELECT access_token.id, access_token.organization_id, access_token.member_id, member.role, \
             access_token.expires_at, access_token.last_used_at \
             FROM access_token JOIN member ON member.id = access_token.member_id WHERE access_token.digest = $1",
        )
        .bind(digest.as_slice()).fetch_optional(connection).await)?;
    let Some(row) = row.filter(|row| row.expires_at.is_none_or(|expires_at| at < expires_at)) else {
        return Ok(None);
    };
    if row.last_used_at.is_none_or(|last| at - last >= TOUCH) {
        run!(engine, connection => sqlx::query("UPDATE access_token SET last_used_at = $2 WHERE id = $1")
            .bind(row.id).bind(at).execute(connection).await.map(|_| ()))?;
    }
    let Row { id, organization_id, member_id, role, expires_at, last_used_at: _ } = row;
    Ok(Some(Bearer { id, organization_id, member_id, role, expires_at }))
}

/// Revokes one of a member's tokens.
pub async fn remove(
    engine: &Engine,
    author: &Author,
    member_id: Uuid,
    id: Uuid,
    at: OffsetDateTime,
) -> Result<(), Error> {
    let mut transaction = engine.begin().await?;
    let entry = Entry::done("token.remove", "token", id, serde_json::json!({}));
    audit::append(&mut transaction, author, at, &entry).await?;
    let removed = run!(transaction, connection => sqlx::query(
            "DELETE FROM access_token WHERE organization_id = $1 AND member_id = $2 AND id = $3",
        )
        .bind(author.organization_id).bind(member_id).bind(id)
        .execute(connection).await.map(|done| done.rows_affected()))?;
    if removed == 0 {
        return Err(Error::NotFound { noun: "token", key: TokenId(id).to_string() });
    }
    transaction.commit().await
}

/// Revokes every token of a member that has this name; for tokens that are made anew at every start.
pub async fn remove_named(engine: &Engine, organization_id: Uuid, member_id: Uuid, name: &str) -> Result<(), Error> {
    run!(engine, connection =>
        sqlx::query("DELETE FROM access_token WHERE organization_id = $1 AND member_id = $2 AND name = $3")
            .bind(organization_id).bind(member_id).bind(name).execute(connection).await.map(|_| ()))?;
    Ok(())
}
