//! Prices as rows: what the binary brings for each template, and what the organization set over it.

use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::types::Json;
use uuid::Uuid;

use super::audit::Entry;
use super::change::{Author, Change, Kind};
use super::engine::{Transaction, execute, run};
use super::{Store, Written, endpoint};
use crate::model::deployment::EndpointKind;
use crate::model::error::Error;
use crate::model::price::{Price, PriceList, PriceListInput, PriceScope, Shipped, shipped};
use crate::model::template::Templates;

/// A list as it lies in the store.
#[derive(Clone, Debug)]
pub struct Row {
    /// `shipped`, `template` or `provider`.
    pub scope: String,
    /// Of the template or the provider.
    pub id: Uuid,
    /// The prices and, of shipped ones, their version.
    pub list: Kept,
    /// That last changed it.
    pub revision: i64,
}

/// What the `prices` column holds.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Kept {
    /// Of shipped ones.
    #[serde(default)]
    pub version: Option<String>,
    /// All of them.
    pub prices: Vec<Price>,
}

/// Brings the shipped rows up to the binary's data; does nothing when they are. Called at start.
pub async fn sync(store: &Store, shipped: &[Shipped]) -> Result<(), Error> {
    let author = Author::system(store.first_organization());
    let mut transaction = store.read().await?;
    let current = stale(&mut transaction, author.organization_id, shipped).await?;
    drop(transaction);
    if current.is_empty() {
        return Ok(());
    }
    let mut change = Change::begin(store, &author).await?;
    // Again, now that nobody else writes.
    let stale = stale(change.transaction(), author.organization_id, shipped).await?;
    let Some(first) = stale.first() else { return Ok(()) };
    let first = first.template;
    let versions: Vec<&str> = stale.iter().map(|list| list.version.as_str()).collect();
    for list in &stale {
        let kept = Kept { version: Some(list.version.clone()), prices: list.prices.clone() };
        put(&mut change, "shipped", list.template, &kept, &list.digest()).await?;
    }
    change.commit(Entry::done("prices.sync", "prices", first, json!({ "versions": versions }))).await?;
    Ok(())
}

async fn stale<'s>(
    transaction: &mut Transaction,
    organization_id: Uuid,
    shipped: &'s [Shipped],
) -> Result<Vec<&'s Shipped>, Error> {
    let rows: Vec<(Uuid, Vec<u8>)> = run!(transaction, connection =>
        sqlx::query_as("SELECT id, digest FROM price_list WHERE organization_id = $1 AND scope = 'shipped'")
            .bind(organization_id).fetch_all(connection).await)?;
    let known = |list: &&Shipped| rows.iter().any(|(id, digest)| *id == list.template && *digest == list.digest());
    Ok(shipped.iter().filter(|list| !known(list)).collect())
}

async fn put(change: &mut Change<'_>, scope: &str, id: Uuid, kept: &Kept, digest: &[u8]) -> Result<(), Error> {
    let (organization_id, revision, at) = (change.organization_id(), change.revision(), change.at());
    execute!(
        change,
        sqlx::query(
            "INSERT INTO price_list (organization_id, scope, id, prices, digest, revision, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (organization_id, scope, id) DO UPDATE SET \
             prices = excluded.prices, digest = excluded.digest, revision = excluded.revision, \
             updated_at = excluded.updated_at",
        )
        .bind(organization_id)
        .bind(scope)
        .bind(id)
        .bind(Json(kept))
        .bind(digest)
        .bind(revision)
        .bind(at)
    )?;
    change.put(Kind::Prices, id);
    Ok(())
}

/// All rows of an organization.
pub async fn rows(transaction: &mut Transaction, organization_id: Uuid) -> Result<Vec<Row>, Error> {
    let rows: Vec<(String, Uuid, Json<Kept>, i64)> = run!(transaction, connection => sqlx::query_as(
            "SELECT scope, id, prices, revision FROM price_list WHERE organization_id = $1 ORDER BY scope, id",
        )
        .bind(organization_id).fetch_all(connection).await)?;
    Ok(rows.into_iter().map(|(scope, id, Json(list), revision)| Row { scope, id, list, revision }).collect())
}

/// Every template, then every provider with prices of its own.
pub async fn list(store: &Store, organization_id: Uuid, templates: &Templates) -> Result<Vec<PriceList>, Error> {
    let mut transaction = store.read().await?;
    let rows = rows(&mut transaction, organization_id).await?;
    let names: Vec<(Uuid, String)> = run!(transaction, connection => sqlx::query_as(
            "SELECT id, name FROM endpoint WHERE organization_id = $1 AND kind = 'provider' ORDER BY name",
        )
        .bind(organization_id).fetch_all(connection).await)?;
    let of_templates = templates.all().iter().map(|template| {
        let name = template.name.as_str().to_owned();
        view(&rows, Owner { scope: PriceScope::Template, id: template.id.0, name })
    });
    let own = |id: &Uuid| rows.iter().any(|row| row.scope == PriceScope::Provider.as_str() && row.id == *id);
    let of_providers = names
        .into_iter()
        .filter(|(id, _)| own(id))
        .map(|(id, name)| view(&rows, Owner { scope: PriceScope::Provider, id, name }));
    Ok(of_templates.chain(of_providers).collect())
}

struct Owner {
    scope: PriceScope,
    id: Uuid,
    name: String,
}

fn view(rows: &[Row], owner: Owner) -> PriceList {
    let Owner { scope, id, name } = owner;
    let find = |kind: &str| rows.iter().find(|row| row.scope == kind && row.id == id);
    let (own, shipped) = (find(scope.as_str()), find("shipped"));
    PriceList {
        scope,
        name,
        prices: own.map(|row| row.list.prices.clone()).unwrap_or_default(),
        shipped: shipped.map(|row| row.list.prices.clone()).unwrap_or_default(),
        version: shipped.and_then(|row| row.list.version.clone()),
        revision: own.map_or(0, |row| row.revision),
    }
}

async fn find(
    transaction: &mut Transaction,
    organization_id: Uuid,
    templates: &Templates,
    (scope, key): (PriceScope, &str),
) -> Result<Owner, Error> {
    match scope {
        PriceScope::Template => {
            let template =
                templates.find(key).ok_or_else(|| Error::NotFound { noun: "template", key: key.to_owned() })?;
            Ok(Owner { scope, id: template.id.0, name: template.name.as_str().to_owned() })
        }
        PriceScope::Provider => {
            let row = endpoint::find(transaction, organization_id, Some(EndpointKind::Provider), key).await?;
            let row = row.ok_or_else(|| Error::NotFound { noun: "llm provider", key: key.to_owned() })?;
            Ok(Owner { scope, id: row.id, name: row.name })
        }
    }
}

/// The prices of one template or provider.
pub async fn get(
    store: &Store,
    organization_id: Uuid,
    templates: &Templates,
    key: (PriceScope, &str),
) -> Result<PriceList, Error> {
    let mut transaction = store.read().await?;
    let scope = find(&mut transaction, organization_id, templates, key).await?;
    Ok(view(&rows(&mut transaction, organization_id).await?, scope))
}

/// Sets all of one template's or provider's own prices; `None` takes them away.
pub async fn replace(
    store: &Store,
    author: &Author,
    templates: &Templates,
    (key, input): ((PriceScope, &str), Option<PriceListInput>),
    check_base: impl FnOnce(&PriceList) -> Result<(), Error>,
) -> Result<Written<PriceList>, Error> {
    let mut change = Change::begin(store, author).await?;
    let Owner { scope, id, name } = find(change.transaction(), author.organization_id, templates, key).await?;
    let before = rows(change.transaction(), author.organization_id).await?;
    check_base(&view(&before, Owner { scope, id, name: name.clone() }))?;
    let action = if let Some(input) = input {
        input.check().map_err(Error::Invalid)?;
        let kept = Kept { version: None, prices: input.prices };
        let text = serde_json::to_vec(&kept).expect("prices are plain data");
        put(&mut change, scope.as_str(), id, &kept, &Sha256::digest(text)).await?;
        "prices.replace"
    } else {
        let query = "DELETE FROM price_list WHERE organization_id = $1 AND scope = $2 AND id = $3";
        execute!(change, sqlx::query(query).bind(author.organization_id).bind(scope.as_str()).bind(id))?;
        // Gone for a provider, fewer for a template: the catalogue says which.
        change.put(Kind::Prices, id);
        "prices.remove"
    };
    let after = rows(change.transaction(), author.organization_id).await?;
    let value = view(&after, Owner { scope, id, name: name.clone() });
    let changes = json!({ "scope": scope.as_str(), "name": name, "prices": value.prices });
    let committed = change.commit(Entry::done(action, "prices", id, changes)).await?;
    Ok(Written { value, revision: committed.revision })
}

/// Notes that a gateway may need other prices: one of its providers came or went.
pub(super) async fn touch(change: &mut Change<'_>, provider_id: Uuid, template: &str) -> Result<(), Error> {
    let organization_id = change.organization_id();
    let template: Option<Uuid> = run!(change, connection =>
        sqlx::query_scalar("SELECT id FROM template WHERE organization_id = $1 AND name = $2")
            .bind(organization_id).bind(template).fetch_optional(connection).await)?;
    for id in template.into_iter().chain([provider_id]) {
        change.put(Kind::Prices, id);
    }
    Ok(())
}

/// Reads the binary's data and brings the rows up to it.
pub async fn sync_shipped(store: &Store, templates: &Templates) -> Result<(), Error> {
    let shipped = shipped(templates).map_err(|error| Error::Internal(crate::model::error::Internal::new(error)))?;
    sync(store, &shipped).await
}
