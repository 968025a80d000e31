//! An admin's side: the REST API with a personal access token.
//!
//! Every answer must carry a request id, every error must be a problem document, and no vendor credential may ever be in
//! one ([`Client`] sees to that).

use serde_json::Value;

use crate::{
    Client,
    client::{Call, Reply},
};

/// A caller of the REST API.
#[derive(Clone, Debug)]
pub struct Rest {
    client: Client,
    token: Option<String>,
}

/// What the REST API answered.
#[derive(Clone, Debug)]
pub struct Told {
    /// The status.
    pub status: u16,
    /// The body; null if there was none.
    pub body: Value,
    reply: Reply,
    asked: String,
}

impl Rest {
    /// `api`: `http://127.0.0.1:9080`.
    pub fn new(api: &str, token: &str) -> Self {
        Self { client: Client::new(api), token: Some(token.to_owned()) }
    }

    /// The same caller without a token.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        Self { client: self.client.clone(), token: None }
    }

    /// The token, for tests that look for it where it must not be.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Reads; `path` is what follows `/api/v1`.
    pub async fn get(&self, path: &str) -> Told {
        self.send(path, Call::get(&format!("/api/v1{path}"))).await
    }

    /// Creates, or acts.
    pub async fn post(&self, path: &str, body: &Value) -> Told {
        self.send(path, Call::post(&format!("/api/v1{path}"), body)).await
    }

    /// Replaces what was read with this `ETag`.
    pub async fn put(&self, path: &str, etag: &str, body: &Value) -> Told {
        self.send(path, Call::new("PUT", &format!("/api/v1{path}")).header("If-Match", etag).json(body)).await
    }

    /// Removes what was read with this `ETag`.
    pub async fn delete(&self, path: &str, etag: &str) -> Told {
        self.send(path, Call::new("DELETE", &format!("/api/v1{path}")).header("If-Match", etag)).await
    }

    /// Anything else, with the token added. `target` is the whole path.
    pub async fn call(&self, call: Call) -> Told {
        self.send("", call).await
    }

    async fn send(&self, asked: &str, mut call: Call) -> Told {
        if let Some(token) = &self.token {
            call = call.header("Authorization", &format!("Bearer {token}"));
        }
        let reply = self.client.send(&call).await;
        let told = Told {
            status: reply.status(),
            body: serde_json::from_slice(&reply.body).unwrap_or_default(),
            reply,
            asked: asked.to_owned(),
        };
        assert!(told.header("x-request-id").is_some_and(|id| !id.is_empty()), "no request id: {told:?}");
        if told.status >= 400 {
            assert_eq!(told.header("content-type"), Some("application/problem+json"), "{told:?}");
            assert_eq!(told.body["status"], told.status, "{told:?}");
            for member in ["type", "title", "detail", "code", "requestId"] {
                assert!(told.body[member].is_string(), "a problem must say its {member}: {told:?}");
            }
        }
        told
    }
}

impl Told {
    /// Fails the test unless the answer has this status; then gives the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        self.check(status);
        self.body
    }

    /// The same, keeping the answer.
    #[track_caller]
    pub fn check(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{} answered: {:#}", self.asked, self.body);
        self
    }

    /// The first value of the header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.reply.header(name)
    }

    /// The `ETag`.
    #[track_caller]
    pub fn etag(&self) -> String {
        self.header("etag")
            .unwrap_or_else(|| panic!("{} must have an ETag: {:?}", self.asked, self.reply.head))
            .to_owned()
    }

    /// The problem's code.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// The problem's entry at this JSON pointer.
    #[track_caller]
    pub fn at(&self, pointer: &str) -> &Value {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors
            .iter()
            .find(|error| error["pointer"] == pointer)
            .unwrap_or_else(|| panic!("nothing is said about {pointer}: {:#}", self.body))
    }

    /// The whole answer as it came.
    pub fn reply(&self) -> &Reply {
        &self.reply
    }
}
