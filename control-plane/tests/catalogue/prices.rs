//! Prices: shipped, set over, and told to the gateways that can use them.

use serde_json::json;

use crate::harness::{On, Plane};
use crate::on_both_engines;
use crate::steps::{catalog, deploy, provider};

on_both_engines! {
    async fn prices_set_by_the_organization_reach_the_gateway_and_go_again(plane: Plane) {
        let admin = plane.admin().await;
        let all = admin.get("/prices").await.expect(200);
        let openai = all.body["data"].as_array().unwrap().iter().find(|list| list["name"] == "openai").unwrap();
        assert_eq!((&openai["scope"], &openai["revision"]), (&json!("template"), &json!(0)));
        assert_eq!(openai["version"], "openai@1");
        assert!(openai["shipped"][0]["source"].is_string() && openai["shipped"][0]["date"].is_string(), "{openai:#}");
        // Nobody there can use any.
        assert!(catalog(&plane).await.prices.is_empty());

        admin.post("/llm-providers", &provider("openai-prod")).await.expect(201);
        deploy(&admin, "openai-prod").await.expect(202);
        let before = catalog(&plane).await.prices;
        assert_eq!(before.len(), 1, "the template's alone");
        assert!(before[0].own.1.is_empty() && !before[0].shipped.1.is_empty());

        let path = "/prices/llm-providers/openai-prod";
        assert_eq!(admin.get(path).await.expect(200).tag(), "\"0\"");
        let wanted = json!({ "prices": [{ "models": ["*"], "rates": { "input": 0, "output": 0 } }] });
        let set = admin.with("if-match", "\"0\"").put(path, &wanted).await.expect(200);
        admin.with("if-match", "\"0\"").put(path, &wanted).await.expect(412);
        let wrong = json!({ "prices": [{ "models": ["a*b"], "rates": {} }] });
        let refused = admin.with("if-match", "*").put(path, &wrong).await.expect(422);
        assert_eq!(refused.errors(), [("/prices/0/models/0", "invalid")]);
        let after = catalog(&plane).await.prices;
        assert_eq!(after.len(), 2);
        let own = after.iter().find(|entry| !entry.own.1.is_empty()).unwrap();
        assert_eq!(own.own.0, format!("r{}", set.body["revision"]));
        assert_eq!(admin.get("/prices").await.expect(200).body["data"].as_array().unwrap().len(), 9);

        admin.with("if-match", "*").delete(path).await.expect(200);
        assert_eq!(catalog(&plane).await.prices.len(), 1);
        let viewer = plane.member("viewer").await;
        viewer.get(path).await.expect(200);
        viewer.with("if-match", "*").put(path, &wanted).await.expect(403);
    }
}
