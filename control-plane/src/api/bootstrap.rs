//! The first owner: whoever holds the token that the first start printed becomes it, once.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use proto::token::{self, TokenKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::extract::{Body, Input, strict};
use super::router::App;
use super::session::{self, STRANGERS_BODY, Session, Stranger};
use crate::model::error::Error;
use crate::model::member as rules;
use crate::model::role::Role;
use crate::sensitive::Sensitive;
use crate::store::member::{self, NewMember};
use crate::store::throttle::{self, Subjects};
use crate::store::{now, one_time_token};

/// Whether there is anybody who can sign in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Bootstrap {
    /// The first owner is still to come.
    needed: bool,
}

/// The first owner.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FirstOwner {
    /// `lgb_...`, from the control plane's first start.
    #[schema(value_type = String, write_only)]
    token: Sensitive,
    /// To sign in with.
    email: String,
    /// At least 12 characters.
    #[schema(value_type = String, format = Password, write_only)]
    password: Sensitive,
    /// For people; the email's first half when absent.
    display_name: Option<String>,
}

impl Input for FirstOwner {
    const LIMIT: usize = STRANGERS_BODY;

    fn read(members: Map<String, Value>) -> Result<Self, Error> {
        strict(members, &[])
    }
}

/// Whether the first owner is still to come.
#[utoipa::path(get, path = "/bootstrap", tag = "session", operation_id = "getBootstrap", security(()),
    responses((status = 200, body = Bootstrap)))]
pub async fn get(State(app): State<App>) -> Result<Json<Bootstrap>, Error> {
    let exists = member::exists(app.store.engine(), app.store.first_organization()).await?;
    Ok(Json(Bootstrap { needed: !exists }))
}

/// Become the first owner, and sign in.
#[utoipa::path(post, path = "/bootstrap", tag = "session", operation_id = "createFirstOwner", security(()),
    request_body = FirstOwner, responses((status = 201, body = Session)))]
pub async fn create(
    State(app): State<App>,
    stranger: Stranger,
    Body(input): Body<FirstOwner>,
) -> Result<Response, Error> {
    stranger.not_foreign(&app)?;
    let engine = app.store.engine();
    let organization_id = app.store.first_organization();
    let email = rules::email("/email", &input.email)?;
    let half = email.split('@').next().unwrap_or_default();
    let display_name = rules::display_name("/displayName", input.display_name.as_deref().unwrap_or(half))?;
    rules::new_password("/password", &input.password)?;

    throttle::attempt(engine, organization_id, &Subjects::new(None, stranger.address), now()).await?;
    let author = stranger.author(organization_id);
    let digest = token::digest(input.token.expose());
    let well_formed = token::parse(TokenKind::Bootstrap, input.token.expose()).is_ok();
    // Nothing is hashed for a stranger; the claim below decides.
    let live = well_formed && one_time_token::bootstrap_is_live(engine, &digest, now()).await?;
    let claimed = if live {
        let password = app.passwords.hash(input.password).await?;
        let new = NewMember { email, display_name, role: Role::Owner };
        one_time_token::claim_bootstrap(engine, &author, &digest, &new, &password, now()).await
    } else {
        Err(Error::Unauthenticated)
    };
    match claimed {
        Ok(member) => session::begin(&app, &stranger, &member, StatusCode::CREATED).await,
        Err(error @ (Error::Unauthenticated | Error::Conflict(..))) => {
            let details = json!({ "address": stranger.address.to_string() });
            one_time_token::note_refusal(engine, &author, "bootstrap.claim", None, details, now()).await?;
            Err(error)
        }
        Err(error) => Err(error),
    }
}
