//! A control plane on either engine, and callers of its API over real sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use control_plane::store::{Location, Store};
use control_plane::{Config, Handle};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;

/// Which database a test runs on.
#[derive(Clone, Copy, Debug)]
pub enum On {
    Sqlite,
    Postgres,
}

/// Makes two tests of one: the same story on either engine.
#[macro_export]
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($plane:ident: Plane) $body:block)*) => {$(
        mod $name {
            use super::*;

            async fn story($plane: Plane) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                story(Plane::start(On::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                story(Plane::start(On::Postgres).await).await;
            }
        }
    )*};
}

/// A control plane that serves, with everything it made in a directory of its own.
pub struct Plane {
    pub handle: Option<Handle>,
    pub url: Option<String>,
    pub directory: tempfile::TempDir,
}

impl Plane {
    pub async fn start(on: On) -> Self {
        let url = match on {
            On::Sqlite => None,
            On::Postgres => Some(database()),
        };
        Self::start_at(url).await
    }

    pub async fn start_at(url: Option<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut plane = Self { handle: None, url, directory };
        plane.handle = Some(control_plane::start(plane.config()).await.unwrap());
        plane
    }

    pub fn config(&self) -> Config {
        config(self.directory.path(), self.url.as_deref())
    }

    pub fn path(&self, file: &str) -> std::path::PathBuf {
        self.directory.path().join(file)
    }

    pub fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    pub async fn stop(&mut self) {
        self.handle.take().unwrap().shutdown().await;
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        self.handle = Some(control_plane::start(self.config()).await.unwrap());
    }

    pub fn stranger(&self) -> Caller {
        Caller { address: self.handle().api, headers: HashMap::new() }
    }

    pub async fn admin(&self) -> Caller {
        self.stranger().with("authorization", &format!("Bearer {}", self.handle().local_admin().await.unwrap().token))
    }

    /// A member with this role and a token of theirs.
    pub async fn member(&self, role: &str) -> Caller {
        let email = format!("{}@example.com", uuid::Uuid::new_v4().simple());
        self.person(&email, role).await;
        let browser = self.browser(&email, PASSWORD).await;
        let made = browser.post("/tokens", &serde_json::json!({ "name": "test" })).await;
        assert_eq!(made.status, 201, "{made:?}");
        self.stranger().with("authorization", &format!("Bearer {}", made.body["token"].as_str().unwrap()))
    }

    /// A member; the id.
    pub async fn person(&self, email: &str, role: &str) -> String {
        let body = serde_json::json!({ "email": email, "role": role, "password": PASSWORD });
        let made = self.admin().await.post("/users", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        made.body["id"].as_str().unwrap().to_owned()
    }

    /// A browser that is signed in and on our own pages.
    pub async fn browser(&self, email: &str, password: &str) -> Caller {
        let body = serde_json::json!({ "email": email, "password": password });
        let answer = self.stranger().post("/session", &body).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        self.stranger().with("cookie", &answer.cookie()).with("sec-fetch-site", "same-origin")
    }

    /// The store beside the control plane, for looking into it.
    pub async fn store(&self) -> Store {
        let location = match &self.url {
            Some(url) => Location::Postgres(url.clone()),
            None => Location::Sqlite(self.path("lockgate.db")),
        };
        Store::open(&location).await.unwrap()
    }
}

pub const PASSWORD: &str = "correct horse battery";

pub fn config(directory: &Path, url: Option<&str>) -> Config {
    let mut flags = vec![
        ("server.listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("link.listen".to_owned(), "127.0.0.1:0".to_owned()),
        ("store.data_dir".to_owned(), directory.display().to_string()),
    ];
    flags.extend(url.map(|url| ("store.url".to_owned(), url.to_owned())));
    Config::load(None, [], flags).unwrap()
}

/// A fresh database in the cluster of this test run.
pub fn database() -> String {
    let server = std::env::var("LOCKGATE_TEST_POSTGRES").expect("run the tests with `cargo nextest run`");
    let name = format!("t{}", uuid::Uuid::new_v4().simple());
    script(&["create", &server, &name]);
    format!("{}/{name}", server.rsplit_once('/').unwrap().0)
}

/// Runs `tests/postgres.sh`.
pub fn script(arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/postgres.sh");
    let output =
        std::process::Command::new(script).args(arguments).stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Somebody who calls the API; each call on a connection of its own.
#[derive(Clone, Debug)]
pub struct Caller {
    address: SocketAddr,
    headers: HashMap<String, String>,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// `name=value` of the cookie that was set.
    pub fn cookie(&self) -> String {
        self.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
    }

    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl Caller {
    #[must_use]
    pub fn with(&self, name: &str, value: &str) -> Self {
        let mut other = self.clone();
        other.headers.insert(name.to_owned(), value.to_owned());
        other
    }

    #[must_use]
    pub fn without(&self, name: &str) -> Self {
        let mut other = self.clone();
        other.headers.remove(name);
        other
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", &format!("/api/v1{path}"), None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", &format!("/api/v1{path}"), Some(body.to_string())).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", &format!("/api/v1{path}"), Some(body.to_string())).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", &format!("/api/v1{path}"), None).await
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<String>) -> Answer {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if body.is_some() && !self.headers.contains_key("content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        // A stream of events has no end.
        let stream = headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let text = if stream {
            String::new()
        } else {
            String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        connection.abort();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text }
    }
}
