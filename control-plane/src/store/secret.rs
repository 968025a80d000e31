//! Secrets as rows: sealed before they get here, opened by nobody but the snapshot.

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::audit::Entry;
use super::change::{Author, Change, Kind};
use super::engine::{Transaction, execute, run};
use super::{Store, Written};
use crate::model::error::{Conflict, Error, Violation};
use crate::model::id::SecretId;
use crate::model::name::{Key, Name};
use crate::model::page::Page;
use crate::model::resource::{Draft, Resource};
use crate::model::secret::{SecretInput, SecretSpec, check_value};
use crate::seal::{Keyring, Place};
use crate::sensitive::Sensitive;

/// Where a secret's value stands: it opens nowhere else.
pub const fn place(id: Uuid, version: i64) -> Place {
    Place { table: "secret", row: id, column: "sealed", version }
}

/// One row, without its value.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Row {
    /// Of the secret.
    pub id: Uuid,
    name: String,
    version: i64,
    last4: String,
    /// The provider it was made for.
    pub endpoint_id: Option<Uuid>,
    /// That last changed it.
    pub revision: i64,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

/// By id or name, or `not found`.
pub async fn require(transaction: &mut Transaction, organization_id: Uuid, key: &str) -> Result<Row, Error> {
    find(transaction, organization_id, key)
        .await?
        .ok_or_else(|| Error::NotFound { noun: "secret", key: key.to_owned() })
}

/// By id or name.
pub async fn find(transaction: &mut Transaction, organization_id: Uuid, key: &str) -> Result<Option<Row>, Error> {
    let key = Key::read(key, &[SecretId::PREFIX]);
    let (id, name) = key.parts();
    Ok(run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, version, last4, endpoint_id, revision, created_at, updated_at FROM secret \
             WHERE organization_id = $1 AND (id = $2 OR name = $3)",
        )
        .bind(organization_id).bind(id).bind(name).fetch_optional(connection).await)?)
}

/// The visible end of each value, by secret.
pub async fn ends(transaction: &mut Transaction, organization_id: Uuid) -> Result<Vec<(Uuid, String)>, Error> {
    Ok(run!(transaction, connection => sqlx::query_as("SELECT id, last4 FROM secret WHERE organization_id = $1")
        .bind(organization_id).fetch_all(connection).await)?)
}

/// One secret as it is read.
pub async fn get(store: &Store, organization_id: Uuid, key: &str) -> Result<Resource<SecretSpec>, Error> {
    let mut transaction = store.read().await?;
    let row = require(&mut transaction, organization_id, key).await?;
    view(&mut transaction, row).await
}

/// In order of names.
pub async fn list(store: &Store, organization_id: Uuid, page: &Page) -> Result<Vec<Resource<SecretSpec>>, Error> {
    let mut transaction = store.read().await?;
    let rows: Vec<Row> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, version, last4, endpoint_id, revision, created_at, updated_at FROM secret \
             WHERE organization_id = $1 AND ($2 IS NULL OR name > $2) AND name LIKE $3 ESCAPE '!' \
             ORDER BY name LIMIT $4",
        )
        .bind(organization_id).bind(&page.after).bind(page.pattern()).bind(page.rows())
        .fetch_all(connection).await)?;
    let mut views = Vec::with_capacity(rows.len());
    for row in rows {
        views.push(view(&mut transaction, row).await?);
    }
    Ok(views)
}

/// A new secret of its own.
pub async fn create(
    store: &Store,
    keyring: &Keyring,
    author: &Author,
    draft: Draft<SecretInput>,
) -> Result<Written<Resource<SecretSpec>>, Error> {
    check(&draft.spec.value)?;
    let mut change = Change::begin(store, author).await?;
    check_name(&mut change, None, &draft.name).await?;
    let id = insert(&mut change, keyring, draft.name.as_str(), &draft.spec.value, None).await?;
    finish(change, id, "secret.create", json!({ "name": draft.name })).await
}

/// A new value, a new name.
pub async fn replace(
    store: &Store,
    keyring: &Keyring,
    author: &Author,
    (key, draft): (&str, Draft<SecretInput>),
    check_base: impl FnOnce(&Resource<SecretSpec>) -> Result<(), Error>,
) -> Result<Written<Resource<SecretSpec>>, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, key).await?;
    check_base(&view(change.transaction(), row.clone()).await?)?;
    check(&draft.spec.value)?;
    check_name(&mut change, Some(row.id), &draft.name).await?;
    let name = draft.name.as_str();
    let revision = change.revision();
    execute!(
        change,
        sqlx::query("UPDATE secret SET name = $2, revision = $3 WHERE id = $1").bind(row.id).bind(name).bind(revision)
    )?;
    overwrite(&mut change, keyring, row.id, &draft.spec.value).await?;
    finish(change, row.id, "secret.replace", json!({ "name": { "from": row.name, "to": name }, "value": "replaced" }))
        .await
}

/// Removes a secret that nothing uses.
pub async fn delete(
    store: &Store,
    author: &Author,
    key: &str,
    check_base: impl FnOnce(i64) -> Result<(), Error>,
) -> Result<i64, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = require(change.transaction(), author.organization_id, key).await?;
    check_base(row.revision)?;
    if let Some(user) = users(change.transaction(), row.id).await?.first() {
        let detail = format!("the secret `{}` is the credential of `{user}`", row.name);
        return Err(Error::Conflict(Conflict::InUse, detail));
    }
    remove(&mut change, row.id).await?;
    let entry = Entry::done("secret.remove", "secret", row.id, json!({ "name": row.name }));
    Ok(change.commit(entry).await?.revision)
}

/// Writes a new secret; `owner` is the provider whose credential was typed in.
pub(super) async fn insert(
    change: &mut Change<'_>,
    keyring: &Keyring,
    name: &str,
    value: &Sensitive,
    owner: Option<Uuid>,
) -> Result<Uuid, Error> {
    let id = SecretId::new().0;
    let sealed = keyring.seal(&place(id, 1), value);
    let (organization_id, revision, at) = (change.organization_id(), change.revision(), change.at());
    execute!(
        change,
        sqlx::query(
            "INSERT INTO secret (id, organization_id, name, version, sealed, last4, endpoint_id, revision, created_at, \
             updated_at) VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $8)",
        )
        .bind(id)
        .bind(organization_id)
        .bind(name)
        .bind(sealed)
        .bind(value.last4())
        .bind(owner)
        .bind(revision)
        .bind(at)
    )?;
    change.put(Kind::Secret, id);
    Ok(id)
}

/// Gives a secret its next value: current everywhere at once.
pub(super) async fn overwrite(
    change: &mut Change<'_>,
    keyring: &Keyring,
    id: Uuid,
    value: &Sensitive,
) -> Result<(), Error> {
    let version: i64 = run!(change, connection => sqlx::query_scalar("SELECT version FROM secret WHERE id = $1")
        .bind(id).fetch_one(connection).await)?;
    let sealed = keyring.seal(&place(id, version + 1), value);
    let (revision, at) = (change.revision(), change.at());
    execute!(
        change,
        sqlx::query(
            "UPDATE secret SET version = $2, sealed = $3, last4 = $4, revision = $5, updated_at = $6 WHERE id = $1",
        )
        .bind(id)
        .bind(version + 1)
        .bind(sealed)
        .bind(value.last4())
        .bind(revision)
        .bind(at)
    )?;
    change.put_urgent(Kind::Secret, id);
    Ok(())
}

/// Removes the row.
pub(super) async fn remove(change: &mut Change<'_>, id: Uuid) -> Result<(), Error> {
    execute!(change, sqlx::query("DELETE FROM secret WHERE id = $1").bind(id))?;
    change.remove(Kind::Secret, id);
    Ok(())
}

/// Names of the endpoints whose draft or live deployment uses it.
pub(super) async fn users(transaction: &mut Transaction, id: Uuid) -> Result<Vec<String>, Error> {
    Ok(run!(transaction, connection => sqlx::query_scalar(
            "SELECT name FROM endpoint WHERE secret_id = $1 UNION \
             SELECT endpoint.name FROM deployment JOIN endpoint ON endpoint.id = deployment.endpoint_id \
             WHERE deployment.secret_id = $1 AND status IN ('deploying', 'deployed', 'rejected') ORDER BY 1",
        )
        .bind(id).fetch_all(connection).await)?)
}

async fn view(transaction: &mut Transaction, row: Row) -> Result<Resource<SecretSpec>, Error> {
    let used_by = users(transaction, row.id).await?;
    let Row { id, name, version, last4, endpoint_id: _, revision, created_at, updated_at } = row;
    let spec = SecretSpec { last4, version, used_by };
    Ok(Resource { id: SecretId(id).to_string(), name: Name::stored(name), revision, created_at, updated_at, spec })
}

async fn finish(
    mut change: Change<'_>,
    id: Uuid,
    action: &'static str,
    changes: serde_json::Value,
) -> Result<Written<Resource<SecretSpec>>, Error> {
    let organization_id = change.organization_id();
    let row = require(change.transaction(), organization_id, &SecretId(id).to_string()).await?;
    let value = view(change.transaction(), row).await?;
    let committed = change.commit(Entry::done(action, "secret", id, changes)).await?;
    Ok(Written { value, revision: committed.revision })
}

fn check(value: &Sensitive) -> Result<(), Error> {
    check_value(value).map_err(|message| Violation::invalid("/value", message).into())
}

async fn check_name(change: &mut Change<'_>, own: Option<Uuid>, name: &Name) -> Result<(), Error> {
    let organization_id = change.organization_id();
    match find(change.transaction(), organization_id, name.as_str()).await? {
        Some(other) if Some(other.id) != own => {
            Err(Error::Conflict(Conflict::NameTaken, format!("the secret `{name}` has this name")))
        }
        Some(_) | None => Ok(()),
    }
}
