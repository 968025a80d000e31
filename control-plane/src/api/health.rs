//! For load balancers and operators, outside the API: alive, ready, which version.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::router::App;
use crate::model::error::{Error, Internal};

/// A store that takes longer than this is away, as far as readiness goes.
const STORE: Duration = Duration::from_secs(1);

/// One word.
#[derive(Debug, Serialize)]
pub struct Health {
    status: &'static str,
}

/// Which build this is.
#[derive(Debug, Serialize)]
pub struct Version {
    version: &'static str,
    store: &'static str,
}

/// `GET /healthz`: the process answers.
pub async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// `GET /readyz`: the store answers too.
pub async fn ready(State(app): State<App>) -> Result<Json<Health>, Error> {
    match tokio::time::timeout(STORE, app.store.engine().ping()).await {
        Ok(answer) => answer.map(|()| Json(Health { status: "ready" })),
        Err(elapsed) => Err(Error::Unavailable(Internal::new(elapsed))),
    }
}

/// `GET /version`
pub async fn version(State(app): State<App>) -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION"), store: app.store.engine().name() })
}
