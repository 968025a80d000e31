//! What stories of the catalogue do again and again.

use control_plane::store::{Catalog, Store, gateway};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Answer, Caller, Plane};

/// A vendor key that must never be seen again.
pub const CANARY: &str = "sk-canary-4f1d0c7be2a94d6c";

impl Answer {
    /// The answer, if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Pointer and code of each thing that is wrong.
    pub fn errors(&self) -> Vec<(&str, &str)> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| (error["pointer"].as_str().unwrap(), error["code"].as_str().unwrap())).collect()
    }

    pub fn tag(&self) -> String {
        self.headers["etag"].to_str().unwrap().to_owned()
    }

    pub fn detail(&self) -> &str {
        self.body["detail"].as_str().unwrap_or_default()
    }

    pub fn id(&self) -> &str {
        self.body["id"].as_str().unwrap()
    }
}

pub fn provider(name: &str) -> Value {
    json!({
        "name": name, "template": "openai", "context": format!("/{name}"),
        "upstream": { "url": "https://api.openai.com", "credential": { "value": CANARY } },
    })
}

pub async fn deploy(admin: &Caller, endpoint: &str) -> Answer {
    admin.post("/deployments", &json!({ "endpoint": endpoint, "gateway": "default" })).await
}

/// The organization's newest revision.
pub async fn head(store: &Store) -> i64 {
    control_plane::store::catalog::revision(store, store.first_organization()).await.unwrap().0
}

pub async fn default_gateway(store: &Store) -> Uuid {
    let mut transaction = store.read().await.unwrap();
    gateway::require(&mut transaction, store.first_organization(), "default").await.unwrap().id
}

/// What the nodes of the gateway `default` are to know.
pub async fn catalog(plane: &Plane) -> Catalog {
    let store = plane.store().await;
    let gateway = default_gateway(&store).await;
    Catalog::read(&store, store.first_organization(), gateway).await.unwrap().unwrap()
}
