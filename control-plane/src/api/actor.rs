//! Who asks: a personal access token or a session, found out once per request, before the handler.
//!
//! A token never reads cookies; a cookie changes nothing unless the request comes from our own pages. A store that is
//! away is 503, never "not signed in".

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use proto::token::{self, TokenKind};
use time::OffsetDateTime;
use uuid::Uuid;

use super::access::{self, Rule};
use super::router::App;
use super::site::Provenance;
use crate::model::error::{Error, Internal};
use crate::model::id::{RequestId, TokenId, UserId};
use crate::model::role::{Permission, Role};
use crate::store::audit::{Entry, Outcome};
use crate::store::change::{Author, AuthorKind};
use crate::store::{access_token, audit, now, session};
use crate::telemetry;

/// Who asks, proven. An extractor: a handler that names it is closed to everyone else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Whose rows may be seen.
    pub organization_id: Uuid,
    /// Who, or on whose behalf.
    pub member_id: Uuid,
    /// In which role, at this moment.
    pub role: Role,
    /// By what it was proven.
    pub credential: Credential,
    /// When that ends; `None`: never.
    pub expires_at: Option<OffsetDateTime>,
    /// Of the request.
    pub request_id: Option<Uuid>,
}

/// By what somebody is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The session with this id.
    Session(Uuid),
    /// The personal access token with this id.
    Token(Uuid),
}

impl Actor {
    /// Goes on only if the actor's role has this permission.
    pub fn require(&self, permission: Permission) -> Result<(), Error> {
        if self.role.may(permission) {
            return Ok(());
        }
        Err(Error::Forbidden(format!("this needs the permission `{permission}`, which the role `{}` lacks", self.role)))
    }

    /// For the store, which writes down who did what.
    pub fn author(&self) -> Author {
        let (kind, id) = match self.credential {
            Credential::Session(_) => (AuthorKind::User, self.member_id),
            Credential::Token(id) => (AuthorKind::Token, id),
        };
        Author { organization_id: self.organization_id, kind, id: Some(id), request_id: self.request_id }
    }

    fn label(&self) -> String {
        match self.credential {
            Credential::Session(_) => UserId(self.member_id).to_string(),
            Credential::Token(id) => TokenId(id).to_string(),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Actor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        match parts.extensions.get::<Identity>() {
            Some(Identity::Known(actor)) => Ok(actor.clone()),
            // A route outside the layer below is closed, not open.
            Some(Identity::Nobody) | None => Err(Error::Unauthenticated),
            Some(Identity::CrossSite) => Err(Error::Forbidden(
                "a change with a session cookie must come from the console's own pages; scripts use a token".to_owned(),
            )),
            Some(Identity::Undecided) => Err(Error::Unavailable(Internal::message("the store could not say who asks"))),
        }
    }
}

/// What was found out about who asks.
#[derive(Clone, Debug)]
enum Identity {
    Known(Actor),
    Nobody,
    CrossSite,
    Undecided,
}

impl Identity {
    fn actor(&self) -> Result<&Actor, Error> {
        match self {
            Self::Known(actor) => Ok(actor),
            Self::Nobody => Err(Error::Unauthenticated),
            Self::CrossSite => Err(Error::Forbidden(
                "a change with a session cookie must come from the console's own pages; scripts use a token".to_owned(),
            )),
            Self::Undecided => Err(Error::Unavailable(Internal::message("the store could not say who asks"))),
        }
    }

    /// Whether this one may go on to the handler. An operation of the API without a rule is closed.
    fn admit(&self, method: &Method, route: &str) -> Result<(), Error> {
        match access::rule(method, route) {
            Some(Rule::SignedIn) => self.actor().map(|_| ()),
            Some(Rule::Needs(permission)) => self.actor()?.require(permission),
            None if route.starts_with("/api/") => {
                self.actor()?;
                Err(Error::Forbidden("this operation has no rule that would let anybody in".to_owned()))
            }
            // Without a rule: health, version, the document, the console's files.
            Some(Rule::Open) | None => Ok(()),
        }
    }
}

/// The layer around every route: finds out who asks, asks whether they may, writes the log's line, and notes refused changes in the audit log.
pub async fn identify(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let request_id = request.extensions().get::<RequestId>().map(|id| id.0);
    let method = request.method().clone();
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let identity = match find(&app, &method, request.headers(), request_id).await {
        Ok(identity) => identity,
        Err(error) => {
            tracing::warn!(?error, "cannot find out who asks");
            Identity::Undecided
        }
    };
    let actor = if let Identity::Known(actor) = &identity { Some(actor.clone()) } else { None };
    let response = match identity.admit(&method, &route) {
        Ok(()) => {
            request.extensions_mut().insert(identity);
            // A defect in one handler is one answer, with its id, rather than a connection that breaks off.
            match AssertUnwindSafe(next.run(request)).catch_unwind().await {
                Ok(response) => response,
                Err(_) => Error::Internal(Internal::message("a handler panicked")).into_response(),
            }
        }
        Err(refused) => refused.into_response(),
    };
    let status = response.status();
    if let Some(actor) =
        actor.as_ref().filter(|_| !method.is_safe() && (status.is_client_error() || status.is_server_error()))
    {
        note_refusal(&app, actor, &method, &route, status.as_u16()).await;
    }
    let label = actor.as_ref().map(Actor::label);
    telemetry::request(method.as_str(), &route, status.as_u16(), started.elapsed(), label.as_deref());
    response
}

async fn find(app: &App, method: &Method, headers: &HeaderMap, request_id: Option<Uuid>) -> Result<Identity, Error> {
    let engine = app.store.engine();
    if headers.contains_key(header::AUTHORIZATION) {
        let Some(digest) = bearer(headers) else { return Ok(Identity::Nobody) };
        let found = access_token::find(engine, &digest, now()).await?;
        return Ok(found.map_or(Identity::Nobody, |token| {
            Identity::Known(Actor {
                organization_id: token.organization_id,
                member_id: token.member_id,
                role: token.role,
                credential: Credential::Token(token.id),
                expires_at: token.expires_at,
                request_id,
            })
        }));
    }
    let Some(cookie) = app.site.read_cookie(headers) else { return Ok(Identity::Nobody) };
    let at = now();
    let Some(session) = session::find(engine, &token::digest(cookie.expose()), at).await? else {
        return Ok(Identity::Nobody);
    };
    if !method.is_safe() && app.site.provenance(headers) != Provenance::Own {
        return Ok(Identity::CrossSite);
    }
    // A stream of events that stays open is nobody at the keyboard.
    let stream = headers.get(header::ACCEPT).is_some_and(|accept| accept == "text/event-stream");
    if !stream {
        session::touch(engine, &session, at).await?;
    }
    Ok(Identity::Known(Actor {
        organization_id: session.organization_id,
        member_id: session.member_id,
        role: session.role,
        credential: Credential::Session(session.id),
        expires_at: Some(session.expires_at),
        request_id,
    }))
}

/// The digest of the one token that a request carries; malformed ones are not looked up.
fn bearer(headers: &HeaderMap) -> Option<[u8; 32]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let text = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, text) = text.split_once(' ')?;
    let text = text.trim();
    token::parse(TokenKind::PersonalAccess, text).ok().filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
    Some(token::digest(text))
}

async fn note_refusal(app: &App, actor: &Actor, method: &Method, route: &str, status: u16) {
    let entry = Entry {
        action: "request.refuse",
        resource_kind: "request",
        resource_id: actor.request_id,
        outcome: if status == 403 { Outcome::Denied } else { Outcome::Failed },
        changes: serde_json::json!({ "method": method.as_str(), "route": route, "status": status }),
    };
    let noted = async {
        let mut transaction = app.store.engine().begin().await?;
        audit::append(&mut transaction, &actor.author(), now(), &entry).await?;
        transaction.commit().await
    };
    if let Err(error) = noted.await {
        tracing::warn!(?error, "a refused change could not be written to the audit log");
    }
}
