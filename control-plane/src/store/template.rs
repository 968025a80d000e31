//! The built-in templates' rows: they mirror the binary's data files, so that other data is a revision like any other
//! and reaches the nodes like any other.

use serde_json::json;
use sqlx::types::Json;
use uuid::Uuid;

use super::Store;
use super::audit::Entry;
use super::change::{Author, Change, Kind};
use super::engine::{Transaction, execute, run};
use crate::model::error::Error;
use crate::model::id::TemplateId;
use crate::model::name::Name;
use crate::model::template::{Template, TemplateSpec, Templates};

/// Brings the rows of the first organization up to the binary's data; does nothing when they are. Called at start.
pub async fn sync(store: &Store, templates: &Templates) -> Result<(), Error> {
    let author = Author::system(store.first_organization());
    let mut transaction = store.read().await?;
    let current = stale(&mut transaction, author.organization_id, templates).await?;
    drop(transaction);
    if current.is_empty() {
        return Ok(());
    }
    let mut change = Change::begin(store, &author).await?;
    // Again, now that nobody else writes.
    let stale = stale(change.transaction(), author.organization_id, templates).await?;
    let Some(first) = stale.first() else { return Ok(()) };
    let first = first.id.0;
    let names: Vec<String> = stale.iter().map(|template| template.name.to_string()).collect();
    let (revision, at) = (change.revision(), change.at());
    for template in stale {
        execute!(
            change,
            sqlx::query(
                "INSERT INTO template \
                 (id, organization_id, name, builtin, digest, spec, revision, created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8) ON CONFLICT (organization_id, id) DO UPDATE SET \
                 name = excluded.name, digest = excluded.digest, spec = excluded.spec, \
                 revision = excluded.revision, updated_at = excluded.updated_at",
            )
            .bind(template.id.0)
            .bind(author.organization_id)
            .bind(template.name.as_str())
            .bind(true)
            .bind(template.digest().to_vec())
            .bind(Json(&template.spec))
            .bind(revision)
            .bind(at)
        )?;
        change.put(Kind::Template, template.id.0);
    }
    change.commit(Entry::done("template.sync", "template", first, json!({ "templates": names }))).await?;
    Ok(())
}

async fn stale<'t>(
    transaction: &mut Transaction,
    organization_id: Uuid,
    templates: &'t Templates,
) -> Result<Vec<&'t Template>, Error> {
    let rows: Vec<(Uuid, Vec<u8>)> = run!(transaction, connection =>
        sqlx::query_as("SELECT id, digest FROM template WHERE organization_id = $1")
            .bind(organization_id).fetch_all(connection).await)?;
    let known = |template: &&Template| {
        let digest = template.digest();
        rows.iter().any(|(id, stored)| *id == template.id.0 && stored.as_slice() == digest)
    };
    Ok(templates.all().iter().filter(|template| !known(template)).collect())
}

/// All, in order of their ids, with the revision that brought each.
pub(super) async fn all(transaction: &mut Transaction, organization_id: Uuid) -> Result<Vec<(Template, i64)>, Error> {
    let rows: Vec<(Uuid, String, Json<TemplateSpec>, i64)> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, name, spec, revision FROM template WHERE organization_id = $1 ORDER BY id",
        )
        .bind(organization_id).fetch_all(connection).await)?;
    Ok(rows
        .into_iter()
        .map(|(id, name, Json(spec), revision)| {
            (Template { id: TemplateId(id), name: Name::stored(name), spec }, revision)
        })
        .collect())
}
