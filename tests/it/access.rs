//! What may pass: rules of paths and methods, and where a key may be used from.

use serde_json::json;
use tests::{Stack, Upstream, Vendor, assert_refusal};

#[tokio::test]
async fn what_a_rule_forbids_is_refused_in_every_dialect_and_reaches_no_vendor() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let name = format!("guarded-{}", vendor.name());
        let access = json!({"accessControl": {"exceptions": [{"path": "/v1/files/*", "methods": ["POST", "GET"]}]}});
        let endpoint = stack.provider_with(&name, &upstream, access).await;
        let key = stack.key(&name, &[&endpoint]).await;
        for path in ["/v1/files", "/v1/files/abc", "/v1/%66iles/abc", "/v1%2Ffiles/abc", "/V1/FILES/", "/v1/files/a/b"]
        {
            let reply = stack.send(&endpoint.call("GET", path).key(&key.secret)).await;
            assert_refusal(vendor, &reply, 403, "access_denied");
            assert!(reply.text().contains("POST, GET /v1/files/*"), "the rule is named: {}", reply.text());
            assert!(reply.text().contains(&format!("llm-provider {name}")), "and whose it is: {}", reply.text());
        }
        let reply = stack.send(&endpoint.call("GET", "/v1//files").key(&key.secret)).await;
        assert_eq!(reply.status(), 400, "{}", reply.text());
        let override_ = endpoint.call("PUT", "/v1/other").header("X-HTTP-Method-Override", "POST").key(&key.secret);
        assert_refusal(vendor, &stack.send(&override_).await, 403, "access_denied");
        let without = stack.send(&endpoint.call("GET", "/v1/files")).await;
        assert_refusal(vendor, &without, 401, "invalid_api_key");
        assert_eq!(upstream.seen().len(), 0, "nothing reached the vendor");
        assert_eq!(stack.send(&endpoint.chat(false).key(&key.secret)).await.status(), 200);
        stack.send(&endpoint.call("DELETE", "/v1/files/abc").key(&key.secret)).await;
        assert_eq!(upstream.latest().request.method, "DELETE", "what no rule forbids arrives");
        assert_eq!(upstream.seen().len(), 2);
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_proxy_and_its_provider_must_both_allow_and_a_provider_that_does_not_is_left_out() {
    let stack = Stack::sqlite().await;
    let (a, b) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
    let only_chat =
        json!({"accessControl": {"mode": "denyAll", "exceptions": [{"path": "/v1/chat/*", "methods": ["POST"]}]}});
    stack.provider_with("narrow", &a, only_chat).await;
    stack.provider("wide", &b).await;
    let no_files = json!({"exceptions": [{"path": "/v1/files/*"}]});
    let targets = json!([{"provider": "narrow"}, {"provider": "wide", "priority": 1}]);
    let both = json!({"targets": targets, "accessControl": no_files});
    let both = stack.proxy_with("both", Vendor::OpenAi, both).await;
    let one = stack.proxy_with("one", Vendor::OpenAi, json!({"provider": "narrow"})).await;
    let key = stack.key("app", &[&both, &one]).await;
    let ask = async |call: tests::client::Call| stack.send(&call.key(&key.secret)).await;

    assert_eq!(ask(both.chat(false)).await.status(), 200);
    assert_eq!((a.seen().len(), b.seen().len()), (1, 0), "the first one may");
    assert_eq!(ask(both.call("GET", "/v1/batches")).await.status(), 200);
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1), "the first one may not: it is left out");
    let refused = ask(both.call("GET", "/v1/files/x")).await;
    assert_refusal(Vendor::OpenAi, &refused, 403, "access_denied");
    assert!(refused.text().contains("accessControl of llm-proxy both (/v1/files/*)"), "{}", refused.text());
    let refused = ask(one.call("GET", "/v1/batches")).await;
    assert_refusal(Vendor::OpenAi, &refused, 403, "access_denied");
    assert!(refused.text().contains("accessControl of llm-provider narrow (denyAll)"), "{}", refused.text());
    assert!(refused.text().contains("GET /v1/batches"), "{}", refused.text());
    assert_eq!((a.seen().len(), b.seen().len()), (1, 1));
    let rows = stack.usage_rows(4).await;
    let refused = rows.iter().filter(|row| row["refusal"] == "access_denied" && row["provider"].is_null()).count();
    assert_eq!(refused, 2, "{rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_key_outside_its_addresses_is_the_same_as_no_key() {
    for stack in Stack::on_both_engines().await {
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let endpoint = stack.provider("openai", &upstream).await;
        let make = async |name: &str, addresses: serde_json::Value| {
            let input = json!({"name": name, "endpoints": ["openai"], "addresses": addresses});
            let made = stack.rest().post("/api-keys", &input).await.expect(201);
            stack.settle().await;
            made
        };
        let inside = make("inside", json!(["10.0.0.0/8", "127.0.0.9/8"])).await;
        assert_eq!(inside["addresses"], json!(["10.0.0.0/8", "127.0.0.0/8"]), "host bits are cleared");
        let outside = make("outside", json!(["10.0.0.0/8", "::1/128"])).await;
        let ask =
            async |key: &serde_json::Value| stack.send(&endpoint.chat(false).key(key["key"].as_str().unwrap())).await;
        assert_eq!(ask(&inside).await.status(), 200);
        let refused = ask(&outside).await;
        assert_refusal(Vendor::OpenAi, &refused, 401, "invalid_api_key");
        let unknown = stack.send(&endpoint.chat(false)).await;
        let message = |reply: &tests::client::Reply| reply.json()["error"]["message"].clone();
        assert_eq!(message(&refused), message(&unknown), "one identical answer");

        // Another range is in force at once, and what was left out is gone.
        let read = stack.rest().get("/api-keys/outside").await;
        let mut body = read.body.clone();
        body["addresses"] = json!(["127.0.0.1/32"]);
        body.as_object_mut().unwrap().retain(|name, _| ["name", "endpoints", "addresses", "models"].contains(&&**name));
        stack.rest().put("/api-keys/outside", &read.etag(), &body).await.expect(200);
        stack.settle().await;
        assert_eq!(ask(&outside).await.status(), 200);
        let bad = json!({"name": "bad", "endpoints": ["openai"], "addresses": ["::ffff:0.0.0.0/90"]});
        let refused = stack.rest().post("/api-keys", &bad).await;
        assert_eq!(refused.check(422).at("/addresses/0")["code"], "invalid");
        stack.shutdown().await;
    }
}
