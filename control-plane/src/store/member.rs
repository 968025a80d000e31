//! Members: who can sign in, and in which role. There is always an owner; the check holds because the organization's
//! row is locked by the audit entry that every change here begins with.

use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::{self, Entry};
use super::change::Author;
use super::engine::{Engine, Transaction, run, violates_unique};
use crate::model::error::{Conflict, Error};
use crate::model::id::UserId;
use crate::model::role::Role;

/// One row. The password's hash is not part of it, see [`password_hash`].
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Member {
    /// Of the member.
    pub id: Uuid,
    /// Whose member.
    pub organization_id: Uuid,
    /// Lower case.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// What the member may do.
    #[sqlx(try_from = "String")]
    pub role: Role,
    /// When the row was made.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// What can be written of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// Lower case.
    pub email: String,
    /// For people.
    pub display_name: String,
    /// What the member may do.
    pub role: Role,
}

/// Whether anybody can sign in at all; false is the time for the bootstrap token.
pub async fn exists(engine: &Engine, organization_id: Uuid) -> Result<bool, Error> {
    let row: Option<Uuid> = run!(engine, connection =>
        sqlx::query_scalar("SELECT id FROM member WHERE organization_id = $1 LIMIT 1")
            .bind(organization_id).fetch_optional(connection).await)?;
    Ok(row.is_some())
}

/// By id.
pub async fn get(engine: &Engine, organization_id: Uuid, id: Uuid) -> Result<Member, Error> {
    let row: Option<Member> = run!(engine, connection => sqlx::query_as(
            "SELECT id, organization_id, email, display_name, role, created_at, updated_at FROM member \
             WHERE organization_id = $1 AND id = $2",
        )
        .bind(organization_id).bind(id).fetch_optional(connection).await)?;
    row.ok_or_else(|| Error::NotFound { noun: "user", key: UserId(id).to_string() })
}

/// By address, for signing in; with the password's hash, if there is one.
pub async fn find_by_email(engine: &Engine, email: &str) -> Result<Option<(Member, Option<String>)>, Error> {
    let row: Option<Member> = run!(engine, connection => sqlx::query_as(
            "SELECT id, organization_id, email, display_name, role, created_at, updated_at FROM member \
             WHERE email = $1",
        )
        .bind(email).fetch_optional(connection).await)?;
    let Some(member) = row else { return Ok(None) };
    let hash = password_hash(engine, member.id).await?;
    Ok(Some((member, hash)))
}

/// The argon2id PHC string; `None`: the member has no password and signs in by link alone.
pub async fn password_hash(engine: &Engine, id: Uuid) -> Result<Option<String>, Error> {
    let hash: Option<Option<String>> = run!(engine, connection =>
        sqlx::query_scalar("SELECT password FROM member WHERE id = $1").bind(id).fetch_optional(connection).await)?;
    Ok(hash.flatten())
}

/// After the id `after`, in order of ids; at most `limit`. `search` is a part of the address or name, lower case.
pub async fn list(
    engine: &Engine,
    organization_id: Uuid,
    after: Option<Uuid>,
    search: &str,
    limit: i64,
) -> Result<Vec<Member>, Error> {
    let pattern = super::contains(search);
    Ok(run!(engine, connection => sqlx::query_as(
            "SELECT id, organization_id, email, display_name, role, created_at, updated_at FROM member \
             WHERE organization_id = $1 AND id > $2 \
             AND (lower(email) LIKE $3 ESCAPE '\\' OR lower(display_name) LIKE $3 ESCAPE '\\') ORDER BY id LIMIT $4",
        )
        .bind(organization_id).bind(after.unwrap_or(Uuid::nil())).bind(&pattern).bind(limit)
        .fetch_all(connection).await)?)
}

/// Adds one.
pub async fn create(
    engine: &Engine,
    author: &Author,
    new: &NewMember,
    password: Option<&str>,
    at: OffsetDateTime,
) -> Result<Member, Error> {
    let id = UserId::new().0;
    let mut transaction = engine.begin().await?;
    let changes = serde_json::json!({ "email": new.email, "role": new.role, "displayName": new.display_name });
    audit::append(&mut transaction, author, at, &Entry::done("user.create", "user", id, changes)).await?;
    let member = insert(&mut transaction, author.organization_id, id, new, password, at).await?;
    transaction.commit().await?;
    Ok(member)
}

/// Writes the row, within a transaction that has its audit entry already.
pub(super) async fn insert(
    transaction: &mut Transaction,
    organization_id: Uuid,
    id: Uuid,
    new: &NewMember,
    password: Option<&str>,
    at: OffsetDateTime,
) -> Result<Member, Error> {
    let inserted = run!(transaction, connection => sqlx::query(
            "INSERT INTO member (id, organization_id, email, display_name, role, password, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7)",
        )
        .bind(id).bind(organization_id).bind(&new.email).bind(&new.display_name).bind(new.role.name())
        .bind(password).bind(at)
        .execute(connection).await.map(|_| ()));
    match inserted {
        Ok(()) => {}
        Err(error) if violates_unique(&error) => {
            let detail = format!("there is a user with the address {} already", new.email);
            return Err(Error::Conflict(Conflict::NameTaken, detail));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(Member {
        id,
        organization_id,
        email: new.email.clone(),
        display_name: new.display_name.clone(),
        role: new.role,
        created_at: at,
        updated_at: at,
    })
}

/// Replaces everything but the id; `password` only where given. A new role or password ends the member's sessions.
pub async fn replace(
    engine: &Engine,
    author: &Author,
    id: Uuid,
    new: &NewMember,
    password: Option<&str>,
    at: OffsetDateTime,
) -> Result<Member, Error> {
    let before = get(engine, author.organization_id, id).await?;
    let mut transaction = engine.begin().await?;
    let changes = serde_json::json!({
        "email": new.email, "role": new.role, "displayName": new.display_name,
        "previousRole": before.role, "password": password.is_some(),
    });
    audit::append(&mut transaction, author, at, &Entry::done("user.replace", "user", id, changes)).await?;
    if new.role != Role::Owner {
        keep_an_owner(&mut transaction, author.organization_id, id).await?;
    }
    let updated = run!(transaction, connection => sqlx::query(
            "UPDATE member SET email = $3, display_name = $4, role = $5, password = COALESCE($6, password), \
             updated_at = $7 WHERE organization_id = $1 AND id = $2",
        )
        .bind(author.organization_id).bind(id).bind(&new.email).bind(&new.display_name).bind(new.role.name())
        .bind(password).bind(at)
        .execute(connection).await.map(|done| done.rows_affected()));
    match updated {
        Ok(1) => {}
        Ok(_) => return Err(Error::NotFound { noun: "user", key: UserId(id).to_string() }),
        Err(error) if violates_unique(&error) => {
            let detail = format!("there is a user with the address {} already", new.email);
            return Err(Error::Conflict(Conflict::NameTaken, detail));
        }
        Err(error) => return Err(error.into()),
    }
    if new.role != before.role || password.is_some() {
        super::session::remove_of(&mut transaction, author.organization_id, id).await?;
    }
    transaction.commit().await?;
    get(engine, author.organization_id, id).await
}

/// Stores a stronger hash of the same password; no change that anybody made.
pub async fn rehash(engine: &Engine, id: Uuid, old: &str, new: &str) -> Result<(), Error> {
    run!(engine, connection => sqlx::query("UPDATE member SET password = $3 WHERE id = $1 AND password = $2")
        .bind(id).bind(old).bind(new).execute(connection).await.map(|_| ()))?;
    Ok(())
}

/// Removes one, with all sessions and tokens.
pub async fn remove(engine: &Engine, author: &Author, id: Uuid, at: OffsetDateTime) -> Result<(), Error> {
    let before = get(engine, author.organization_id, id).await?;
    let mut transaction = engine.begin().await?;
    let changes = serde_json::json!({ "email": before.email, "role": before.role });
    audit::append(&mut transaction, author, at, &Entry::done("user.remove", "user", id, changes)).await?;
    keep_an_owner(&mut transaction, author.organization_id, id).await?;
    let removed = run!(transaction, connection =>
        sqlx::query("DELETE FROM member WHERE organization_id = $1 AND id = $2")
            .bind(author.organization_id).bind(id).execute(connection).await.map(|done| done.rows_affected()))?;
    if removed == 0 {
        return Err(Error::NotFound { noun: "user", key: UserId(id).to_string() });
    }
    transaction.commit().await
}

/// Refuses to go on if nobody but `id` is an owner.
async fn keep_an_owner(transaction: &mut Transaction, organization_id: Uuid, id: Uuid) -> Result<(), Error> {
    let other: Option<Uuid> = run!(transaction, connection => sqlx::query_scalar(
            "SELECT id FROM member WHERE organization_id = $1 AND role = 'owner' AND id <> $2 LIMIT 1",
        )
        .bind(organization_id).bind(id).fetch_optional(connection).await)?;
    let role: Option<String> = run!(transaction, connection =>
        sqlx::query_scalar("SELECT role FROM member WHERE organization_id = $1 AND id = $2")
            .bind(organization_id).bind(id).fetch_optional(connection).await)?;
    if role.as_deref() == Some(Role::Owner.name()) && other.is_none() {
        let detail = "this is the only owner; make another member an owner first".to_owned();
        return Err(Error::Conflict(Conflict::Conflict, detail));
    }
    Ok(())
}

impl TryFrom<String> for Role {
    type Error = crate::model::role::UnknownRole;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}
