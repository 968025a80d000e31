//! The whole HTTP surface on one page: every route, and the OpenAPI document that is made from the same lines.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::problem;
use crate::store::Store;

/// What handlers need.
#[derive(Clone, Debug)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Everything that is kept.
    pub store: Store,
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

#[derive(OpenApi)]
#[openapi(info(
    title = "Lockgate",
    description = "The control plane's REST API. Errors are RFC 9457 problems; see docs/API.md for the conventions."
))]
struct Document;

/// Every route under `/api/v1`.
fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
}

fn surface() -> (Router<App>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(Document::openapi()).nest("/api/v1", routes()).split_for_parts()
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
        .fallback(problem::no_route)
        .with_state(app)
        .layer(axum::middleware::from_fn(problem::finish))
}
