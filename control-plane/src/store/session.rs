//! Sessions of the console. The cookie's value is never stored, only its digest. Whether a session is still good is
//! decided here, from rows and a time that comes as an argument.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::audit::{self, Entry};
use super::change::Author;
use super::engine::{Engine, Transaction, run};
use crate::model::error::Error;
use crate::model::id::SessionId;
use crate::model::role::Role;

/// Without a request for this long, a session ends.
pub const IDLE: Duration = Duration::minutes(30);
/// A session ends after this long, whatever happens.
pub const ABSOLUTE: Duration = Duration::hours(12);
/// `last_seen_at` is written at most this often: a read of the console is not a write of the store.
const TOUCH: Duration = Duration::minutes(1);
/// Of one member at one time; the oldest goes when one more begins.
const AT_ONCE: usize = 20;

/// A good session and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Of the session.
    pub id: Uuid,
    /// Whose organization.
    pub organization_id: Uuid,
    /// Whose session.
    pub member_id: Uuid,
    /// What the member may do now.
    pub role: Role,
    /// When the session ends at the latest.
    pub expires_at: OffsetDateTime,
    /// The last request before this one, to a minute.
    pub last_seen_at: OffsetDateTime,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    organization_id: Uuid,
    member_id: Uuid,
    #[sqlx(try_from = "String")]
    role: Role,
    last_seen_at: OffsetDateTime,
    expires_at: OffsetDateTime,
}

/// Begins a session; `replaced` is the session that the same browser had before, which ends.
pub async fn create(
    engine: &Engine,
    author: &Author,
    member_id: Uuid,
    digest: &[u8; 32],
    replaced: Option<&[u8; 32]>,
    details: serde_json::Value,
    at: OffsetDateTime,
) -> Result<OffsetDateTime, Error> {
    let id = SessionId::new().0;
    let expires_at = at + ABSOLUTE;
    let mut transaction = engine.begin().await?;
    audit::append(&mut transaction, author, at, &Entry::done("session.create", "session", id, details)).await?;
    if let Some(replaced) = replaced {
        run!(transaction, connection => sqlx::query("DELETE FROM session WHERE digest = $1")
            .bind(replaced.as_slice()).execute(connection).await.map(|_| ()))?;
    }
    prune(&mut transaction, author.organization_id, member_id, at).await?;
    run!(transaction, connection => sqlx::query(
            "INSERT INTO session (id, organization_id, member_id, digest, created_at, last_seen_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $5, $6)",
        )
        .bind(id).bind(author.organization_id).bind(member_id).bind(digest.as_slice()).bind(at).bind(expires_at)
        .execute(connection).await.map(|_| ()))?;
    transaction.commit().await?;
    Ok(expires_at)
}

/// Ends what is over, and the oldest beyond [`AT_ONCE`].
async fn prune(
    transaction: &mut Transaction,
    organization_id: Uuid,
    member_id: Uuid,
    at: OffsetDateTime,
) -> Result<(), Error> {
    let rows: Vec<(Uuid, OffsetDateTime, OffsetDateTime)> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, last_seen_at, expires_at FROM session WHERE organization_id = $1 AND member_id = $2 \
             ORDER BY id DESC",
        )
        .bind(organization_id).bind(member_id).fetch_all(connection).await)?;
    let mut kept = 0;
    for (id, last_seen_at, expires_at) in rows {
        if is_good(last_seen_at, expires_at, at) && kept < AT_ONCE - 1 {
            kept += 1;
            continue;
        }
        run!(transaction, connection => sqlx::query("DELETE FROM session WHERE id = $1")
            .bind(id).execute(connection).await.map(|_| ()))?;
    }
    Ok(())
}

/// The good session with this digest. A database that is away is an error, never "no such session".
pub async fn find(engine: &Engine, digest: &[u8; 32], at: OffsetDateTime) -> Result<Option<Session>, Error> {
    let row: Option<Row> = run!(engine, connection => sqlx::query_as(
            "SELECT session.id, session.organization_id, session.member_id, member.role, session.last_seen_at, \
             session.expires_at FROM session JOIN member ON member.id = session.member_id WHERE session.digest = $1",
        )
        .bind(digest.as_slice()).fetch_optional(connection).await)?;
    Ok(row.filter(|row| is_good(row.last_seen_at, row.expires_at, at)).map(|row| {
        let Row { id, organization_id, member_id, role, last_seen_at, expires_at } = row;
        Session { id, organization_id, member_id, role, expires_at, last_seen_at }
    }))
}

fn is_good(last_seen_at: OffsetDateTime, expires_at: OffsetDateTime, at: OffsetDateTime) -> bool {
    at < expires_at && at - last_seen_at < IDLE
}

/// Notes that the session was used, if the last note is a minute old.
pub async fn touch(engine: &Engine, session: &Session, at: OffsetDateTime) -> Result<(), Error> {
    if at - session.last_seen_at < TOUCH {
        return Ok(());
    }
    run!(engine, connection => sqlx::query("UPDATE session SET last_seen_at = $2 WHERE id = $1")
        .bind(session.id).bind(at).execute(connection).await.map(|_| ()))?;
    Ok(())
}

/// Signs out.
pub async fn remove(engine: &Engine, author: &Author, id: Uuid, at: OffsetDateTime) -> Result<(), Error> {
    let mut transaction = engine.begin().await?;
    let entry = Entry::done("session.remove", "session", id, serde_json::json!({}));
    audit::append(&mut transaction, author, at, &entry).await?;
    run!(transaction, connection => sqlx::query("DELETE FROM session WHERE organization_id = $1 AND id = $2")
        .bind(author.organization_id).bind(id).execute(connection).await.map(|_| ()))?;
    transaction.commit().await
}

/// Ends every session of one member, within the change that asks for it.
pub(super) async fn remove_of(
    transaction: &mut Transaction,
    organization_id: Uuid,
    member_id: Uuid,
) -> Result<(), Error> {
    run!(transaction, connection => sqlx::query("DELETE FROM session WHERE organization_id = $1 AND member_id = $2")
        .bind(organization_id).bind(member_id).execute(connection).await.map(|_| ()))?;
    Ok(())
}
