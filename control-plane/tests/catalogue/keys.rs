//! API keys: shown once, kept as digests, rotated with grace, ended for good.

use control_plane::store::catalog::ApiKeyEntry;
use proto::token::digest;
use serde_json::json;

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::{catalog, deploy, provider};

async fn only(plane: &Plane) -> ApiKeyEntry {
    catalog(plane).await.api_keys.remove(0)
}

on_both_engines! {
    async fn a_key_is_shown_once_and_kept_as_a_digest(plane: Plane) {
        let admin = plane.admin().await;
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let input = json!({ "name": "ci", "endpoints": ["openai-prod"], "expiresIn": "90d" });
        let made = admin.post("/api-keys", &input).await.expect(201);
        let text = made.body["key"].as_str().unwrap().to_owned();
        assert_eq!(made.headers["cache-control"], "no-store");
        assert_eq!(made.body["status"], "active");
        assert!(made.body["expiresAt"].is_string());
        let display = made.body["display"].as_str().unwrap();
        assert!(display.starts_with("lgk_") && display.ends_with(&text[text.len() - 4..]) && display.len() < 30);
        for path in ["/api-keys", "/api-keys/ci", "/audit"] {
            let answer = admin.get(path).await.expect(200);
            assert!(!answer.text.contains(&text[20..40]), "{path}");
        }
        // Its endpoint is not deployed: the gateway knows the key, and it opens nothing there.
        let entry = only(&plane).await;
        assert_eq!(entry.credentials[0].digest, digest(&text));
        assert!(entry.endpoint_ids.is_empty() && entry.expires_at_ms.is_some());
        deploy(&admin, "openai-prod").await.expect(202);
        assert_eq!(only(&plane).await.endpoint_ids.len(), 1);
        let wrong = json!({ "name": "other", "endpoints": ["openai-prod", "opnai-prod"] });
        let refused = admin.post("/api-keys", &wrong).await.expect(422);
        assert_eq!(refused.errors(), [("/endpoints/1", "not_found")]);
        assert_eq!(refused.body["errors"][0]["suggestion"], "openai-prod");
        admin.post("/api-keys", &json!({ "name": "other", "endpoints": [] })).await.expect(422);
        assert_eq!(admin.post("/api-keys", &input).await.expect(409).code(), "name_taken");
    }

    async fn limits_are_kept_checked_and_told_without_a_deployment(plane: Plane) {
        let admin = plane.admin().await;
        let limits = |limit: u64| json!([
            { "name": "pace", "metric": "requests", "limit": limit, "window": "1m" },
            { "name": "budget", "metric": "cost", "limit": "2.50", "window": "month", "unpriced": "allow" },
        ]);
        let mut wanted = provider("openai-prod");
        wanted["limits"] = limits(5);
        let made = admin.post("/llm-providers", &wanted).await.expect(201);
        assert_eq!(made.body["limits"][0]["window"], "60s");
        assert_eq!(made.body["limits"][1]["limit"], 2_500_000_000_u64, "in nano-dollars");
        deploy(&admin, "openai-prod").await.expect(202);
        let deployed = catalog(&plane).await.endpoints.remove(0);
        assert_eq!(deployed.limits.len(), 2);
        // Another number: live at once, and nothing waits for a deployment.
        wanted["limits"] = limits(6);
        let changed = admin.with("if-match", "*").put("/llm-providers/openai-prod", &wanted).await.expect(200);
        assert_eq!(changed.body["pendingChanges"], false);
        let live = catalog(&plane).await.endpoints.remove(0);
        assert_eq!(live.limits[0].limit, 6);
        assert!(live.revision > deployed.revision);
        // The same on a key.
        let mut key = json!({ "name": "ci", "endpoints": ["openai-prod"], "limits": limits(7) });
        let made = admin.post("/api-keys", &key).await.expect(201);
        assert_eq!(made.body["limits"][0]["limit"], 7);
        assert_eq!(only(&plane).await.limits[0].limit, 7);
        key["limits"] = json!([]);
        admin.with("if-match", "*").put("/api-keys/ci", &key).await.expect(200);
        assert_eq!(only(&plane).await.limits, []);
        key["limits"] = json!([
            { "name": "pace", "metric": "requests", "limit": 0, "window": "1m" },
            { "name": "pace", "metric": "concurrentRequests", "limit": 1, "window": "1m" },
        ]);
        let refused = admin.with("if-match", "*").put("/api-keys/ci", &key).await.expect(422);
        let expected = ["/limits/0/limit", "/limits/1/name", "/limits/1/window"];
        assert_eq!(refused.errors(), expected.map(|pointer| (pointer, "invalid")));
    }

    async fn a_rotated_key_has_two_secrets_at_most(plane: Plane) {
        let admin = plane.admin().await;
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let made = admin.post("/api-keys", &json!({ "name": "ci", "endpoints": ["openai-prod"] })).await.expect(201);
        let text = |answer: &crate::harness::Answer| answer.body["key"].as_str().unwrap().to_owned();
        let second = admin.post("/api-keys/ci/rotate", &json!({ "grace": "24h" })).await.expect(200);
        assert_eq!(second.headers["cache-control"], "no-store");
        assert!(second.body["previousExpiresAt"].is_string());
        let entry = only(&plane).await;
        assert_eq!(entry.credentials.len(), 2);
        assert_eq!(entry.credentials[0].digest, digest(&text(&second)));
        assert_eq!(entry.credentials[0].expires_at_ms, None);
        assert_eq!(entry.credentials[1].digest, digest(&text(&made)));
        assert!(entry.credentials[1].expires_at_ms.is_some());
        let third = admin.post("/api-keys/ci/rotate", &json!({})).await.expect(200);
        let entry = only(&plane).await;
        let digests: Vec<_> = entry.credentials.iter().map(|credential| credential.digest.clone()).collect();
        assert_eq!(digests, [digest(&text(&third)).to_vec(), digest(&text(&second)).to_vec()]);
        let fourth = admin.post("/api-keys/ci/rotate", &json!({ "grace": "0s" })).await.expect(200);
        let entry = only(&plane).await;
        assert_eq!(entry.credentials.len(), 1);
        assert_eq!(entry.credentials[0].digest, digest(&text(&fourth)));
        let long = admin.post("/api-keys/ci/rotate", &json!({ "grace": "8d" })).await.expect(422);
        assert_eq!(long.errors(), [("/grace", "invalid")]);
    }

    async fn a_key_is_switched_off_and_on_and_revoked_for_good(plane: Plane) {
        let admin = plane.admin().await;
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        admin.post("/api-keys", &json!({ "name": "ci", "endpoints": ["openai-prod"] })).await.expect(201);
        let off = admin.post("/api-keys/ci/disable", &json!({ "disabled": true })).await.expect(200);
        assert_eq!(off.body["status"], "disabled");
        assert!(only(&plane).await.disabled);
        admin.post("/api-keys/ci/disable", &json!({ "disabled": false })).await.expect(200);
        assert!(!only(&plane).await.disabled);
        let gone = admin.post("/api-keys/ci/revoke", &json!({})).await.expect(200);
        assert_eq!(gone.body["status"], "revoked");
        assert!(catalog(&plane).await.api_keys.is_empty(), "the last key can go");
        for (path, body) in [("rotate", json!({})), ("disable", json!({ "disabled": false }))] {
            assert_eq!(admin.post(&format!("/api-keys/ci/{path}"), &body).await.expect(409).code(), "conflict");
        }
        let again = admin.post("/api-keys/ci/revoke", &json!({})).await.expect(200);
        assert_eq!(again.body["status"], "revoked");
    }

    async fn a_removed_endpoint_leaves_its_keys(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        for name in ["one", "two"] {
            admin.post("/llm-providers", &provider(name)).await.expect(201);
        }
        let made = admin.post("/api-keys", &json!({ "name": "ci", "endpoints": ["one", "two"] })).await.expect(201);
        let mut draft = made.body.clone();
        for member in ["key", "expiresAt"] {
            draft.as_object_mut().unwrap().remove(member);
        }
        draft["endpoints"] = json!(["two", "one", "one"]);
        let same = admin.put("/api-keys/ci", &draft).await.expect(200);
        assert_eq!(same.body["endpoints"], json!(["one", "two"]));
        admin.delete("/llm-providers/one").await.expect(204);
        assert_eq!(admin.get("/api-keys/ci").await.body["endpoints"], json!(["two"]));
        admin.delete("/api-keys/ci").await.expect(204);
        assert!(catalog(&plane).await.api_keys.is_empty());
    }
}
