//! Members: who may sign in, in which role. Owners are made and changed by owners alone; anybody may change the own name
//! and password.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use utoipa::ToSchema;

use super::actor::{Actor, Credential};
use super::extract::{Body, Input, Path, Query, Replacement, strict};
use super::page::{List, PageQuery};
use super::router::App;
use super::session::{self, Stranger};
use crate::model::error::{Error, Violation};
use crate::model::id::UserId;
use crate::model::member as rules;
use crate::model::role::{Permission, Role};
use crate::password::Verdict;
use crate::sensitive::Sensitive;
use crate::store::member::{self, Member, NewMember};
use crate::store::now;
use crate::store::throttle::{self, Subjects};

/// A member as it is read.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// `usr_...`
    id: UserId,
    /// Lower case; unique.
    email: String,
    /// For people.
    display_name: String,
    /// What the member may do.
    role: Role,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

impl From<Member> for User {
    fn from(member: Member) -> Self {
        let Member { id, organization_id: _, email, display_name, role, created_at, updated_at } = member;
        Self { id: UserId(id), email, display_name, role, created_at, updated_at }
    }
}

/// A member as it is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UserInput {
    /// To sign in with.
    email: String,
    /// For people; the email's first half when absent.
    display_name: Option<String>,
    /// What the member may do.
    role: Role,
    /// At least 12 characters. Required for a new member; absent on PUT: as it was.
    #[schema(value_type = Option<String>, format = Password, write_only)]
    password: Option<Sensitive>,
    /// Required to change one's own password.
    #[schema(value_type = Option<String>, format = Password, write_only)]
    current_password: Option<Sensitive>,
}

impl Input for UserInput {
    const LIMIT: usize = session::STRANGERS_BODY;
    const READ_ONLY: &'static [&'static str] = &["id", "createdAt", "updatedAt"];

    fn read(members: Map<String, Value>) -> Result<Self, Error> {
        strict(members, Self::READ_ONLY)
    }
}

impl UserInput {
    fn understand(&self) -> Result<NewMember, Error> {
        let email = rules::email("/email", &self.email)?;
        let half = email.split('@').next().unwrap_or_default();
        let display_name = rules::display_name("/displayName", self.display_name.as_deref().unwrap_or(half))?;
        if let Some(password) = &self.password {
            rules::new_password("/password", password)?;
        }
        Ok(NewMember { email, display_name, role: self.role })
    }
}

/// Members.
#[utoipa::path(get, path = "/users", tag = "users", operation_id = "listUsers", params(PageQuery),
    responses((status = 200, body = List<User>)))]
pub async fn list(
    State(app): State<App>,
    actor: Actor,
    Query(query): Query<PageQuery>,
) -> Result<Json<List<User>>, Error> {
    actor.require(Permission::MembersRead)?;
    let page = query.page()?;
    let after = page.after.as_deref().and_then(|id| id.parse::<UserId>().ok()).map(|id| id.0);
    let limit = i64::from(page.limit) + 1;
    let rows = member::list(app.store.engine(), actor.organization_id, after, &page.search, limit).await?;
    Ok(Json(List::page(rows.into_iter().map(User::from).collect(), &page, |user| user.id.to_string())))
}

/// One member; the own row needs no permission.
#[utoipa::path(get, path = "/users/{id}", tag = "users", operation_id = "getUser", params(("id" = String, Path)),
    responses((status = 200, body = User)))]
pub async fn get(State(app): State<App>, actor: Actor, Path(id): Path<String>) -> Result<Json<User>, Error> {
    let id = read_id(&actor, &id, Permission::MembersRead)?;
    Ok(Json(member::get(app.store.engine(), actor.organization_id, id.0).await?.into()))
}

/// Add a member.
#[utoipa::path(post, path = "/users", tag = "users", operation_id = "createUser", request_body = UserInput,
    responses((status = 201, body = User)))]
pub async fn create(State(app): State<App>, actor: Actor, Body(input): Body<UserInput>) -> Result<Response, Error> {
    actor.require(Permission::MembersWrite)?;
    let new = input.understand()?;
    if new.role == Role::Owner {
        actor.require(Permission::OwnersWrite)?;
    }
    let password = input.password.ok_or_else(|| Violation::new("/password", "required", "is required"))?;
    let password = app.passwords.hash(password).await?;
    let member = member::create(app.store.engine(), &actor.author(), &new, Some(&password), now()).await?;
    let location = format!("/api/v1/users/{}", UserId(member.id));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(User::from(member))).into_response())
}

/// Change a member. A new role or password ends the member's sessions.
#[utoipa::path(put, path = "/users/{id}", tag = "users", operation_id = "replaceUser", params(("id" = String, Path)),
    request_body = UserInput, responses((status = 200, body = User)))]
pub async fn replace(
    State(app): State<App>,
    actor: Actor,
    Path(id): Path<String>,
    stranger: Stranger,
    Replacement { input, repeated }: Replacement<UserInput>,
) -> Result<Response, Error> {
    let id = read_id(&actor, &id, Permission::MembersWrite)?;
    let engine = app.store.engine();
    let before = member::get(engine, actor.organization_id, id.0).await?;
    repeated.check(&User::from(before.clone()))?;
    let new = input.understand()?;
    if new.email != before.email || new.role != before.role {
        actor.require(Permission::MembersWrite)?;
    }
    let itself = before.id == actor.member_id;
    if new.role != before.role && new.role == Role::Owner || before.role == Role::Owner && !itself {
        actor.require(Permission::OwnersWrite)?;
    }
    let changes_access = input.password.is_some() || new.role != before.role;
    if itself && input.password.is_some() {
        prove(&app, &stranger, &before, input.current_password).await?;
    }
    let password = match input.password {
        Some(password) => Some(app.passwords.hash(password).await?),
        None => None,
    };
    let member = member::replace(engine, &actor.author(), id.0, &new, password.as_deref(), now()).await?;
    let mut response = Json(User::from(member.clone())).into_response();
    if itself && changes_access && matches!(actor.credential, Credential::Session(_)) {
        // Every session of the member has ended; this browser goes on with a new secret.
        let begun = session::begin(&app, &stranger, &member, StatusCode::OK).await?;
        if let Some(cookie) = begun.headers().get(header::SET_COOKIE) {
            response.headers_mut().insert(header::SET_COOKIE, cookie.clone());
        }
    }
    Ok(response)
}

/// Remove a member, with all sessions and tokens.
#[utoipa::path(delete, path = "/users/{id}", tag = "users", operation_id = "removeUser", params(("id" = String, Path)),
    responses((status = 204)))]
pub async fn remove(State(app): State<App>, actor: Actor, Path(id): Path<String>) -> Result<StatusCode, Error> {
    actor.require(Permission::MembersWrite)?;
    let id = parse_id(&id)?;
    let engine = app.store.engine();
    if member::get(engine, actor.organization_id, id.0).await?.role == Role::Owner {
        actor.require(Permission::OwnersWrite)?;
    }
    member::remove(engine, &actor.author(), id.0, now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is at the keyboard of an open console need not be its member: the old password proves it.
async fn prove(app: &App, stranger: &Stranger, member: &Member, current: Option<Sensitive>) -> Result<(), Error> {
    let engine = app.store.engine();
    let Some(stored) = member::password_hash(engine, member.id).await? else { return Ok(()) };
    let current = current
        .ok_or_else(|| Violation::new("/currentPassword", "required", "is required to change one's own password"))?;
    let subjects = Subjects::new(Some(&member.email), stranger.address);
    throttle::attempt(engine, member.organization_id, &subjects, now()).await?;
    match app.passwords.verify(current, Some(&stored)).await? {
        Verdict::Right | Verdict::RightButWeak => throttle::succeeded(engine, member.organization_id, &subjects).await,
        Verdict::Wrong => Err(Violation::invalid("/currentPassword", "is not the current password").into()),
    }
}

/// The id in the path; anybody's but the actor's own needs the permission.
fn read_id(actor: &Actor, text: &str, permission: Permission) -> Result<UserId, Error> {
    match parse_id(text) {
        Ok(id) if id.0 == actor.member_id => Ok(id),
        other => {
            actor.require(permission)?;
            other
        }
    }
}

fn parse_id(text: &str) -> Result<UserId, Error> {
    text.parse().map_err(|_| Error::NotFound { noun: "user", key: text.to_owned() })
}
