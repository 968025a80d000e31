//! The audit log, newest first.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::actor::Actor;
use super::extract::Query;
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::error::Error;
use crate::model::id::{self, AuditId, RequestId};
use crate::model::role::Permission;
use crate::store::audit::{self, Row};

/// One attempt to change something, or to sign in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// `aud_...`
    id: AuditId,
    /// 1, 2, 3, ... without gaps.
    seq: i64,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Who.
    actor: AuditActor,
    /// A noun and a verb, e.g. `user.create`.
    action: String,
    /// The noun.
    resource: String,
    /// A typed id; null where there is no single resource.
    resource_id: Option<String>,
    /// `done`, `denied` or `failed`.
    outcome: String,
    /// Of the request; null for what the control plane did itself.
    request_id: Option<RequestId>,
    /// The fields that changed. Never a secret.
    #[schema(value_type = Object)]
    changes: Value,
}

/// Who did it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditActor {
    /// `system`, `user`, `token` or `anonymous`.
    kind: String,
    /// `usr_...` or `tok_...`.
    id: Option<String>,
}

impl From<Row> for AuditEntry {
    fn from(row: Row) -> Self {
        let actor = row.actor_id.map(|actor| match row.actor_kind.as_str() {
            "token" => id::TokenId(actor).to_string(),
            _ => id::UserId(actor).to_string(),
        });
        Self {
            id: AuditId(row.id),
            seq: row.seq,
            at: row.at,
            actor: AuditActor { kind: row.actor_kind, id: actor },
            resource_id: row.resource_id.map(|resource| typed(&row.resource_kind, resource)),
            action: row.action,
            resource: row.resource_kind,
            outcome: row.outcome,
            request_id: row.request_id.map(RequestId),
            changes: row.changes.0,
        }
    }
}

/// The id as the noun's own API writes it.
fn typed(kind: &str, resource: Uuid) -> String {
    let prefix = match kind {
        "user" => id::UserId::PREFIX,
        "session" => id::SessionId::PREFIX,
        "token" => id::TokenId::PREFIX,
        "request" => id::RequestId::PREFIX,
        "template" => id::TemplateId::PREFIX,
        "llm-provider" => id::ProviderId::PREFIX,
        "llm-proxy" => id::ProxyId::PREFIX,
        "api-key" => id::ApiKeyId::PREFIX,
        "secret" => id::SecretId::PREFIX,
        "gateway" => id::GatewayId::PREFIX,
        "gateway-token" => id::GatewayTokenId::PREFIX,
        "deployment" => id::DeploymentId::PREFIX,
        _ => return resource.to_string(),
    };
    proto::id::encode(prefix, resource)
}

/// The audit log, newest first.
#[utoipa::path(get, path = "/audit", tag = "audit", operation_id = "listAudit", params(PageQuery),
    responses((status = 200, body = List<AuditEntry>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<AuditEntry>>, Error> {
    actor.require(Permission::AuditRead)?;
    let page = query.page()?;
    let before = page.after.as_deref().and_then(|seq| seq.parse().ok());
    let rows =
        audit::list(app.store.engine(), actor.organization_id, before, &page.search, i64::from(page.limit) + 1).await?;
    Ok(Json(List::page(rows.into_iter().map(AuditEntry::from).collect(), &page, |entry| entry.seq.to_string())))
}
