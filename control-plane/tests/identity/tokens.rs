//! Personal access tokens.

use control_plane::store::{access_token, now};
use serde_json::json;
use time::Duration;

use crate::harness::{On, Plane};
use crate::on_both_engines;

on_both_engines! {
    async fn a_token_is_shown_once_and_works_until_it_is_revoked(plane: Plane) {
        let caller = plane.member("viewer").await;
        let made = caller.post("/tokens", &json!({ "name": "ci", "expiresIn": "30d" })).await;
        assert_eq!(made.status, 201, "{made:?}");
        assert_eq!(made.headers["cache-control"], "no-store");
        let token = made.body["token"].as_str().unwrap();
        assert!(token.starts_with("lgt_") && token.ends_with(made.body["last4"].as_str().unwrap()));
        let id = made.body["id"].as_str().unwrap();
        assert_eq!(made.headers["location"], format!("/api/v1/tokens/{id}"));

        let scripted = plane.stranger().with("authorization", &format!("Bearer {token}"));
        assert_eq!(scripted.get("/session").await.body["user"]["role"], "viewer");
        let list = caller.get("/tokens").await;
        assert_eq!(list.body["data"].as_array().unwrap().len(), 2);
        assert!(!list.text.contains(token) && list.text.contains("lastUsedAt"));

        assert_eq!(caller.delete(&format!("/tokens/{id}")).await.status, 204);
        let refused = scripted.get("/session").await;
        assert_eq!((refused.status, refused.headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
        assert_eq!(caller.delete(&format!("/tokens/{id}")).await.status, 404);
    }

    async fn nobody_revokes_or_sees_anothers_token(plane: Plane) {
        let (one, other) = (plane.member("admin").await, plane.member("viewer").await);
        let made = one.post("/tokens", &json!({ "name": "ci" })).await;
        let id = made.body["id"].as_str().unwrap();
        assert_eq!(other.delete(&format!("/tokens/{id}")).await.status, 404);
        assert!(!other.get("/tokens").await.text.contains(id));
        let token = format!("Bearer {}", made.body["token"].as_str().unwrap());
        assert_eq!(plane.stranger().with("authorization", &token).get("/session").await.status, 200);
    }

    async fn a_token_ends_in_time_and_one_made_with_it_no_later(plane: Plane) {
        let caller = plane.member("viewer").await;
        let short = caller.post("/tokens", &json!({ "name": "short", "expiresIn": "1h" })).await;
        let token = short.body["token"].as_str().unwrap();
        let scripted = plane.stranger().with("authorization", &format!("Bearer {token}"));
        let child = scripted.post("/tokens", &json!({ "name": "child", "expiresIn": "90d" })).await;
        assert_eq!(child.body["expiresAt"], short.body["expiresAt"]);

        let store = plane.store().await;
        let find = async |after| access_token::find(store.engine(), &proto::token::digest(token), now() + after).await;
        assert!(find(Duration::minutes(59)).await.unwrap().is_some());
        assert!(find(Duration::minutes(61)).await.unwrap().is_none());
        for life in ["0s", "367d", "soon"] {
            let refused = caller.post("/tokens", &json!({ "name": "x", "expiresIn": life })).await;
            assert_eq!((refused.status, refused.body["errors"][0]["pointer"].as_str()), (422, Some("/expiresIn")), "{life}");
        }
    }

    async fn what_is_no_token_is_refused_alike(plane: Plane) {
        let unknown = control_plane::random::token(proto::token::TokenKind::PersonalAccess, None);
        let key = control_plane::random::token(proto::token::TokenKind::ApiKey, None);
        for value in ["Bearer", "Bearer ", "Bearer lgt_x", &format!("Bearer {}", unknown.expose()), &format!("Bearer {}", key.expose())] {
            let answer = plane.stranger().with("authorization", value).get("/session").await;
            assert_eq!((answer.status, answer.code()), (401, "unauthenticated"), "{value}");
        }
    }
}
