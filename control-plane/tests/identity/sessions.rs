//! Signing in, the cookie, the rule about other sites' pages, and how sessions end.

use control_plane::store::{now, session, throttle};
use serde_json::json;
use time::Duration;

use crate::harness::{On, PASSWORD, Plane};
use crate::on_both_engines;

const ADA: &str = "ada@example.com";

fn digest(cookie: &str) -> [u8; 32] {
    proto::token::digest(cookie.split_once('=').unwrap().1)
}

on_both_engines! {
    async fn the_right_password_opens_and_everything_else_answers_alike(plane: Plane) {
        plane.person(ADA, "viewer").await;
        let stranger = plane.stranger();
        let right = stranger.post("/session", &json!({ "email": "Ada@example.com", "password": PASSWORD })).await;
        assert_eq!(right.status, 201, "{right:?}");
        let cookie = right.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.starts_with("lockgate=") && cookie.ends_with("; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200"));
        assert_eq!(right.headers["cache-control"], "no-store");
        assert_eq!(right.body["permissions"], json!(["catalogue:read", "keys:read", "usage:read", "tokens:own"]));
        assert!(right.body["expiresAt"].is_string() && right.body["organization"]["id"].is_string());

        let mut answers = Vec::new();
        for body in [
            json!({ "email": ADA, "password": "wrong horse battery" }),
            json!({ "email": "nobody@example.com", "password": PASSWORD }),
            json!({ "email": "dev@localhost", "password": PASSWORD }),
            json!({ "email": "no address", "password": PASSWORD }),
            json!({ "oneTimeToken": "nonsense" }),
        ] {
            let mut answer = stranger.post("/session", &body).await;
            assert!(!answer.headers.contains_key("set-cookie"));
            answer.body["requestId"] = json!(null);
            answers.push((answer.status, answer.body));
        }
        assert_eq!(answers[0].0, 401);
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    }

    async fn signing_in_again_ends_the_session_the_browser_had(plane: Plane) {
        plane.person(ADA, "viewer").await;
        let first = plane.browser(ADA, PASSWORD).await;
        assert_eq!(first.get("/session").await.status, 200);
        let second = first.post("/session", &json!({ "email": ADA, "password": PASSWORD })).await;
        assert_eq!(second.status, 201);
        assert_eq!(first.get("/session").await.status, 401);
        let browser = first.with("cookie", &second.cookie());
        assert_eq!(browser.get("/session").await.status, 200);
        let out = browser.delete("/session").await;
        assert_eq!(out.status, 204);
        assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
        assert_eq!(browser.get("/session").await.status, 401);
    }

    async fn a_cookie_changes_nothing_from_another_sites_page(plane: Plane) {
        plane.person(ADA, "viewer").await;
        let own = plane.browser(ADA, PASSWORD).await;
        let silent = own.without("sec-fetch-site");
        let body = json!({ "name": "script" });
        assert_eq!(own.post("/tokens", &body).await.status, 201);
        assert_eq!(silent.with("origin", &plane.handle().public_url).post("/tokens", &body).await.status, 201);
        for foreign in [
            silent.clone(),
            silent.with("sec-fetch-site", "cross-site"),
            silent.with("sec-fetch-site", "same-site"),
            silent.with("sec-fetch-site", "none"),
            silent.with("origin", "https://evil.example.com"),
            silent.with("sec-fetch-site", "cross-site").with("origin", &plane.handle().public_url),
        ] {
            let answer = foreign.post("/tokens", &body).await;
            assert_eq!((answer.status, answer.code()), (403, "forbidden"), "{foreign:?}");
            assert_eq!(foreign.delete("/session").await.status, 403);
            // Reading is for the browser's own rules (SameSite) to prevent.
            assert_eq!(foreign.get("/session").await.status, 200);
        }
        let form = own.with("content-type", "text/plain").post("/tokens", &body).await;
        assert_eq!(form.status, 415);
        let login = plane.stranger().with("sec-fetch-site", "cross-site");
        assert_eq!(login.post("/session", &json!({ "email": ADA, "password": PASSWORD })).await.status, 403);
    }

    async fn a_token_never_falls_back_to_the_cookie(plane: Plane) {
        plane.person(ADA, "viewer").await;
        let browser = plane.browser(ADA, PASSWORD).await;
        assert_eq!(browser.with("authorization", "Bearer lgt_wrong").get("/session").await.status, 401);
        assert_eq!(browser.with("authorization", "Basic YTpi").get("/session").await.status, 401);
    }

    async fn a_session_ends_when_idle_and_after_twelve_hours(plane: Plane) {
        plane.person(ADA, "viewer").await;
        let signed_in = plane.stranger().post("/session", &json!({ "email": ADA, "password": PASSWORD })).await;
        let digest = digest(&signed_in.cookie());
        let store = plane.store().await;
        let engine = store.engine();
        let begun = now();
        let found = async |after: Duration| session::find(engine, &digest, begun + after).await.unwrap();
        assert!(found(Duration::minutes(29)).await.is_some());
        assert!(found(Duration::minutes(31)).await.is_none());
        // Used every 20 minutes it lives on, and ends all the same.
        let mut after = Duration::ZERO;
        while after < Duration::hours(12) - Duration::minutes(1) {
            let session = found(after).await.expect("in use");
            session::touch(engine, &session, begun + after).await.unwrap();
            after += Duration::minutes(20);
        }
        assert!(found(Duration::hours(12)).await.is_none());
    }

    async fn failures_make_an_account_wait_longer_and_longer_and_success_forgives(plane: Plane) {
        let store = plane.store().await;
        let (engine, organization) = (store.engine(), store.first_organization());
        let subjects = throttle::Subjects::new(Some(ADA), "192.0.2.1".parse().unwrap());
        let mut at = now();
        for _ in 0..5 {
            throttle::attempt(engine, organization, &subjects, at).await.unwrap();
        }
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900] {
            let wait = Duration::seconds(seconds);
            let early = throttle::attempt(engine, organization, &subjects, at + wait - Duration::milliseconds(1)).await;
            assert!(matches!(early, Err(control_plane::model::error::Error::Throttled { .. })), "{seconds}: {early:?}");
            at += wait;
            throttle::attempt(engine, organization, &subjects, at).await.unwrap();
        }
        // Never for good, and never longer than a quarter of an hour.
        at += Duration::minutes(15);
        throttle::attempt(engine, organization, &subjects, at).await.unwrap();
        throttle::succeeded(engine, organization, &subjects).await.unwrap();
        throttle::attempt(engine, organization, &subjects, at).await.unwrap();
        assert_eq!(throttle::sweep(engine, at).await.unwrap(), 0);
        assert_eq!(throttle::sweep(engine, at + Duration::hours(1)).await.unwrap(), 2);
    }

    async fn attempts_at_one_time_all_count(plane: Plane) {
        let store = plane.store().await;
        let at = now();
        let attempts: Vec<_> = (0..20)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    let subjects = throttle::Subjects::new(Some(ADA), "192.0.2.1".parse().unwrap());
                    throttle::attempt(store.engine(), store.first_organization(), &subjects, at).await.is_ok()
                })
            })
            .collect();
        let mut admitted = 0;
        for attempt in attempts {
            admitted += usize::from(attempt.await.unwrap());
        }
        assert_eq!(admitted, 5);
    }

    async fn the_sixth_wrong_password_is_told_to_wait_even_if_it_is_right(plane: Plane) {
        plane.person(ADA, "viewer").await;
        let mut last = None;
        for _ in 0..12 {
            let answer = plane.stranger().post("/session", &json!({ "email": ADA, "password": "wrong horse battery" })).await;
            if answer.status == 429 {
                last = Some(answer);
                break;
            }
            assert_eq!(answer.status, 401);
        }
        let last = last.expect("throttled");
        assert!(last.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        let right = plane.stranger().post("/session", &json!({ "email": ADA, "password": PASSWORD })).await;
        assert_eq!((right.status, right.code()), (429, "throttled"));
    }

    async fn a_large_body_is_refused_before_anything_else(plane: Plane) {
        let body = json!({ "email": ADA, "password": "x".repeat(5000) });
        let answer = plane.stranger().post("/session", &body).await;
        assert_eq!((answer.status, answer.code()), (413, "too_large"));
        let both = json!({ "email": ADA, "password": PASSWORD, "oneTimeToken": "x" });
        assert_eq!(plane.stranger().post("/session", &both).await.status, 422);
    }

    async fn a_sign_in_link_opens_once_within_ten_minutes(plane: Plane) {
        let admin = plane.handle().local_admin().await.unwrap();
        assert_eq!(format!("{admin:?}"), "[secret]");
        let body = json!({ "oneTimeToken": admin.sign_in });
        let first = plane.stranger().post("/session", &body).await;
        assert_eq!((first.status, first.body["user"]["email"].as_str()), (201, Some("dev@localhost")));
        assert_eq!(plane.stranger().post("/session", &body).await.status, 401);

        // However often the right way in is used, it is no failure.
        for _ in 0..40 {
            let body = json!({ "oneTimeToken": plane.handle().local_admin().await.unwrap().sign_in });
            assert_eq!(plane.stranger().post("/session", &body).await.status, 201);
        }

        let again = plane.handle().local_admin().await.unwrap();
        assert_eq!(again.token, admin.token);
        let store = plane.store().await;
        let digest = proto::token::digest(&again.sign_in);
        let at = now() + Duration::minutes(10);
        let late = control_plane::store::one_time_token::claim_sign_in(store.engine(), &digest, at).await;
        assert!(late.unwrap().is_none());
    }
}
