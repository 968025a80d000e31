//! Proxies: an endpoint over providers.

use serde_json::json;

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::{deploy, provider};

on_both_engines! {
    async fn a_proxy_names_its_provider_and_keeps_it_when_that_is_renamed(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let input = json!({ "name": "assistant", "context": "/assistant", "provider": "openai-prod" });
        let made = admin.post("/llm-proxies", &input).await.expect(201);
        assert_eq!(made.body["provider"], "openai-prod");
        assert_eq!(made.body["targets"], json!([{ "provider": "openai-prod", "weight": 1, "priority": 0 }]));
        let again = admin.with("if-match", &made.tag()).put("/llm-proxies/assistant", &made.body).await.expect(200);
        assert_eq!(again.body["targets"], made.body["targets"]);
        let mut renamed = provider("openai-main");
        renamed["context"] = json!("/openai-prod");
        admin.put("/llm-providers/openai-prod", &renamed).await.expect(200);
        assert_eq!(admin.get("/llm-proxies/assistant").await.body["provider"], "openai-main");
        let missing = json!({ "name": "other", "context": "/other", "provider": "openai-mian" });
        let answer = admin.post("/llm-proxies", &missing).await.expect(422);
        assert_eq!(answer.errors(), [("/provider", "not_found")]);
        assert_eq!(answer.body["errors"][0]["suggestion"], "openai-main");
        let used = admin.delete("/llm-providers/openai-main").await.expect(409);
        assert_eq!(used.code(), "in_use");
        assert!(used.detail().contains("`assistant`"));
    }

    async fn a_proxy_stands_on_several_providers_of_one_dialect(plane: Plane) {
        let admin = plane.admin().await;
        for name in ["first", "second"] {
            admin.post("/llm-providers", &provider(name)).await.expect(201);
        }
        let claude = json!({ "name": "claude", "context": "/claude", "template": "anthropic",
            "upstream": { "credential": { "value": "sk-ant" } } });
        admin.post("/llm-providers", &claude).await.expect(201);
        let input = |targets: serde_json::Value| json!({ "name": "both", "context": "/both", "targets": targets });
        for (targets, error) in [
            (json!([{ "provider": "first" }, { "provider": "secnod" }]), ("/targets/1/provider", "not_found")),
            (json!([{ "provider": "first" }, { "provider": "claude" }]), ("/targets/1/provider", "invalid")),
            (json!([{ "provider": "first" }, { "provider": "first" }]), ("/targets/1/provider", "invalid")),
            (json!([{ "provider": "first", "weight": 0 }]), ("/targets/0/weight", "invalid")),
            (json!([{ "provider": "first", "priority": 101 }]), ("/targets/0/priority", "invalid")),
        ] {
            assert_eq!(admin.post("/llm-proxies", &input(targets)).await.expect(422).errors(), [error]);
        }
        let mut both = input(json!([
            { "provider": "first", "weight": 3 }, { "provider": "second", "priority": 1 },
        ]));
        both["routing"] = json!({ "strategy": "leastPending" });
        both["retries"] = json!({ "attempts": 1 });
        both["timeouts"] = json!({ "total": "90s" });
        let made = admin.post("/llm-proxies", &both).await.expect(201);
        let kept = json!([
            { "provider": "first", "weight": 3, "priority": 0 }, { "provider": "second", "weight": 1, "priority": 1 },
        ]);
        assert_eq!((&made.body["targets"], &made.body["provider"]), (&kept, &json!(null)));
        let again = admin.with("if-match", &made.tag()).put("/llm-proxies/both", &made.body).await.expect(200);
        for member in ["targets", "routing", "retries", "timeouts"] {
            assert_eq!(again.body[member], made.body[member], "{member}");
        }
        deploy(&admin, "first").await.expect(202);
        let refused = deploy(&admin, "both").await.expect(409);
        assert_eq!(refused.code(), "not_deployed");
        assert!(refused.detail().contains("`second`"));
        let second = deploy(&admin, "second").await.expect(202);
        deploy(&admin, "both").await.expect(202);
        let refused = admin.post(&format!("/deployments/{}/undeploy", second.id()), &json!({})).await.expect(409);
        assert_eq!(refused.code(), "in_use");
        // One fewer: the one that is left out stands alone.
        let fewer = input(json!([{ "provider": "second" }]));
        admin.with("if-match", &again.tag()).put("/llm-proxies/both", &fewer).await.expect(200);
        assert_eq!(admin.get("/llm-proxies/both").await.body["provider"], "second");
        deploy(&admin, "both").await.expect(202);
    }

    async fn a_proxy_stands_only_where_its_provider_is_deployed(plane: Plane) {
        let admin = plane.admin().await;
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let input = json!({ "name": "assistant", "context": "/assistant", "provider": "openai-prod" });
        admin.post("/llm-proxies", &input).await.expect(201);
        let refused = deploy(&admin, "assistant").await.expect(409);
        assert_eq!(refused.code(), "not_deployed");
        assert!(refused.detail().contains("`openai-prod`"));
        let below = deploy(&admin, "openai-prod").await.expect(202);
        let above = deploy(&admin, "assistant").await.expect(202);
        let undeploy = |id: &str| format!("/deployments/{id}/undeploy");
        let refused = admin.post(&undeploy(below.id()), &json!({})).await.expect(409);
        assert_eq!(refused.code(), "in_use");
        assert!(refused.detail().contains("`assistant`"));
        admin.post(&undeploy(above.id()), &json!({})).await.expect(202);
        admin.post(&undeploy(below.id()), &json!({})).await.expect(202);
    }
}
