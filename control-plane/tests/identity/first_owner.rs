//! The first owner.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::harness::{On, PASSWORD, Plane};
use crate::on_both_engines;

fn claim(token: &str, email: &str) -> serde_json::Value {
    json!({ "token": token, "email": email, "password": PASSWORD })
}

on_both_engines! {
    async fn fifty_claims_at_one_time_make_exactly_one_owner(plane: Plane) {
        let token = plane.handle().bootstrap.as_ref().unwrap().token.expose().to_owned();
        assert_eq!(plane.stranger().get("/bootstrap").await.body["needed"], true);
        let claims: Vec<_> = (0..50)
            .map(|number| {
                let (caller, body) = (plane.stranger(), claim(&token, &format!("owner{number}@example.com")));
                tokio::spawn(async move { caller.post("/bootstrap", &body).await.status })
            })
            .collect();
        let mut statuses = Vec::new();
        for claim in claims {
            statuses.push(claim.await.unwrap());
        }
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [201, 401, 409, 429, 503].contains(status)), "{statuses:?}");
        let users = plane.admin().await.get("/users?q=example.com").await;
        assert_eq!(users.body["data"].as_array().unwrap().len(), 1, "{users:?}");
        assert_eq!(plane.stranger().get("/bootstrap").await.body["needed"], false);
    }

    async fn the_token_opens_once_and_the_owner_is_signed_in(plane: Plane) {
        let mut plane = plane;
        let owner = plane.handle().bootstrap.clone().unwrap();
        assert_eq!(std::fs::metadata(&owner.file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(&owner.file).unwrap().trim(), owner.token.expose());

        // A restart before anybody came keeps the token.
        plane.restart().await;
        assert_eq!(plane.handle().bootstrap.as_ref().unwrap().token.expose(), owner.token.expose());

        let answer = plane.stranger().post("/bootstrap", &claim(owner.token.expose(), "Ada@Example.com")).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_eq!(answer.body["user"]["email"], "ada@example.com");
        assert_eq!(answer.body["user"]["role"], "owner");
        let session = plane.stranger().with("cookie", &answer.cookie()).get("/session").await;
        assert_eq!(session.body["user"]["displayName"], "ada");

        let again = plane.stranger().post("/bootstrap", &claim(owner.token.expose(), "eve@example.com")).await;
        assert_eq!(again.status, 401, "{again:?}");
        plane.restart().await;
        assert!(plane.handle().bootstrap.is_none());
        assert!(!owner.file.exists());
    }

    async fn a_wrong_token_opens_nothing_and_is_written_down(plane: Plane) {
        let wrong = control_plane::random::token(proto::token::TokenKind::Bootstrap, None);
        let stranger = plane.stranger();
        for token in [wrong.expose(), "lgb_nonsense", ""] {
            let answer = stranger.post("/bootstrap", &claim(token, "eve@example.com")).await;
            assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{answer:?}");
        }
        let short = json!({ "token": wrong.expose(), "email": "eve@example.com", "password": "hunter2" });
        let answer = stranger.post("/bootstrap", &short).await;
        assert_eq!(answer.status, 422);
        assert_eq!(answer.body["errors"][0]["pointer"], "/password");
        assert!(!answer.text.contains("hunter2"));
        let audit = plane.admin().await.get("/audit?q=bootstrap").await;
        let outcomes: Vec<_> = audit.body["data"].as_array().unwrap().iter().map(|row| row["outcome"].clone()).collect();
        assert_eq!(outcomes, ["denied", "denied", "denied"], "{audit:?}");
    }

    async fn the_token_ends_after_a_day(plane: Plane) {
        let token = plane.handle().bootstrap.as_ref().unwrap().token.expose().to_owned();
        let store = plane.store().await;
        let live = async |after: time::Duration| {
            let at = control_plane::store::now() + after;
            control_plane::store::one_time_token::bootstrap_is_live(store.engine(), &proto::token::digest(&token), at)
                .await
                .unwrap()
        };
        assert!(live(time::Duration::hours(23)).await);
        assert!(!live(time::Duration::hours(24)).await);
    }
}
