//! Members: who makes, changes and removes whom.

use serde_json::json;

use crate::harness::{On, PASSWORD, Plane};
use crate::on_both_engines;

const ADA: &str = "ada@example.com";

on_both_engines! {
    async fn only_owners_make_and_change_owners(plane: Plane) {
        let owner = plane.member("owner").await;
        let owner_id = owner.get("/session").await.body["user"]["id"].as_str().unwrap().to_owned();
        let admin = plane.member("admin").await;
        let body = |role| json!({ "email": ADA, "role": role, "password": PASSWORD });
        assert_eq!(admin.post("/users", &body("owner")).await.status, 403);
        let made = admin.post("/users", &body("editor")).await;
        assert_eq!(made.status, 201, "{made:?}");
        let path = format!("/users/{}", made.body["id"].as_str().unwrap());
        assert_eq!(admin.put(&path, &json!({ "email": ADA, "role": "owner" })).await.status, 403);
        assert_eq!(admin.put(&path, &json!({ "email": ADA, "role": "viewer" })).await.body["role"], "viewer");
        // Nor take one over by a new password, nor by the address.
        let row = admin.get(&format!("/users/{owner_id}")).await.body;
        let takeover = json!({ "email": row["email"], "role": "owner", "password": "another horse battery" });
        assert_eq!(admin.put(&format!("/users/{owner_id}"), &takeover).await.status, 403);
        assert_eq!(admin.delete(&format!("/users/{owner_id}")).await.status, 403);
        assert_eq!(owner.put(&path, &json!({ "email": ADA, "role": "owner" })).await.status, 200);
        assert_eq!(owner.delete(&path).await.status, 204);
        assert_eq!(owner.get(&path).await.status, 404);
    }

    async fn there_is_always_an_owner(plane: Plane) {
        let dev = plane.admin().await;
        let row = dev.get("/session").await.body["user"].clone();
        let path = format!("/users/{}", row["id"].as_str().unwrap());
        let demoted = dev.put(&path, &json!({ "email": row["email"], "role": "viewer" })).await;
        assert_eq!((demoted.status, demoted.code()), (409, "conflict"), "{demoted:?}");
        assert_eq!(dev.delete(&path).await.status, 409);
        // Two owners who remove each other at one time: one stays.
        let (one, other) = (plane.member("owner").await, plane.member("owner").await);
        assert_eq!(one.delete(&path).await.status, 204);
        let id = async |caller: &crate::harness::Caller| {
            caller.get("/session").await.body["user"]["id"].as_str().unwrap().to_owned()
        };
        let (path_of_one, path_of_other) = (format!("/users/{}", id(&one).await), format!("/users/{}", id(&other).await));
        let (left, right) = tokio::join!(one.delete(&path_of_other), other.delete(&path_of_one));
        let mut statuses = [left.status, right.status];
        statuses.sort_unstable();
        assert!(matches!(statuses, [204, 401 | 409]), "{statuses:?}");
    }

    async fn a_new_role_or_password_ends_the_members_sessions(plane: Plane) {
        let id = plane.person(ADA, "viewer").await;
        let path = format!("/users/{id}");
        let browser = plane.browser(ADA, PASSWORD).await;
        let admin = plane.admin().await;
        assert_eq!(admin.put(&path, &json!({ "email": ADA, "role": "viewer", "displayName": "Ada" })).await.status, 200);
        assert_eq!(browser.get("/session").await.body["user"]["displayName"], "Ada");
        assert_eq!(admin.put(&path, &json!({ "email": ADA, "role": "editor" })).await.status, 200);
        assert_eq!(browser.get("/session").await.status, 401);
    }

    async fn ones_own_password_needs_the_old_one_and_the_browser_goes_on(plane: Plane) {
        let id = plane.person(ADA, "viewer").await;
        let path = format!("/users/{id}");
        let (browser, elsewhere) = (plane.browser(ADA, PASSWORD).await, plane.browser(ADA, PASSWORD).await);
        let body = |current: Option<&str>| {
            json!({ "email": ADA, "role": "viewer", "password": "another horse battery", "currentPassword": current })
        };
        for current in [None, Some("wrong horse battery")] {
            let refused = browser.put(&path, &body(current)).await;
            assert_eq!((refused.status, refused.body["errors"][0]["pointer"].as_str()), (422, Some("/currentPassword")));
        }
        let changed = browser.put(&path, &body(Some(PASSWORD))).await;
        assert_eq!(changed.status, 200, "{changed:?}");
        assert_eq!(browser.get("/session").await.status, 401);
        assert_eq!(elsewhere.get("/session").await.status, 401);
        assert_eq!(browser.with("cookie", &changed.cookie()).get("/session").await.status, 200);
        plane.browser(ADA, "another horse battery").await;
        // Nobody raises the own role.
        let fresh = plane.browser(ADA, "another horse battery").await;
        assert_eq!(fresh.put(&path, &json!({ "email": ADA, "role": "owner" })).await.status, 403);
    }

    async fn an_address_is_taken_once_and_bad_input_has_pointers(plane: Plane) {
        plane.person(ADA, "viewer").await;
        let admin = plane.admin().await;
        let body = |email: &str| json!({ "email": email, "role": "viewer", "password": PASSWORD });
        let taken = admin.post("/users", &body("ADA@example.com")).await;
        assert_eq!((taken.status, taken.code()), (409, "name_taken"));
        let wrong = admin.post("/users", &body("nobody")).await;
        assert_eq!((wrong.status, wrong.body["errors"][0]["pointer"].as_str()), (422, Some("/email")));
        let role = admin.post("/users", &json!({ "email": "b@example.com", "role": "ownr", "password": PASSWORD })).await;
        assert_eq!((role.status, role.body["errors"][0]["suggestion"].as_str()), (422, Some("owner")));
        let field = admin.post("/users", &json!({ "email": "b@example.com", "role": "viewer", "pasword": PASSWORD })).await;
        assert_eq!(field.body["errors"][0]["suggestion"], "password");
        assert!(!field.text.contains(PASSWORD));
        assert_eq!(admin.get("/users/usr_nonsense").await.status, 404);
        let list = admin.get("/users?q=ADA%40").await;
        assert_eq!(list.body["data"].as_array().unwrap().len(), 1);
        assert_eq!(admin.get("/users?q=%25").await.body["data"].as_array().unwrap().len(), 0);
        let page = admin.get("/users?limit=1").await;
        let next = admin.get(&format!("/users?limit=1&cursor={}", page.body["nextCursor"].as_str().unwrap())).await;
        assert_ne!(page.body["data"][0]["id"], next.body["data"][0]["id"]);
        assert_eq!(next.body["nextCursor"], json!(null));
    }
}
