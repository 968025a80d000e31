//! Personal access tokens: one's own, shown once.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::token::{self, TokenKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::actor::Actor;
use super::extract::{Body, Input, Path, Query, strict};
use super::page::{List, PageQuery};
use super::router::App;
use crate::model::duration::Duration;
use crate::model::error::{Error, Violation};
use crate::model::id::TokenId;
use crate::model::role::Permission;
use crate::random;
use crate::store::access_token::{self, AccessToken, NewToken};
use crate::store::now;

const DAY: u64 = 24 * 60 * 60;
/// When nothing is said.
const DEFAULT: Duration = Duration::from_secs(90 * DAY);
/// A token that nobody renews in a year is a token that nobody knows of.
const LONGEST: Duration = Duration::from_secs(366 * DAY);

/// A token as it is read. The token itself is never shown again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// `tok_...`
    id: TokenId,
    /// For people.
    name: String,
    /// The token's last four characters.
    last4: String,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// null: never.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// To a minute; null: not yet.
    #[serde(with = "time::serde::rfc3339::option")]
    last_used_at: Option<OffsetDateTime>,
}

/// A token that was just made.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewlyMadeToken {
    /// What is read of it later.
    #[serde(flatten)]
    row: Token,
    /// `lgt_...`: shown this once.
    token: String,
}

impl From<AccessToken> for Token {
    fn from(row: AccessToken) -> Self {
        let AccessToken { id, name, last4, created_at, expires_at, last_used_at } = row;
        Self { id: TokenId(id), name, last4, created_at, expires_at, last_used_at }
    }
}

/// A token as it is asked for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenInput {
    /// For people: what uses it.
    name: String,
    /// At most `366d`; `90d` when absent. A token made with a token ends no later than that one.
    #[schema(value_type = Option<String>, example = "30d")]
    expires_in: Option<Duration>,
}

impl Input for TokenInput {
    fn read(members: Map<String, Value>) -> Result<Self, Error> {
        strict(members, &[])
    }
}

/// One's own tokens.
#[utoipa::path(get, path = "/tokens", tag = "tokens", operation_id = "listTokens", params(PageQuery),
    responses((status = 200, body = List<Token>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<Token>>, Error> {
    actor.require(Permission::OwnTokens)?;
    let page = query.page()?;
    let after = page.after.as_deref().and_then(|id| id.parse::<TokenId>().ok()).map(|id| id.0);
    let limit = i64::from(page.limit) + 1;
    let rows =
        access_token::list(app.store.engine(), actor.organization_id, actor.member_id, after, &page.search, limit)
            .await?;
    Ok(Json(List::page(rows.into_iter().map(Token::from).collect(), &page, |token| token.id.to_string())))
}

/// Make a token for oneself.
#[utoipa::path(post, path = "/tokens", tag = "tokens", operation_id = "createToken", request_body = TokenInput,
    responses((status = 201, body = NewlyMadeToken)))]
pub async fn create(State(app): State<App>, actor: Actor, Body(input): Body<TokenInput>) -> Result<Response, Error> {
    actor.require(Permission::OwnTokens)?;
    let name = crate::model::member::display_name("/name", &input.name)?;
    if name.is_empty() {
        return Err(Violation::new("/name", "required", "must not be empty").into());
    }
    let life = input.expires_in.unwrap_or(DEFAULT);
    if life > LONGEST || life.as_millis() == 0 {
        return Err(Violation::invalid("/expiresIn", "must be more than 0 and at most 366d").into());
    }
    let at = now();
    let mut expires_at = at + life.as_time();
    if let (super::actor::Credential::Token(_), Some(own)) = (actor.credential, actor.expires_at) {
        expires_at = expires_at.min(own);
    }
    let secret = random::token(TokenKind::PersonalAccess, None);
    let digest = token::digest(secret.expose());
    let new = NewToken { name: &name, digest, last4: secret.last4(), expires_at: Some(expires_at) };
    let row = access_token::create(app.store.engine(), &actor.author(), actor.member_id, &new, at).await?;
    let location = format!("/api/v1/tokens/{}", TokenId(row.id));
    let body = NewlyMadeToken { row: row.into(), token: secret.expose().to_owned() };
    let headers = [
        (header::LOCATION, HeaderValue::try_from(location).expect("ids are ASCII")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((StatusCode::CREATED, headers, Json(body)).into_response())
}

/// Revoke one of one's own tokens.
#[utoipa::path(delete, path = "/tokens/{id}", tag = "tokens", operation_id = "removeToken",
    params(("id" = String, Path)), responses((status = 204)))]
pub async fn remove(State(app): State<App>, actor: Actor, Path(id): Path<String>) -> Result<StatusCode, Error> {
    actor.require(Permission::OwnTokens)?;
    let id: TokenId = id.parse().map_err(|_| Error::NotFound { noun: "token", key: id.clone() })?;
    access_token::remove(app.store.engine(), &actor.author(), actor.member_id, id.0, now()).await?;
    Ok(StatusCode::NO_CONTENT)
}
