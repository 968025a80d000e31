//! LLM providers: their draft, and the secret that a typed-in credential becomes.

use ipnet::IpNet;
use serde_json::json;
use uuid::Uuid;

use super::audit::{Entry, difference};
use super::change::{Author, Change};
use super::engine::{Transaction, run};
use super::{Store, Written, endpoint, gateway, secret};
use crate::model::deployment::EndpointKind;
use crate::model::endpoint::LlmProvider;
use crate::model::error::{Error, Violation};
use crate::model::id::{ProviderId, SecretId};
use crate::model::page::Page;
use crate::model::provider::{ProviderInput, ProviderSpec};
use crate::model::resource::{Draft, Warning};
use crate::model::template::Templates;
use crate::model::upstream::{Credential, origin};
use crate::seal::Keyring;

/// What writing a provider needs beside the store.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Everything that is kept.
    pub store: &'a Store,
    /// How vendors are spoken to.
    pub templates: &'a Templates,
    /// Seals credentials.
    pub keyring: &'a Keyring,
    /// Who writes.
    pub author: &'a Author,
}

/// One provider.
pub async fn get(store: &Store, organization_id: Uuid, key: &str) -> Result<LlmProvider, Error> {
    let mut transaction = store.read().await?;
    let row = endpoint::require::<ProviderSpec>(&mut transaction, organization_id, key).await?;
    view(&mut transaction, organization_id, &row, Vec::new()).await
}

/// In order of names.
pub async fn list(store: &Store, organization_id: Uuid, page: &Page) -> Result<Vec<LlmProvider>, Error> {
    let mut transaction = store.read().await?;
    let rows = endpoint::list(&mut transaction, organization_id, EndpointKind::Provider, page).await?;
    let standings = endpoint::standings(&mut transaction, organization_id, None).await?;
    let ends = secret::ends(&mut transaction, organization_id).await?;
    rows.iter().map(|row| Ok(with_end(standings.view(row, Vec::new())?, &ends))).collect()
}

/// A new provider; nothing is served until it is deployed.
pub async fn create(context: Context<'_>, draft: Draft<ProviderInput>) -> Result<Written<LlmProvider>, Error> {
    let Context { store, templates, keyring, author } = context;
    let mut change = Change::begin(store, author).await?;
    let networks = networks(&mut change).await?;
    let template = templates.named(&draft.spec.template)?;
    let (input, warnings) = draft.spec.accept(template, &networks)?;
    endpoint::check_free(&mut change, None, &draft.name, &input.context).await?;
    let id = ProviderId::new().0;
    let credential = match &input.upstream.credential {
        None => None,
        Some(credential) => Some(match (&credential.value, &credential.secret) {
            (Some(value), _) => {
                let name = free_secret_name(&mut change, draft.name.as_str()).await?;
                secret::insert(&mut change, keyring, &name, value, Some(id)).await?
            }
            (None, named) => named_secret(&mut change, named.as_deref().unwrap_or_default(), None).await?,
        }),
    };
    let spec = input.with_credential(credential.map(kept));
    endpoint::insert(&mut change, id, &draft.name, &spec).await?;
    let changes = json!({ "name": draft.name, "spec": spec });
    finish(change, id, "llm-provider.create", changes, warnings).await
}

/// Another draft; what is deployed goes on as it was, but for `disabled` and the credential's value.
pub async fn replace(
    context: Context<'_>,
    key: &str,
    draft: Draft<ProviderInput>,
    check_base: impl FnOnce(&LlmProvider) -> Result<(), Error>,
) -> Result<Written<LlmProvider>, Error> {
    let Context { store, templates, keyring, author } = context;
    let mut change = Change::begin(store, author).await?;
    let organization_id = author.organization_id;
    let before = endpoint::require::<ProviderSpec>(change.transaction(), organization_id, key).await?;
    check_base(&view(change.transaction(), organization_id, &before, Vec::new()).await?)?;
    let networks = networks(&mut change).await?;
    let template = templates.named(&draft.spec.template)?;
    let (input, warnings) = draft.spec.accept(template, &networks)?;
    endpoint::check_free(&mut change, Some(before.id), &draft.name, &input.context).await?;
    let was: ProviderSpec = before.spec()?;
    let moved = origin(&was.upstream.url) != origin(&input.upstream.url);
    let held = was.upstream.credential.as_ref().map(|credential| credential.secret.0);
    let mut new_value = false;
    let credential = match &input.upstream.credential {
        None => None,
        Some(credential) => Some(match (&credential.value, &credential.secret) {
            (Some(value), _) => {
                new_value = true;
                // A new value for another host must not reach the old one, which is still deployed: a new secret then.
                match own_secret(&mut change, before.id, held).await? {
                    Some(own) if !moved => {
                        secret::overwrite(&mut change, keyring, own, value).await?;
                        own
                    }
                    Some(_) | None => {
                        let name = free_secret_name(&mut change, draft.name.as_str()).await?;
                        secret::insert(&mut change, keyring, &name, value, Some(before.id)).await?
                    }
                }
            }
            (None, _) if moved => {
                return Err(Violation::new(
                    "/upstream/credential/value",
                    "required",
                    "the upstream's host changes: enter the credential again, so that no stored one goes to a new host",
                )
                .into());
            }
            (None, named) => named_secret(&mut change, named.as_deref().unwrap_or_default(), held).await?,
        }),
    };
    let spec = input.with_credential(credential.map(kept));
    endpoint::update(&mut change, &before, &draft.name, &spec).await?;
    let mut changes =
        difference(&json!({ "name": before.name, "spec": was }), &json!({ "name": draft.name, "spec": spec }));
    if new_value {
        changes["credential"] = json!("replaced");
    }
    finish(change, before.id, "llm-provider.replace", changes, warnings).await
}

/// Removes a provider that is deployed nowhere and that no proxy stands on; its own secrets go with it.
pub async fn delete(
    store: &Store,
    author: &Author,
    key: &str,
    check_base: impl FnOnce(i64) -> Result<(), Error>,
) -> Result<i64, Error> {
    let mut change = Change::begin(store, author).await?;
    let row = endpoint::require::<ProviderSpec>(change.transaction(), author.organization_id, key).await?;
    check_base(row.revision)?;
    endpoint::delete(&mut change, &row).await?;
    let own: Vec<Uuid> = run!(change, connection => sqlx::query_scalar("SELECT id FROM secret WHERE endpoint_id = $1")
        .bind(row.id).fetch_all(connection).await)?;
    for id in own {
        // Another provider may have been pointed at it meanwhile.
        if secret::users(change.transaction(), id).await?.is_empty() {
            secret::remove(&mut change, id).await?;
        }
    }
    let entry = Entry::done("llm-provider.remove", "llm-provider", row.id, json!({ "name": row.name }));
    Ok(change.commit(entry).await?.revision)
}

/// The provider as it is read, its credential with its visible end.
pub(super) async fn view(
    transaction: &mut Transaction,
    organization_id: Uuid,
    row: &endpoint::Row,
    warnings: Vec<Warning>,
) -> Result<LlmProvider, Error> {
    let standings = endpoint::standings(transaction, organization_id, Some(row.id)).await?;
    let ends = secret::ends(transaction, organization_id).await?;
    Ok(with_end(standings.view(row, warnings)?, &ends))
}

fn with_end(mut view: LlmProvider, ends: &[(Uuid, String)]) -> LlmProvider {
    if let Some(credential) = &mut view.resource.spec.upstream.credential {
        let end = ends.iter().find(|(id, _)| *id == credential.secret.0).map(|(_, end)| end.clone());
        credential.last4 = end.filter(|end| !end.is_empty());
    }
    view
}

async fn finish(
    mut change: Change<'_>,
    id: Uuid,
    action: &'static str,
    changes: serde_json::Value,
    warnings: Vec<Warning>,
) -> Result<Written<LlmProvider>, Error> {
    let organization_id = change.organization_id();
    let key = ProviderId(id).to_string();
    let row = endpoint::require::<ProviderSpec>(change.transaction(), organization_id, &key).await?;
    let value = view(change.transaction(), organization_id, &row, warnings).await?;
    let committed = change.commit(Entry::done(action, "llm-provider", id, changes)).await?;
    Ok(Written { value, revision: committed.revision })
}

/// What is kept of a credential: its end is read from the secret, which may get another value.
const fn kept(secret_id: Uuid) -> Credential {
    Credential { secret: SecretId(secret_id), last4: None }
}

/// Those that any gateway allows: the one it is deployed on decides when it dials.
async fn networks(change: &mut Change<'_>) -> Result<Vec<IpNet>, Error> {
    let organization_id = change.organization_id();
    gateway::networks(change.transaction(), organization_id).await
}

/// A secret that exists. One that was typed in for a provider stays with it, and with the host it was entered for:
/// named anywhere else, it could be sent to a host that nobody entered it for. `held`: by this provider's draft.
async fn named_secret(change: &mut Change<'_>, key: &str, held: Option<Uuid>) -> Result<Uuid, Error> {
    let pointer = "/upstream/credential/secret";
    let organization_id = change.organization_id();
    let found = secret::find(change.transaction(), organization_id, key).await?;
    let Some(row) = found else {
        return Err(Violation::new(pointer, "not_found", format!("there is no secret `{key}`")).into());
    };
    if row.endpoint_id.is_some() && held != Some(row.id) {
        let message = "was entered for one provider and its host: enter the value again, or make a secret to share";
        return Err(Violation::invalid(pointer, message).into());
    }
    Ok(row.id)
}

/// The secret that a provider holds, if it was made for this provider and nobody else uses it.
async fn own_secret(change: &mut Change<'_>, provider_id: Uuid, held: Option<Uuid>) -> Result<Option<Uuid>, Error> {
    let Some(held) = held else { return Ok(None) };
    let organization_id = change.organization_id();
    let row = secret::find(change.transaction(), organization_id, &SecretId(held).to_string()).await?;
    if row.is_none_or(|row| row.endpoint_id != Some(provider_id)) {
        return Ok(None);
    }
    let others: i64 = run!(change, connection => sqlx::query_scalar(
            "SELECT COUNT(*) FROM endpoint WHERE secret_id = $1 AND id <> $2",
        )
        .bind(held).bind(provider_id).fetch_one(connection).await)?;
    Ok(Some(held).filter(|_| others == 0))
}

/// `<provider>-credential`, or the first of `-2`, `-3`, ... that is free.
async fn free_secret_name(change: &mut Change<'_>, provider: &str) -> Result<String, Error> {
    let organization_id = change.organization_id();
    let stem: String = provider.chars().take(45).collect();
    let mut name = format!("{stem}-credential");
    let mut count = 1;
    while secret::find(change.transaction(), organization_id, &name).await?.is_some() {
        count += 1;
        name = format!("{stem}-credential-{count}");
    }
    Ok(name)
}
