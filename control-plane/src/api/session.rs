//! Signing in and out. The order is fixed: a small body, whose page it comes from, the throttle, and only then a hash.

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::token;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::actor::{Actor, Credential};
use super::extract::{Body, Input, request_id, strict};
use super::router::App;
use super::site::Provenance;
use crate::listener::Peer;
use crate::model::error::{Error, Violation};
use crate::model::id::{OrganizationId, UserId};
use crate::model::role::{Permission, Role};
use crate::password::Verdict;
use crate::sensitive::Sensitive;
use crate::store::change::{Author, AuthorKind};
use crate::store::member::{self, Member};
use crate::store::throttle::{self, Subjects};
use crate::store::{now, one_time_token, organization, session};

/// Bytes of a body that somebody sends who is not signed in.
pub(super) const STRANGERS_BODY: usize = 4 * 1024;

/// Either an email and a password, or the token of a sign-in link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignIn {
    /// Of the account.
    email: Option<String>,
    /// Of the account.
    #[schema(value_type = Option<String>, format = Password, write_only)]
    password: Option<Sensitive>,
    /// From a sign-in link; opens once.
    #[schema(value_type = Option<String>, write_only)]
    one_time_token: Option<Sensitive>,
}

impl Input for SignIn {
    const LIMIT: usize = STRANGERS_BODY;

    fn read(members: Map<String, Value>) -> Result<Self, Error> {
        strict(members, &[])
    }
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// The member.
    user: SessionUser,
    /// Whose member.
    organization: SessionOrganization,
    /// When the session or the token ends at the latest; null: never.
    #[serde(with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
    /// What the member's role may do.
    permissions: &'static [Permission],
}

/// The member who is signed in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SessionUser {
    /// `usr_...`
    id: UserId,
    /// Lower case.
    email: String,
    /// For people.
    display_name: String,
    /// What the member may do.
    role: Role,
}

/// The organization of who is signed in.
#[derive(Debug, Serialize, ToSchema)]
struct SessionOrganization {
    /// `org_...`
    id: OrganizationId,
    /// For people.
    name: String,
}

/// What is known of a request before anybody is: where it comes from.
#[derive(Clone, Debug)]
pub struct Stranger {
    /// Whose request it is.
    pub address: std::net::IpAddr,
    /// Of the request.
    pub request_id: Option<Uuid>,
    /// For the cookie and the browser's marks.
    pub headers: HeaderMap,
}

impl FromRequestParts<App> for Stranger {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Error> {
        let unknown = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
        let peer = parts.extensions.get::<Peer>().map_or(unknown, |peer| peer.0.ip());
        let address = app.site.client(peer, &parts.headers);
        Ok(Self { address, request_id: request_id(parts).map(|id| id.0), headers: parts.headers.clone() })
    }
}

impl Stranger {
    /// Somebody else's page must not sign anybody in or up; scripts, which say nothing, may.
    pub(super) fn not_foreign(&self, app: &App) -> Result<(), Error> {
        match app.site.provenance(&self.headers) {
            Provenance::Own | Provenance::Unsaid => Ok(()),
            Provenance::Foreign => Err(Error::Forbidden("this request comes from another site's page".to_owned())),
        }
    }

    pub(super) fn author(&self, organization_id: Uuid) -> Author {
        Author { organization_id, kind: AuthorKind::Anonymous, id: None, request_id: self.request_id }
    }
}

/// Who is signed in.
#[utoipa::path(get, path = "/session", tag = "session", operation_id = "getSession",
    responses((status = 200, body = Session)))]
pub async fn get(State(app): State<App>, actor: Actor) -> Result<Json<Session>, Error> {
    let member = member::get(app.store.engine(), actor.organization_id, actor.member_id).await?;
    Ok(Json(describe(&app, &member, actor.expires_at).await?))
}

/// Sign in.
#[utoipa::path(post, path = "/session", tag = "session", operation_id = "createSession", request_body = SignIn,
    responses((status = 201, body = Session)))]
pub async fn create(State(app): State<App>, stranger: Stranger, Body(input): Body<SignIn>) -> Result<Response, Error> {
    stranger.not_foreign(&app)?;
    let member = match input {
        SignIn { email: Some(email), password: Some(password), one_time_token: None } => {
            by_password(&app, &stranger, &email, password).await?
        }
        SignIn { email: None, password: None, one_time_token: Some(token) } => by_link(&app, &stranger, &token).await?,
        _ => {
            return Err(Violation::new("", "required", "must hold email and password, or oneTimeToken alone").into());
        }
    };
    begin(&app, &stranger, &member, StatusCode::CREATED).await
}

/// Sign out.
#[utoipa::path(delete, path = "/session", tag = "session", operation_id = "removeSession",
    responses((status = 204)))]
pub async fn remove(State(app): State<App>, actor: Actor) -> Result<Response, Error> {
    match actor.credential {
        Credential::Session(id) => {
            session::remove(app.store.engine(), &actor.author(), id, now()).await?;
            Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, app.site.no_cookie())]).into_response())
        }
        Credential::Token(_) => Err(Error::Malformed(
            "a personal access token has no session; revoke it with DELETE /api/v1/tokens/{id}".to_owned(),
        )),
    }
}

async fn by_password(app: &App, stranger: &Stranger, email: &str, password: Sensitive) -> Result<Member, Error> {
    let engine = app.store.engine();
    let email = email.trim().to_lowercase();
    let organization_id = app.store.first_organization();
    // What is no address is no account; it must cost the same and tell the same.
    let plausible = crate::model::member::email("/email", &email).is_ok();
    let subjects = Subjects::new(Some(email.as_str()).filter(|_| plausible), stranger.address);
    throttle::attempt(engine, organization_id, &subjects, now()).await?;
    let found = if plausible { member::find_by_email(engine, &email).await? } else { None };
    let (member, stored) = match found {
        Some((member, stored)) => (Some(member), stored),
        None => (None, None),
    };
    let verdict = app.passwords.verify(password.clone(), stored.as_deref()).await?;
    match (verdict, member) {
        (Verdict::Right | Verdict::RightButWeak, Some(member)) => {
            throttle::succeeded(engine, organization_id, &subjects).await?;
            if let (Verdict::RightButWeak, Some(old)) = (verdict, stored) {
                let new = app.passwords.hash(password).await?;
                member::rehash(engine, member.id, &old, &new).await?;
            }
            Ok(member)
        }
        (_, member) => {
            refuse(app, stranger, member.map(|member| member.id), "password").await?;
            Err(Error::Unauthenticated)
        }
    }
}

async fn by_link(app: &App, stranger: &Stranger, link: &Sensitive) -> Result<Member, Error> {
    let (engine, organization_id) = (app.store.engine(), app.store.first_organization());
    let subjects = Subjects::new(None, stranger.address);
    throttle::attempt(engine, organization_id, &subjects, now()).await?;
    if let Some(member) = one_time_token::claim_sign_in(engine, &token::digest(link.expose()), now()).await? {
        throttle::succeeded(engine, organization_id, &subjects).await?;
        return Ok(member);
    }
    refuse(app, stranger, None, "link").await?;
    Err(Error::Unauthenticated)
}

/// The audit log's row of a sign-in that failed. What was typed as an address is not kept: it may be a password.
async fn refuse(app: &App, stranger: &Stranger, member_id: Option<Uuid>, by: &str) -> Result<(), Error> {
    let author = stranger.author(app.store.first_organization());
    let details = json!({ "by": by, "address": stranger.address.to_string() });
    one_time_token::note_refusal(app.store.engine(), &author, "session.create", member_id, details, now()).await
}

/// Begins a session: a new secret each time, and the one that the browser had before ends.
pub(super) async fn begin(
    app: &App,
    stranger: &Stranger,
    member: &Member,
    status: StatusCode,
) -> Result<Response, Error> {
    let (secret, cookie) = app.site.new_cookie();
    let before = app.site.read_cookie(&stranger.headers).map(|secret| token::digest(secret.expose()));
    let author = Author {
        organization_id: member.organization_id,
        kind: AuthorKind::User,
        id: Some(member.id),
        request_id: stranger.request_id,
    };
    let expires_at = session::create(
        app.store.engine(),
        &author,
        member.id,
        &token::digest(secret.expose()),
        before.as_ref(),
        json!({ "address": stranger.address.to_string() }),
        now(),
    )
    .await?;
    let body = describe(app, member, Some(expires_at)).await?;
    let no_store = HeaderValue::from_static("no-store");
    Ok((status, [(header::SET_COOKIE, cookie), (header::CACHE_CONTROL, no_store)], Json(body)).into_response())
}

async fn describe(app: &App, member: &Member, expires_at: Option<OffsetDateTime>) -> Result<Session, Error> {
    let name = organization::display_name(app.store.engine(), member.organization_id).await?;
    Ok(Session {
        user: SessionUser {
            id: UserId(member.id),
            email: member.email.clone(),
            display_name: member.display_name.clone(),
            role: member.role,
        },
        organization: SessionOrganization { id: OrganizationId(member.organization_id), name },
        expires_at,
        permissions: member.role.permissions(),
    })
}
