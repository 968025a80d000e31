//! Proxies: an endpoint over a provider.

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
        let targets = json!([{ "provider": "a" }, { "provider": "b" }]);
        let two = json!({ "name": "other", "context": "/other", "targets": targets });
        assert_eq!(admin.post("/llm-proxies", &two).await.expect(422).code(), "not_supported");
        let used = admin.delete("/llm-providers/openai-main").await.expect(409);
        assert_eq!(used.code(), "in_use");
        assert!(used.detail().contains("`assistant`"));
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
