//! The audit log: what is in it, and that nobody changes it unseen.

use control_plane::store::audit::{Verified, verify};
use control_plane::store::{Engine, Store};
use serde_json::json;

use crate::harness::{On, PASSWORD, Plane};
use crate::on_both_engines;

async fn execute(store: &Store, sql: &'static str) {
    match store.engine() {
        Engine::Postgres(pool) => sqlx::query(sql).execute(pool).await.map(|_| ()).unwrap(),
        Engine::Sqlite { pool, .. } => sqlx::query(sql).execute(pool).await.map(|_| ()).unwrap(),
    }
}

async fn verified(store: &Store) -> Verified {
    verify(store.engine(), store.first_organization()).await.unwrap()
}

on_both_engines! {
    async fn every_attempt_is_there_with_who_and_what_became_of_it(plane: Plane) {
        let viewer = plane.member("viewer").await;
        let user = viewer.get("/session").await.body["user"]["id"].as_str().unwrap().to_owned();
        let denied = viewer.post("/users", &json!({ "email": "x@example.com", "role": "owner", "password": PASSWORD })).await;
        assert_eq!(denied.status, 403);
        let failed = plane.stranger().post("/session", &json!({ "email": "dev@localhost", "password": "canary-password" })).await;
        assert_eq!(failed.status, 401);

        let admin = plane.admin().await;
        let audit = admin.get("/audit?limit=100").await;
        assert!(!audit.text.contains("canary-password") && !audit.text.contains(PASSWORD));
        let rows = audit.body["data"].as_array().unwrap();
        let find = |action: &str, outcome: &str| {
            rows.iter().find(|row| row["action"] == action && row["outcome"] == outcome).unwrap_or_else(|| panic!("{action} {outcome}: {rows:#?}"))
        };
        assert_eq!(find("user.create", "done")["actor"]["kind"], "token");
        assert_eq!(find("session.create", "done")["resourceId"].as_str().unwrap().split('_').next(), Some("ses"));
        let sign_in = find("session.create", "denied");
        assert_eq!((sign_in["actor"]["kind"].as_str(), sign_in["changes"]["by"].as_str()), (Some("anonymous"), Some("password")));
        let refused = find("request.refuse", "denied");
        assert_eq!(refused["changes"], json!({ "method": "POST", "route": "/api/v1/users", "status": 403 }));
        assert_eq!(refused["requestId"], denied.body["requestId"]);
        assert_eq!(find("token.create", "done")["actor"]["id"], user.as_str());
        let newest: Vec<_> = rows.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
        assert!(newest.is_sorted_by(|one, next| one == &(next + 1)), "{newest:?}");
        let first = admin.get("/audit?limit=1").await;
        let next = admin.get(&format!("/audit?limit=1&cursor={}", first.body["nextCursor"].as_str().unwrap())).await;
        assert_eq!(first.body["data"][0]["seq"].as_i64(), next.body["data"][0]["seq"].as_i64().map(|seq| seq + 1));
    }

    async fn the_chain_is_whole_and_every_change_of_it_is_found(plane: Plane) {
        plane.member("viewer").await;
        let store = plane.store().await;
        let Verified::Whole { entries } = verified(&store).await else { panic!("broken") };
        assert!(entries >= 4, "{entries}");
        for tampered in [
            "UPDATE audit SET action = 'user.remove' WHERE seq = 2",
            "UPDATE audit SET outcome = 'denied' WHERE seq = 2",
            "UPDATE audit SET actor_kind = 'anonymous' WHERE seq = 2",
            "UPDATE audit SET resource_id = id WHERE seq = 2",
            "UPDATE audit SET request_id = id WHERE seq = 2",
            "UPDATE audit SET at = (SELECT created_at FROM organization) WHERE seq = 2",
            "UPDATE audit SET changes = '{\"role\": \"viewer\"}' WHERE seq = 2",
            "UPDATE audit SET hash = previous_hash WHERE seq = 2",
            "DELETE FROM audit WHERE seq = 2",
        ] {
            execute(&store, "CREATE TABLE kept AS SELECT * FROM audit WHERE seq = 2").await;
            execute(&store, tampered).await;
            assert_eq!(verified(&store).await, Verified::Broken { seq: 2 }, "{tampered}");
            execute(&store, "DELETE FROM audit WHERE seq = 2").await;
            execute(&store, "INSERT INTO audit SELECT * FROM kept").await;
            execute(&store, "DROP TABLE kept").await;
            assert_eq!(verified(&store).await, Verified::Whole { entries }, "{tampered}");
        }
        execute(&store, "DELETE FROM audit WHERE seq > 2").await;
        assert_eq!(verified(&store).await, Verified::Broken { seq: 3 });
    }
}
