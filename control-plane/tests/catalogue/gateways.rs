//! Gateways and their tokens.

use control_plane::sensitive::Sensitive;
use control_plane::store::gateway;
use serde_json::json;

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::{catalog, deploy, provider};

on_both_engines! {
    async fn a_gateway_has_two_active_tokens_at_most(plane: Plane) {
        let admin = plane.admin().await;
        let store = plane.store().await;
        let path = "/gateways/default/tokens";
        let first = admin.post(path, &json!({})).await.expect(201);
        assert_eq!(first.headers["cache-control"], "no-store");
        let text = first.body["token"].as_str().unwrap().to_owned();
        assert!(proto::token::ca_fingerprint(&text).is_some_and(|fingerprint| fingerprint.len() == 22), "{text}");
        let second = admin.post(path, &json!({ "expiresIn": "30d" })).await.expect(201);
        assert!(second.body["expiresAt"].is_string());
        assert_eq!(admin.post(path, &json!({})).await.expect(409).code(), "conflict");
        let listed = admin.get(path).await.expect(200);
        assert_eq!(listed.body["data"].as_array().unwrap().len(), 2);
        assert!(!listed.text.contains(&text[20..40]));

        let admitted = gateway::admit(&store, &Sensitive::new(text.clone())).await.unwrap().unwrap();
        assert_eq!(admitted.gateway, "default");
        admin.delete(&format!("{path}/{}", first.id())).await.expect(204);
        admin.delete(&format!("{path}/{}", first.id())).await.expect(404);
        assert_eq!(gateway::admit(&store, &Sensitive::new(text)).await.unwrap(), None);
        assert!(!gateway::still_admits(&store, admitted.token_id).await.unwrap());
        admin.post(path, &json!({})).await.expect(201);
    }

    async fn only_an_owner_may_open_private_networks(plane: Plane) {
        let owner = plane.admin().await.with("if-match", "*");
        let admin = plane.member("admin").await.with("if-match", "*");
        let wanted = json!({ "name": "default", "upstreamNetworks": ["127.0.0.1/8"] });
        assert_eq!(admin.put("/gateways/default", &wanted).await.expect(403).code(), "forbidden");
        let edge = json!({ "name": "edge", "upstreamNetworks": ["10.0.0.0/8"] });
        admin.post("/gateways", &edge).await.expect(403);
        let mut local = provider("local");
        local["upstream"]["url"] = json!("http://127.0.0.1:9000");
        let refused = owner.post("/llm-providers", &local).await.expect(422);
        assert_eq!(refused.errors(), [("/upstream/url", "invalid")]);
        let opened = owner.put("/gateways/default", &wanted).await.expect(200);
        assert_eq!(opened.body["upstreamNetworks"], json!(["127.0.0.0/8"]));
        let made = owner.post("/llm-providers", &local).await.expect(201);
        assert_eq!(made.body["warnings"][0]["code"], "plain_http");
        // What an owner opened, an admin may leave as it is.
        let renamed = json!({ "name": "default", "displayName": "Main", "upstreamNetworks": ["127.0.0.0/8"] });
        admin.put("/gateways/default", &renamed).await.expect(200);
        assert_eq!(catalog(&plane).await.gateway.upstream_networks.len(), 1);
    }

    async fn a_gateway_in_use_stays_and_each_serves_its_own(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        admin.post("/gateways", &json!({ "name": "edge", "baseUrls": ["https://edge.example.com"] })).await.expect(201);
        assert_eq!(admin.post("/gateways", &json!({ "name": "edge" })).await.expect(409).code(), "name_taken");
        let wrong = admin.post("/gateways", &json!({ "name": "bad", "baseUrls": ["edge"] })).await.expect(422);
        assert_eq!(wrong.errors(), [("/baseUrls/0", "invalid")]);
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let body = json!({ "endpoint": "openai-prod", "gateway": "edge" });
        let deployed = admin.post("/deployments", &body).await.expect(202);
        assert!(catalog(&plane).await.endpoints.is_empty());
        assert_eq!(admin.delete("/gateways/edge").await.expect(409).code(), "in_use");
        admin.post(&format!("/deployments/{}/undeploy", deployed.id()), &json!({})).await.expect(202);
        admin.delete("/gateways/edge").await.expect(204);
        deploy(&admin, "openai-prod").await.expect(202);
    }
}
