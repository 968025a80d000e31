//! The master key, the store that is away, and secrets that never show.

use std::os::unix::fs::PermissionsExt as _;

use control_plane::seal::Keyring;
use serde_json::json;

use crate::harness::{On, PASSWORD, Plane, config, script};
use crate::on_both_engines;

on_both_engines! {
    async fn a_wrong_master_key_does_not_start_and_the_wanted_one_is_named(plane: Plane) {
        let mut plane = plane;
        plane.stop().await;
        let file = plane.path("master.key");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let right = std::fs::read_to_string(&file).unwrap();
        let id = right.lines().last().unwrap().split(' ').next().unwrap().to_owned();

        std::fs::write(&file, Keyring::generate().expose()).unwrap();
        let error = control_plane::start(plane.config()).await.unwrap_err().to_string();
        assert!(error.contains(&format!("sealed with master key {id}")) && error.contains("add a line"), "{error}");

        std::fs::remove_file(&file).unwrap();
        let error = control_plane::start(plane.config()).await.unwrap_err().to_string();
        assert!(error.contains(&id) && error.contains("does not exist"), "{error}");
        assert!(!file.exists(), "a new key beside old secrets");

        std::fs::write(&file, "nonsense").unwrap();
        let error = control_plane::start(plane.config()).await.unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("nonsense"), "{error}");

        // A new first key beside the old one; then both are wanted.
        let new = Keyring::generate();
        std::fs::write(&file, format!("{}{right}", new.expose())).unwrap();
        control_plane::start(plane.config()).await.unwrap().shutdown().await;
        std::fs::write(&file, new.expose()).unwrap();
        let error = control_plane::start(plane.config()).await.unwrap_err().to_string();
        assert!(error.contains(&id), "{error}");

        let mut inline = plane.config();
        std::fs::remove_file(&file).unwrap();
        inline.security.master_key = Some(control_plane::sensitive::Sensitive::new(format!("{}{right}", new.expose())));
        control_plane::start(inline).await.unwrap().shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_503_and_never_401() {
    let folder = tempfile::Builder::new().prefix("lockgate-postgres.").tempdir().unwrap();
    let folder = folder.path().to_str().unwrap().to_owned();
    let url = script(&["start", &folder]);
    let plane = Plane::start_at(Some(url)).await;
    let token = plane.admin().await;
    plane.person("ada@example.com", "viewer").await;
    let browser = plane.browser("ada@example.com", PASSWORD).await;
    assert_eq!(plane.stranger().call("GET", "/readyz", None).await.status, 200);

    script(&["pause", &folder]);
    let sign_in = json!({ "email": "ada@example.com", "password": PASSWORD });
    let (with_token, with_cookie, signing_in, ready) = tokio::join!(
        token.get("/session"),
        browser.get("/session"),
        async { plane.stranger().post("/session", &sign_in).await },
        async { plane.stranger().call("GET", "/readyz", None).await },
    );
    for answer in [&with_token, &with_cookie, &signing_in, &ready] {
        assert_eq!((answer.status, answer.code()), (503, "unavailable"), "{answer:?}");
        assert!(!answer.text.contains("postgres") && answer.headers.contains_key("retry-after"));
    }
    assert_eq!(plane.stranger().call("GET", "/healthz", None).await.status, 200);

    script(&["resume", &folder]);
    assert_eq!(token.get("/session").await.status, 200);
    script(&["stop", &folder]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_answers_health_version_console_and_unknown_paths() {
    let plane = Plane::start(On::Sqlite).await;
    let stranger = plane.stranger();
    assert_eq!(stranger.call("GET", "/version", None).await.body["store"], "sqlite");
    let page = stranger.call("GET", "/providers/openai-prod", None).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers["cache-control"], "no-cache");
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    let missing = stranger.call("GET", "/assets/gone-1a2b.js", None).await;
    assert_eq!((missing.status, missing.headers["content-type"].to_str().unwrap()), (404, "text/plain; charset=utf-8"));
    for (method, path) in [("GET", "/api/v1/everything"), ("GET", "/api"), ("POST", "/providers")] {
        let answer = stranger.call(method, path, None).await;
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{path}");
        assert_eq!(answer.headers["x-request-id"].to_str().unwrap(), answer.body["requestId"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_beside_us_find_their_token_in_a_file_that_only_we_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("shared/gateway-token");
    let start = async |data: &str| {
        let mut config = config(&directory.path().join(data), None);
        config.bootstrap.gateway_token_file = Some(file.clone());
        config.bootstrap.gateway_base_url = Some("http://127.0.0.1:8080".parse().unwrap());
        let handle = control_plane::start(config).await.unwrap();
        handle.shutdown().await;
        std::fs::read_to_string(&file).unwrap().trim().to_owned()
    };
    let first = start("one").await;
    assert!(proto::token::parse(proto::token::TokenKind::Gateway, &first).is_ok());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(start("one").await, first, "a restart keeps it");
    let other = start("another").await;
    assert_ne!(other, first, "a new store has another authority");
    assert_ne!(proto::token::ca_fingerprint(&other), proto::token::ca_fingerprint(&first));
}

#[tokio::test]
async fn settings_that_cannot_work_say_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = control_plane::start(config(directory.path(), Some("mysql://u:canary@h/d"))).await.unwrap_err();
    assert!(error.to_string().contains("store.url must begin with postgres://"), "{error}");
    let away = config(directory.path(), Some("postgres://u:canary-password@127.0.0.1:1/d"));
    let error = control_plane::start(away).await.unwrap_err();
    let debug = format!("{error} {error:?}");
    assert!(debug.contains("check store.url") && !debug.contains("canary"), "{debug}");
}
