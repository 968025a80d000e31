//! LLM proxies: their draft, and the providers it stands on.

use serde_json::json;
use uuid::Uuid;

use super::audit::{Entry, difference};
use super::change::{Author, Change};
use super::engine::{Transaction, execute, run};
use super::{Store, Written, endpoint};
use crate::model::deployment::EndpointKind;
use crate::model::endpoint::LlmProxy;
use crate::model::error::{Error, Internal, Violation};
use crate::model::id::{ProviderId, ProxyId};
use crate::model::page::Page;
use crate::model::provider::ProviderSpec;
use crate::model::proxy::{ProxySpec, ProxyTarget};
use crate::model::resource::Draft;
use crate::model::template::{Template, Templates};

/// One proxy.
pub async fn get(store: &Store, organization_id: Uuid, key: &str) -> Result<LlmProxy, Error> {
    let mut transaction = store.read().await?;
    let row = endpoint::require::<ProxySpec>(&mut transaction, organization_id, key).await?;
    view(&mut transaction, organization_id, &row).await
}

/// In order of names.
pub async fn list(store: &Store, organization_id: Uuid, page: &Page) -> Result<Vec<LlmProxy>, Error> {
    let mut transaction = store.read().await?;
    let rows = endpoint::list(&mut transaction, organization_id, EndpointKind::Proxy, page).await?;
    let standings = endpoint::standings(&mut transaction, organization_id, None).await?;
    let names = provider_names(&mut transaction, organization_id).await?;
    rows.iter().map(|row| Ok(with_names(standings.view(row, Vec::new())?, &names))).collect()
}

/// A new proxy; nothing is served until it is deployed.
pub async fn create(
    store: &Store,
    templates: &Templates,
    author: &Author,
    draft: Draft<ProxySpec>,
) -> Result<Written<LlmProxy>, Error> {
    let mut change = Change::begin(store, author).await?;
    let spec = resolve(&mut change, templates, draft.spec).await?;
    endpoint::check_free(&mut change, None, &draft.name, &spec.context).await?;
    let id = ProxyId::new().0;
    endpoint::insert(&mut change, id, &draft.name, &spec).await?;
    targets(&mut change, id, &spec).await?;
    let changes = json!({ "name": draft.name, "spec": spec });
    finish(change, id, "llm-proxy.create", changes).await
}

/// Another draft; what is deployed goes on as it was, but for `disabled`.
pub async fn replace(
    store: &Store,
    templates: &Templates,
    author: &Author,
    (key, draft): (&str, Draft<ProxySpec>),
    check_base: impl FnOnce(&LlmProxy) -> Result<(), Error>,
) -> Result<Written<LlmProxy>, Error> {
    let mut change = Change::begin(store, author).await?;
    let organization_id = author.organization_id;
    let before = endpoint::require::<ProxySpec>(change.transaction(), organization_id, key).await?;
    check_base(&view(change.transaction(), organization_id, &before).await?)?;
    let spec = resolve(&mut change, templates, draft.spec).await?;
    endpoint::check_free(&mut change, Some(before.id), &draft.name, &spec.context).await?;
    endpoint::update(&mut change, &before, &draft.name, &spec).await?;
    targets(&mut change, before.id, &spec).await?;
    let changes = difference(
        &json!({ "name": before.name, "spec": before.spec.0 }),
        &json!({ "name": draft.name, "spec": spec }),
    );
    finish(change, before.id, "llm-proxy.replace", changes).await
}

/// Removes a proxy that is deployed nowhere.
pub async fn delete(
    store: &Store,
    author: &Author,
    key: &str,
    check_base: impl FnOnce(i64) -> Result<(), Error>,
) -> Result<i64, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = endpoint::require::<ProxySpec>(change.transaction(), author.organization_id, key).await?;
    check_base(row.revision)?;
    endpoint::delete(&mut change, &row).await?;
    let entry = Entry::done("llm-proxy.remove", "llm-proxy", row.id, json!({ "name": row.name }));
    Ok(change.commit(entry).await?.revision)
}

/// The providers that a kept spec stands on, in order.
pub(super) fn providers_of(spec: &ProxySpec) -> Result<Vec<Uuid>, Error> {
    let id = |target: &ProxyTarget| target.provider.parse::<ProviderId>().map(|id| id.0);
    let ids: Vec<Uuid> = spec.targets.iter().map(id).collect::<Result<_, _>>().unwrap_or_default();
    if ids.is_empty() { Err(Error::Internal(Internal::message("a proxy without a provider"))) } else { Ok(ids) }
}

/// The form to keep, with every provider found. All speak the dialect of the first.
async fn resolve(change: &mut Change<'_>, templates: &Templates, spec: ProxySpec) -> Result<ProxySpec, Error> {
    let organization_id = change.organization_id();
    let mut targets: Vec<ProxyTarget> = Vec::new();
    let mut first: Option<&Template> = None;
    for (ProxyTarget { provider: key, weight, priority, aliases }, pointer) in spec.named()? {
        let found = endpoint::find(change.transaction(), organization_id, Some(EndpointKind::Provider), &key).await?;
        let Some(provider) = found else {
            let names = provider_names(change.transaction(), organization_id).await?;
            let names = names.iter().map(|(_, name)| name.as_str());
            let message = format!("there is no llm provider `{key}`");
            return Err(Violation::new(pointer, "not_found", message).suggest(&key, names).into());
        };
        let template = templates.named(&provider.spec::<ProviderSpec>()?.template)?;
        if first.is_some_and(|first| first.spec.dialect != template.spec.dialect) {
            let message = "speaks another dialect than the first; all targets of a proxy speak one";
            return Err(Violation::invalid(pointer, message).into());
        }
        first = first.or(Some(template));
        let id = ProviderId(provider.id).to_string();
        if targets.iter().any(|target| target.provider == id) {
            return Err(Violation::invalid(pointer, "is named twice; raise its weight instead").into());
        }
        targets.push(ProxyTarget { provider: id, weight, priority, aliases });
    }
    let locations = first.map(|first| first.spec.key_locations.as_slice()).unwrap_or_default();
    Ok(spec.accept(locations)?.standing_on(targets))
}

async fn targets(change: &mut Change<'_>, proxy_id: Uuid, spec: &ProxySpec) -> Result<(), Error> {
    let organization_id = change.organization_id();
    execute!(change, sqlx::query("DELETE FROM proxy_target WHERE proxy_id = $1").bind(proxy_id))?;
    for (position, provider_id) in (0_i64..).zip(providers_of(spec)?) {
        execute!(
            change,
            sqlx::query(
                "INSERT INTO proxy_target (organization_id, proxy_id, position, provider_id) VALUES ($1, $2, $3, $4)",
            )
            .bind(organization_id)
            .bind(proxy_id)
            .bind(position)
            .bind(provider_id)
        )?;
    }
    Ok(())
}

async fn view(transaction: &mut Transaction, organization_id: Uuid, row: &endpoint::Row) -> Result<LlmProxy, Error> {
    let standings = endpoint::standings(transaction, organization_id, Some(row.id)).await?;
    let names = provider_names(transaction, organization_id).await?;
    Ok(with_names(standings.view(row, Vec::new())?, &names))
}

/// Ids are kept, names are shown.
fn with_names(mut view: LlmProxy, names: &[(Uuid, String)]) -> LlmProxy {
    let spec = &mut view.resource.spec;
    for target in &mut spec.targets {
        let id = target.provider.parse::<ProviderId>().map(|id| id.0);
        if let Some((_, name)) = names.iter().find(|(other, _)| Ok(*other) == id) {
            target.provider.clone_from(name);
        }
    }
    // Of several, none is *the* provider.
    if let [target] = spec.targets.as_slice() {
        spec.provider = Some(target.provider.clone());
    }
    view
}

async fn provider_names(transaction: &mut Transaction, organization_id: Uuid) -> Result<Vec<(Uuid, String)>, Error> {
    Ok(run!(transaction, connection => sqlx::query_as(
            "SELECT id, name FROM endpoint WHERE organization_id = $1 AND kind = 'provider' ORDER BY name",
        )
        .bind(organization_id).fetch_all(connection).await)?)
}

async fn finish(
    mut change: Change<'_>,
    id: Uuid,
    action: &'static str,
    changes: serde_json::Value,
) -> Result<Written<LlmProxy>, Error> {
    let organization_id = change.organization_id();
    let key = ProxyId(id).to_string();
    let row = endpoint::require::<ProxySpec>(change.transaction(), organization_id, &key).await?;
    let value = view(change.transaction(), organization_id, &row).await?;
    let committed = change.commit(Entry::done(action, "llm-proxy", id, changes)).await?;
    Ok(Written { value, revision: committed.revision })
}
