//! The REST API's answers to bad input: each says what is wrong, where, and what would be right. Nothing half-written.

use serde_json::{Value, json};
use tests::{Stack, client::Call};

fn provider(name: &str, context: &str) -> Value {
    json!({
        "name": name, "template": "openai", "context": context,
        "upstream": {"url": "https://api.openai.com", "credential": {"value": "vc-planted-admin"}},
    })
}

/// A control plane without nodes, on each engine.
async fn control_planes() -> [Stack; 2] {
    [
        Stack::without_nodes(None, Vec::new()).await,
        Stack::without_nodes(Some(tests::postgres::database()), Vec::new()).await,
    ]
}

/// How many there are of everything that a failed write might leave behind.
async fn census(stack: &Stack) -> Vec<usize> {
    let mut counts = Vec::new();
    for noun in ["llm-providers", "llm-proxies", "secrets", "api-keys", "deployments", "gateways"] {
        let listed = stack.rest().get(&format!("/{noun}?limit=200")).await.expect(200);
        counts.push(listed["data"].as_array().unwrap().len());
    }
    counts
}

#[tokio::test]
async fn a_taken_name_and_an_overlapping_context_are_409_and_name_the_other() {
    for stack in control_planes().await {
        let rest = stack.rest();
        rest.post("/llm-providers", &provider("first", "/team/openai")).await.expect(201);
        let before = census(&stack).await;

        let taken = rest.post("/llm-providers", &provider("first", "/elsewhere")).await;
        assert_eq!(taken.check(409).code(), "name_taken");
        assert!(taken.body["detail"].as_str().unwrap().contains("first"), "{:#}", taken.body);
        // Providers and proxies share their names.
        let proxy = json!({"name": "first", "context": "/elsewhere", "provider": "first"});
        assert_eq!(rest.post("/llm-proxies", &proxy).await.check(409).code(), "name_taken");

        for context in ["/team/openai", "/team", "/team/openai/eu"] {
            let overlapping = rest.post("/llm-providers", &provider("second", context)).await;
            // Either at once or, at the latest, where it would be served.
            if overlapping.status == 201 {
                let etag = overlapping.etag();
                rest.post("/deployments", &json!({"endpoint": "first", "gateway": "default"})).await.check(202);
                let refused = rest.post("/deployments", &json!({"endpoint": "second", "gateway": "default"})).await;
                assert_eq!(refused.check(409).code(), "context_taken", "{context}");
                assert!(refused.body["detail"].as_str().unwrap().contains("first"), "{:#}", refused.body);
                rest.delete("/llm-providers/second", &etag).await.check(204);
                let secrets = rest.get("/secrets").await.expect(200);
                assert!(!secrets.to_string().contains("second"), "{secrets:#}");
            } else {
                assert_eq!(overlapping.check(409).code(), "context_taken", "{context}");
                assert!(overlapping.body["detail"].as_str().unwrap().contains("first"), "{:#}", overlapping.body);
                assert_eq!(census(&stack).await, before);
            }
        }
        // A neighbour is none.
        rest.post("/llm-providers", &provider("third", "/team/openai2")).await.check(201);
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn bad_input_is_422_with_a_pointer_and_the_nearest_known_name() {
    for stack in control_planes().await {
        let before = census(&stack).await;
        let cases = [
            (json!({"contxt": "/x"}), "/contxt", Some("context")),
            (json!({"template": "opnai"}), "/template", Some("openai")),
            (json!({"template": "no such vendor at all"}), "/template", None),
            (json!({"context": "openai"}), "/context", None),
            (json!({"context": "/a/b/c/d/e"}), "/context", None),
            (json!({"context": "/a//b"}), "/context", None),
            (json!({"context": "/../b"}), "/context", None),
            (json!({"context": "/ä"}), "/context", None),
            (json!({"name": "Not A Name"}), "/name", None),
            (json!({"upstream": {"url": "ftp://api.openai.com", "credential": {"value": "x"}}}), "/upstream/url", None),
            (json!({"upstream": {"url": "not a url", "credential": {"value": "x"}}}), "/upstream/url", None),
            (
                json!({"upstream": {"url": "https://u:p@api.openai.com", "credential": {"value": "x"}}}),
                "/upstream/url",
                None,
            ),
            (
                json!({"upstream": {"ulr": "https://api.openai.com", "credential": {"value": "x"}}}),
                "/upstream/ulr",
                Some("url"),
            ),
            (
                json!({"upstream": {"url": "https://api.openai.com", "credential": {"secret": "sec_00000000000000000000000000"}}}),
                "/upstream/credential/secret",
                None,
            ),
            (json!({"timeouts": {"firstByte": "soon"}}), "/timeouts/firstByte", None),
            (
                json!({"upstream": {"url": "https://api.openai.com", "credential": {"value": "x"}, "caPem": "no pem"}}),
                "/upstream/caPem",
                None,
            ),
        ];
        for (more, pointer, suggestion) in cases {
            let mut input = provider("fine", "/fine");
            for (name, value) in more.as_object().unwrap() {
                input[name] = value.clone();
            }
            let told = stack.rest().post("/llm-providers", &input).await;
            assert_eq!(told.check(422).code(), "invalid", "{more}");
            let error = told.at(pointer);
            assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{error}");
            if let Some(suggestion) = suggestion {
                assert_eq!(error["suggestion"], suggestion, "{more}");
            }
            assert_eq!(census(&stack).await, before, "{more} must leave nothing behind");
        }
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn what_nothing_enforces_yet_is_refused_and_not_stored() {
    for stack in control_planes().await {
        let cases = [("policies", json!([{"policy": "pii"}]), "/policies")];
        for (member, value, pointer) in cases {
            let mut input = provider("fine", "/fine");
            input[member] = value;
            let told = stack.rest().post("/llm-providers", &input).await;
            assert_eq!(told.check(422).code(), "not_supported", "{member}");
            let errors = told.body["errors"].as_array().unwrap();
            assert!(
                errors.iter().any(|error| error["pointer"].as_str().unwrap().starts_with(pointer)),
                "{:#}",
                told.body
            );
        }
        let mut defaults = provider("fine", "/fine");
        defaults["accessControl"] = json!({"mode": "allowAll", "exceptions": []});
        stack.rest().post("/llm-providers", &defaults).await.check(201);
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn a_put_needs_the_revision_that_was_read() {
    for stack in control_planes().await {
        let rest = stack.rest();
        let made = rest.post("/llm-providers", &provider("first", "/first")).await;
        let first = made.check(201).etag();
        let mut body = rest.get("/llm-providers/first").await.expect(200);
        body["description"] = "changed".into();

        let without = rest.call(Call::new("PUT", "/api/v1/llm-providers/first").json(&body)).await;
        assert_eq!(without.check(428).code(), "revision_required");
        // What was read can be sent back as it is, read-only members and all.
        let changed = rest.put("/llm-providers/first", &first, &body).await;
        let second = changed.check(200).etag();
        assert_ne!(first, second);
        let stale = rest.put("/llm-providers/first", &first, &body).await;
        assert_eq!(stale.check(412).code(), "revision_mismatch");
        assert_eq!(rest.delete("/llm-providers/first", &first).await.check(412).code(), "revision_mismatch");
        assert_eq!(rest.get("/llm-providers/first").await.etag(), second);
        rest.delete("/llm-providers/first", &second).await.check(204);
        rest.get("/llm-providers/first").await.check(404);
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn another_host_needs_the_credential_again() {
    let stack = Stack::without_nodes(None, Vec::new()).await;
    let rest = stack.rest();
    let etag = rest.post("/llm-providers", &provider("first", "/first")).await.etag();
    let mut body = rest.get("/llm-providers/first").await.expect(200);
    body["upstream"]["url"] = "https://evil.example".into();
    let refused = rest.put("/llm-providers/first", &etag, &body).await;
    refused.check(422).at("/upstream/credential/value");
    body["upstream"]["credential"] = json!({"value": "vc-planted-another"});
    rest.put("/llm-providers/first", &etag, &body).await.expect(200);
    stack.shutdown().await;
}

#[tokio::test]
async fn a_proxy_needs_its_provider_on_the_gateway_and_a_provider_in_use_stays() {
    for stack in control_planes().await {
        let rest = stack.rest();
        rest.post("/llm-providers", &provider("first", "/first")).await.expect(201);
        let unknown = json!({"name": "app", "context": "/app", "provider": "nobody"});
        rest.post("/llm-proxies", &unknown).await.check(422).at("/provider");
        rest.post("/llm-proxies", &json!({"name": "app", "context": "/app", "provider": "first"})).await.expect(201);
        let early = rest.post("/deployments", &json!({"endpoint": "app", "gateway": "default"})).await;
        assert_eq!(early.check(409).code(), "not_deployed");
        let deployed = rest.post("/deployments", &json!({"endpoint": "first", "gateway": "default"})).await.expect(202);
        rest.post("/deployments", &json!({"endpoint": "app", "gateway": "default"})).await.check(202);
        let id = deployed["id"].as_str().unwrap();
        assert_eq!(rest.post(&format!("/deployments/{id}/undeploy"), &json!({})).await.check(409).code(), "in_use");
        let etag = rest.get("/llm-providers/first").await.etag();
        assert_eq!(rest.delete("/llm-providers/first", &etag).await.check(409).code(), "in_use");
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn a_stranger_and_a_broken_body_are_told_apart() {
    let stack = Stack::without_nodes(None, Vec::new()).await;
    let stranger = stack.rest().anonymous();
    assert_eq!(stranger.get("/llm-providers").await.check(401).code(), "unauthenticated");
    let post = Call::new("POST", "/api/v1/llm-providers");
    let broken = post.clone().header("content-type", "application/json").body("{\"name\": ");
    assert_eq!(stack.rest().call(broken).await.check(400).code(), "malformed");
    let form = post.header("content-type", "application/x-www-form-urlencoded").body("name=x");
    assert_eq!(stack.rest().call(form).await.check(415).code(), "unsupported_media_type");
    assert_eq!(stack.rest().get("/llm-providers/nobody").await.check(404).code(), "not_found");
    assert_eq!(stack.rest().get("/no-such-noun").await.check(404).code(), "not_found");
    stack.shutdown().await;
}
