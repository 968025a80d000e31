//! Nothing secret is ever logged: every event at every level of a day's work is kept and searched.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{On, PASSWORD, Plane};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

async fn a_days_work(on: On) {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let mut plane = Plane::start(on).await;
    let mut secrets = vec![PASSWORD.to_owned(), "wrong horse canary".to_owned()];
    let owner = plane.handle().bootstrap.as_ref().unwrap().token.expose().to_owned();
    let body = json!({ "token": owner, "email": "ada@example.com", "password": PASSWORD });
    let claimed = plane.stranger().post("/bootstrap", &body).await;
    secrets.push(owner);
    secrets.push(claimed.cookie().split_once('=').unwrap().1.to_owned());
    let wrong = json!({ "email": "ada@example.com", "password": "wrong horse canary" });
    assert_eq!(plane.stranger().post("/session", &wrong).await.status, 401);
    let browser = plane.browser("ada@example.com", PASSWORD).await;
    let made = browser.post("/tokens", &json!({ "name": "ci" })).await;
    secrets.push(made.body["token"].as_str().unwrap().to_owned());
    let admin = plane.handle().local_admin().await.unwrap();
    plane.stranger().post("/session", &json!({ "oneTimeToken": admin.sign_in })).await;
    plane.stranger().with("authorization", "Bearer lgt_canary-malformed").get("/session").await;
    secrets.extend([admin.token, admin.sign_in, "canary-malformed".to_owned()]);
    let unknown_field = json!({ "email": "b@example.com", "role": "viewer", "password": PASSWORD, "x": 1 });
    assert_eq!(browser.post("/users", &unknown_field).await.status, 422);
    let key = std::fs::read_to_string(plane.path("master.key")).unwrap();
    secrets.push(key.split_whitespace().last().unwrap().to_owned());
    plane.restart().await;
    plane.stop().await;

    // The search finds what is there.
    tracing::info!("planted-leak");
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("planted-leak") && text.contains("/api/v1/session"), "the log was not kept");
    for secret in &secrets {
        assert!(secret.len() >= 12);
        let lines: Vec<_> = text.lines().filter(|line| line.contains(secret.as_str())).collect();
        assert!(lines.is_empty(), "{secret} was logged: {lines:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_logged_on_sqlite() {
    a_days_work(On::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_secret_is_logged_on_postgres() {
    a_days_work(On::Postgres).await;
}
