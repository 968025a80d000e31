//! Draft and live: what a deployment freezes, what is read live, and what the nodes' answers make of it.

use std::time::Duration;

use control_plane::model::deployment::Rejection;
use control_plane::store::catalog::Frozen;
use control_plane::store::deployment;
use serde_json::{Value, json};

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::{catalog, default_gateway, deploy, head, provider};

on_both_engines! {
    async fn the_five_calls_lead_to_an_invoke_url(plane: Plane) {
        let admin = plane.admin().await;
        let gateway = json!({ "name": "default", "baseUrls": ["http://127.0.0.1:8080/"] });
        admin.with("if-match", "*").put("/gateways/default", &gateway).await.expect(200);
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let proxy = json!({ "name": "assistant", "context": "/assistant", "provider": "openai-prod" });
        admin.post("/llm-proxies", &proxy).await.expect(201);
        let deployment = deploy(&admin, "openai-prod").await.expect(202);
        assert_eq!(deployment.body["version"], 1);
        assert_eq!(deployment.body["status"], "deploying");
        assert_eq!(deployment.body["endpointKind"], "provider");
        deploy(&admin, "assistant").await.expect(202);
        let key = json!({ "name": "ci", "endpoints": ["openai-prod", "assistant"] });
        let key = admin.post("/api-keys", &key).await.expect(201);
        assert!(key.body["key"].as_str().unwrap().starts_with("lgk_"));
        let read = admin.get("/llm-providers/openai-prod").await.expect(200);
        assert_eq!(
            read.body["invokeUrls"],
            json!([{ "gateway": "default", "url": "http://127.0.0.1:8080/openai-prod" }])
        );
        assert_eq!(read.body["deployments"][0]["id"], deployment.body["id"]);
        assert_eq!(read.body["pendingChanges"], false);

        let catalog = catalog(&plane).await;
        assert_eq!(catalog.endpoints.len(), 2);
        assert_eq!((catalog.secrets.len(), catalog.api_keys.len()), (1, 1));
        assert_eq!(catalog.api_keys[0].endpoint_ids.len(), 2);
        assert_eq!(catalog.endpoints[0].template_id, catalog.endpoints[1].template_id);
        let proxied = catalog.endpoints.iter().find_map(|endpoint| match &endpoint.frozen {
            Frozen::Proxy(_, targets) => Some(targets[0].provider_id),
            Frozen::Provider(_) => None,
        });
        assert!(catalog.endpoints.iter().any(|endpoint| Some(endpoint.id) == proxied));
    }

    async fn a_deployment_is_frozen_but_for_the_switch_and_the_name(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        let path = "/llm-providers/openai-prod";
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let first = deploy(&admin, "openai-prod").await.expect(202);
        let mut draft = provider("openai-prod");
        draft["context"] = json!("/moved");
        draft["upstream"]["credential"] = admin.get(path).await.body["upstream"]["credential"].clone();
        let changed = admin.put(path, &draft).await.expect(200);
        assert_eq!(changed.body["pendingChanges"], true);
        let live = catalog(&plane).await;
        assert_eq!(live.endpoints[0].context.as_str(), "/openai-prod");
        let frozen_at = live.endpoints[0].revision;

        draft["disabled"] = json!(true);
        admin.put(path, &draft).await.expect(200);
        let live = catalog(&plane).await;
        assert!(live.endpoints[0].disabled, "the switch is read live");
        assert!(live.endpoints[0].revision > frozen_at);
        assert_eq!(live.endpoints[0].context.as_str(), "/openai-prod");
        draft["disabled"] = json!(false);
        admin.put(path, &draft).await.expect(200);

        let second = deploy(&admin, "openai-prod").await.expect(202);
        assert_eq!(second.body["version"], 2);
        assert_eq!(catalog(&plane).await.endpoints[0].context.as_str(), "/moved");
        assert_eq!(admin.get(path).await.body["pendingChanges"], false);
        assert_eq!(admin.get(&format!("/deployments/{}", first.id())).await.body["status"], "undeployed");

        let third = admin.post(&format!("/deployments/{}/restore", first.id()), &json!({})).await.expect(202);
        assert_eq!(third.body["version"], 3);
        assert_eq!(catalog(&plane).await.endpoints[0].context.as_str(), "/openai-prod");
        let history = admin.get("/deployments?endpoint=openai-prod&gateway=default").await.expect(200);
        let history = history.body["data"].as_array().unwrap();
        let versions: Vec<_> = history.iter().map(|row| row["version"].clone()).collect();
        assert_eq!(versions, [3, 2, 1]);
        let deploying = admin.get("/deployments?status=deploying").await.expect(200);
        assert_eq!(deploying.body["data"].as_array().unwrap().len(), 1);

        let refused = admin.delete(path).await.expect(409);
        assert_eq!(refused.code(), "in_use");
        admin.post(&format!("/deployments/{}/undeploy", third.id()), &json!({})).await.expect(202);
        assert!(catalog(&plane).await.endpoints.is_empty());
        admin.delete(path).await.expect(204);
    }

    async fn a_context_that_a_deployment_still_holds_is_taken_on_its_gateway(plane: Plane) {
        let admin = plane.admin().await.with("if-match", "*");
        admin.post("/llm-providers", &provider("first")).await.expect(201);
        deploy(&admin, "first").await.expect(202);
        // The draft moves away; what is deployed stays at `/first`.
        let mut draft = provider("first");
        draft["context"] = json!("/elsewhere");
        admin.put("/llm-providers/first", &draft).await.expect(200);
        let mut second = provider("second");
        second["context"] = json!("/first/inner");
        admin.post("/llm-providers", &second).await.expect(201);
        let refused = deploy(&admin, "second").await.expect(409);
        assert_eq!(refused.code(), "context_taken");
        assert!(refused.detail().contains("`first`"), "{}", refused.detail());
        deploy(&admin, "first").await.expect(202);
        deploy(&admin, "second").await.expect(202);
    }

    async fn what_the_nodes_say_moves_a_deployment_and_ends_the_wait(plane: Plane) {
        let admin = plane.admin().await;
        let store = plane.store().await;
        let gateway = default_gateway(&store).await;
        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        let body = json!({ "endpoint": "openai-prod", "gateway": "default" });
        let late = admin.post("/deployments?wait=50ms", &body).await;
        assert_eq!(late.expect(202).body["status"], "deploying");
        // An acknowledgement of something older moves nothing.
        deployment::acknowledged(&store, gateway, head(&store).await - 1, &[]).await.unwrap();
        let listed = admin.get("/deployments").await;
        assert_eq!(listed.body["data"][0]["status"], "deploying");

        let waiting = tokio::spawn({
            let admin = admin.clone();
            let body = body.clone();
            async move { admin.post("/deployments?wait=20s", &body).await }
        });
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        let second = loop {
            assert!(tokio::time::Instant::now() < deadline, "the second version never came");
            let rows = admin.get("/deployments?status=deploying").await.body;
            match rows["data"].as_array().unwrap().iter().find(|row| row["version"] == 2) {
                Some(row) => break row.clone(),
                None => tokio::task::yield_now().await,
            }
        };
        let revision = second["revision"].as_i64().unwrap();
        deployment::acknowledged(&store, gateway, revision, &[]).await.unwrap();
        let settled = waiting.await.unwrap().expect(200);
        assert_eq!(settled.body["status"], "deployed");
        assert!(settled.body["deployedAt"].is_string());

        let third = deploy(&admin, "openai-prod").await.expect(202);
        let endpoint = catalog(&plane).await.endpoints[0].id;
        let rejection = Rejection { pointer: "/url".into(), code: "bad_url".into(), message: "no".into() };
        let revision = third.body["revision"].as_i64().unwrap();
        deployment::rejected(&store, gateway, endpoint, revision, &rejection).await.unwrap();
        deployment::acknowledged(&store, gateway, revision, &[endpoint]).await.unwrap();
        let read = admin.get(&format!("/deployments/{}", third.id())).await.expect(200);
        assert_eq!((&read.body["status"], &read.body["rejection"]["code"]), (&json!("rejected"), &json!("bad_url")));
        // A newer binary took it after all.
        deployment::acknowledged(&store, gateway, revision, &[]).await.unwrap();
        let read = admin.get(&format!("/deployments/{}", third.id())).await.expect(200);
        assert_eq!((&read.body["status"], &read.body["rejection"]), (&json!("deployed"), &Value::Null));
        assert_eq!(admin.post("/deployments?wait=1h", &body).await.expect(400).code(), "malformed");
    }
}
