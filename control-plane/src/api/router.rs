//! The whole HTTP surface on one page: every route, and the OpenAPI document that is made from the same lines.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::site::Site;
use super::{
    actor, api_key, audit, bootstrap, deployment, document, event, gateway, health, node, price, problem, provider,
    proxy, request, secret, session, sync, template, token, usage, user,
};
use crate::events::Events;
use crate::model::template::Templates;
use crate::password::Passwords;
use crate::seal::Keyring;
use crate::store::Store;
use crate::web;

/// What handlers need.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Everything that is kept.
    pub store: Store,
    /// Opens and seals secrets.
    pub keyring: Arc<Keyring>,
    /// Hashes and compares passwords.
    pub passwords: Passwords,
    /// Where browsers reach us.
    pub site: Site,
    /// How vendors are spoken to.
    pub templates: Templates,
    /// Of the link's certificate authority: gateway tokens carry it.
    pub ca_fingerprint: String,
    /// What happens, for those who watch.
    pub events: Events,
    /// Cancelled when the control plane stops: ends what would stay open.
    pub stop: CancellationToken,
}

impl App {
    /// Takes its parts.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

/// Every route under `/api/v1`.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(session::get, session::create, session::remove))
        .routes(routes!(bootstrap::get, bootstrap::create))
        .routes(routes!(user::list, user::create))
        .routes(routes!(user::get, user::replace, user::remove))
        .routes(routes!(token::list, token::create))
        .routes(routes!(token::remove))
        .routes(routes!(audit::list))
        .routes(routes!(node::list))
        .routes(routes!(sync::get))
        .routes(routes!(usage::get))
        .routes(routes!(usage::audit))
        .routes(routes!(request::list))
        .routes(routes!(request::get))
        .routes(routes!(event::watch))
        .routes(routes!(template::list))
        .routes(routes!(template::get))
        .routes(routes!(price::list))
        .routes(routes!(price::get_template, price::replace_template, price::remove_template))
        .routes(routes!(price::get_provider, price::replace_provider, price::remove_provider))
        .routes(routes!(provider::list, provider::create))
        .routes(routes!(provider::get, provider::replace, provider::remove))
        .routes(routes!(proxy::list, proxy::create))
        .routes(routes!(proxy::get, proxy::replace, proxy::remove))
        .routes(routes!(api_key::list, api_key::create))
        .routes(routes!(api_key::get, api_key::replace, api_key::remove))
        .routes(routes!(api_key::rotate))
        .routes(routes!(api_key::revoke))
        .routes(routes!(api_key::disable))
        .routes(routes!(secret::list, secret::create))
        .routes(routes!(secret::get, secret::replace, secret::remove))
        .routes(routes!(gateway::list, gateway::create))
        .routes(routes!(gateway::get, gateway::replace, gateway::remove))
        .routes(routes!(gateway::list_tokens, gateway::create_token))
        .routes(routes!(gateway::remove_token))
        .routes(routes!(deployment::list, deployment::create))
        .routes(routes!(deployment::get))
        .routes(routes!(deployment::undeploy))
        .routes(routes!(deployment::restore))
}

fn surface() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (routes, mut document) =
        OpenApiRouter::with_openapi(document::base()).nest("/api/v1", routes()).split_for_parts();
    document::finish(&mut document);
    (routes, document)
}

/// The OpenAPI document, as it is served and committed.
pub fn openapi() -> utoipa::openapi::OpenApi {
    surface().1
}

/// The service: routes, the document, and problems for everything else.
pub fn router(app: App) -> Router {
    let (routes, document) = surface();
    let document: Arc<str> = document.to_json().expect("the document is plain data").into();
    routes
        .route(
            "/openapi.json",
            get(move || {
                let document = Arc::clone(&document);
                async move { ([(axum::http::header::CONTENT_TYPE, "application/json")], document.to_string()) }
            }),
        )
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/version", get(health::version))
        .fallback(console)
        .layer(axum::middleware::from_fn_with_state(app.clone(), actor::identify))
        .layer(axum::middleware::map_response_with_state(app.clone(), secure))
        .with_state(app)
        .layer(axum::middleware::from_fn(problem::finish))
}

/// What is none of the API's paths belongs to the console.
async fn console(request: Request) -> Response {
    let path = request.uri().path();
    let page = request.method() == Method::GET || request.method() == Method::HEAD;
    if !page || path == "/api" || path.starts_with("/api/") {
        return problem::no_route(&request).into_response();
    }
    web::serve(path, request.headers()).map(axum::body::Body::from)
}

async fn secure(State(app): State<App>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    web::secure(headers, app.site.https());
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}
