//! Who may pass: gateway keys, right, wrong, revoked and in the wrong place.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Endpoint, Key, Stack, Upstream, Vendor, assert_refusal, client::Call, within};

/// On one idle machine it is 200 ms; a test machine is not idle.
const AT_ONCE: Duration = Duration::from_secs(2);

async fn a_provider(stack: &Stack, vendor: Vendor) -> (Upstream, Endpoint, Key) {
    let upstream = Upstream::start(vendor).await;
    let provider = stack.provider(vendor.name(), &upstream).await;
    let key = stack.key(vendor.name(), &[&provider]).await;
    (upstream, provider, key)
}

/// The same key with its last letter changed: a typing error.
fn mistyped(secret: &str) -> String {
    let last = if secret.ends_with('x') { 'y' } else { 'x' };
    format!("{}{last}", &secret[..secret.len() - 1])
}

/// A key of good form that nobody made.
fn unknown() -> String {
    let entropy: [u8; proto::token::ENTROPY] = std::array::from_fn(|index| u8::try_from(index % 240).unwrap());
    proto::token::mint(proto::token::TokenKind::ApiKey, None, &entropy).unwrap()
}

#[tokio::test]
async fn no_key_and_every_kind_of_wrong_key_are_one_and_the_same_401_in_dialect() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let (upstream, provider, key) = a_provider(&stack, vendor).await;
        let mut messages = Vec::new();
        let empty = provider.chat(false).header("X-API-Key", "");
        let wrong = ["nonsense".to_owned(), mistyped(&key.secret), unknown(), format!("{}x", key.secret)];
        let calls = wrong.iter().map(|wrong| provider.chat(false).key(wrong));
        for call in [provider.chat(false), empty].into_iter().chain(calls) {
            let reply = stack.send(&call).await;
            messages.push(assert_refusal(vendor, &reply, 401, "invalid_api_key"));
            assert!(reply.header("www-authenticate").is_some());
        }
        assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
        assert_eq!(upstream.seen().len(), 0, "nothing may be sent for a stranger");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_key_for_another_endpoint_is_a_403() {
    let stack = Stack::sqlite().await;
    let (_upstream, _provider, key) = a_provider(&stack, Vendor::Mistral).await;
    let (upstream, provider, _) = a_provider(&stack, Vendor::OpenAi).await;
    let reply = stack.send(&provider.chat(false).key(&key.secret)).await;
    assert_refusal(Vendor::OpenAi, &reply, 403, "key_out_of_scope");
    assert_eq!(upstream.seen().len(), 0);
    stack.shutdown().await;
}

#[tokio::test]
async fn one_place_with_two_values_is_a_400() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    for other in [key.secret.clone(), "another".to_owned()] {
        let reply = stack.send(&provider.chat(false).key(&key.secret).key(&other)).await;
        assert_refusal(Vendor::OpenAi, &reply, 400, "ambiguous_key");
    }
    assert_eq!(upstream.seen().len(), 0);
    stack.shutdown().await;
}

#[tokio::test]
async fn of_several_places_the_first_that_carries_a_value_decides_and_all_are_stripped() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let bearer = format!("Bearer {}", key.secret);
    let both = provider.chat(false).key(&key.secret).header("Authorization", &bearer);
    assert_eq!(stack.send(&both).await.status(), 200);
    let disturbed = provider.chat(false).key(&key.secret).header("Authorization", "Bearer placeholder");
    assert_eq!(stack.send(&disturbed).await.status(), 200);
    let first_is_wrong = provider.chat(false).key("wrong").header("Authorization", &bearer);
    assert_refusal(Vendor::OpenAi, &stack.send(&first_is_wrong).await, 401, "invalid_api_key");
    for seen in upstream.seen() {
        assert_eq!(seen.request.header("x-api-key"), None);
        assert_eq!(seen.request.header("authorization"), Some(format!("Bearer {}", upstream.credential()).as_str()));
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_key_in_the_query_is_cut_out_and_the_rest_passes_byte_for_byte() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let locations = json!({"security": {"apiKey": {"locations": [{"in": "query", "name": "key"}]}}});
    let provider = stack.provider_with("queried", &upstream, locations).await;
    let key = stack.key("queried", &[&provider]).await;
    for (sent, arrived) in [
        (format!("/v1/models?key={}", key.secret), "/v1/models"),
        (format!("/v1/models?a=%2F&key={}&b=+", key.secret), "/v1/models?a=%2F&b=+"),
    ] {
        let reply = stack.send(&provider.call("GET", &sent)).await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
        assert_eq!(upstream.latest().request.target, arrived);
    }
    // The default places are none of this endpoint's.
    let reply = stack.send(&provider.call("GET", "/v1/models").key(&key.secret)).await;
    assert_refusal(Vendor::OpenAi, &reply, 401, "invalid_api_key");
    stack.shutdown().await;
}

#[tokio::test]
async fn revoking_disabling_and_rotating_take_effect_at_once() {
    for stack in Stack::on_both_engines().await {
        let (_upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
        let rest = stack.rest();
        let status = async |secret: &str| stack.send(&provider.chat(false).key(secret)).await.status();
        let becomes = async |secret: &str, wanted: u16| {
            within(AT_ONCE, "the change to be served", async || match status(secret).await {
                status if status == wanted => Ok(()),
                status => Err(status),
            })
            .await;
        };
        assert_eq!(status(&key.secret).await, 200);

        rest.post(&format!("/api-keys/{}/disable", key.id), &json!({"disabled": true})).await.expect(200);
        becomes(&key.secret, 401).await;
        rest.post(&format!("/api-keys/{}/disable", key.id), &json!({"disabled": false})).await.expect(200);
        becomes(&key.secret, 200).await;

        let rotated = rest.post(&format!("/api-keys/{}/rotate", key.id), &json!({"grace": "24h"})).await.expect(200);
        let second = rotated["key"].as_str().unwrap().to_owned();
        becomes(&second, 200).await;
        assert_eq!(status(&key.secret).await, 200, "the old one has grace");
        let rotated = rest.post(&format!("/api-keys/{}/rotate", key.id), &json!({"grace": "0s"})).await.expect(200);
        let third = rotated["key"].as_str().unwrap().to_owned();
        becomes(&third, 200).await;
        assert_eq!((status(&key.secret).await, status(&second).await), (401, 401), "no grace for any other");

        let start = Instant::now();
        rest.post(&format!("/api-keys/{}/revoke", key.id), &json!({})).await.expect(200);
        becomes(&third, 401).await;
        println!("revoked and refused after {:?}", start.elapsed());
        stack.shutdown().await;
    }
}

#[tokio::test]
async fn the_convergence_receipt_says_when_a_revocation_was_applied() {
    let stack = Stack::sqlite().await;
    let (_upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let told = stack.rest().post(&format!("/api-keys/{}/revoke", key.id), &json!({})).await;
    let revision: u64 = told.check(200).header("x-lockgate-revision").unwrap().parse().unwrap();
    let path = format!("/gateways/default/sync?revision={revision}");
    let sync = within(AT_ONCE, "the node to acknowledge", async || {
        let sync = stack.rest().get(&path).await.expect(200);
        if sync["applied"] == true { Ok(sync) } else { Err(sync) }
    })
    .await;
    assert_eq!(sync["revision"], revision);
    assert!(sync["appliedAt"].is_string(), "{sync:#}");
    assert_eq!(sync["nodes"].as_array().unwrap().len(), 1, "{sync:#}");
    assert_eq!(sync["nodes"][0]["applied"], true);
    // Once the receipt is there, not one request more passes.
    let reply = stack.send(&provider.chat(false).key(&key.secret)).await;
    assert_refusal(Vendor::OpenAi, &reply, 401, "invalid_api_key");
    stack.shutdown().await;
}

#[tokio::test]
async fn the_last_key_can_be_revoked_and_an_expired_key_opens_nothing() {
    let stack = Stack::sqlite().await;
    let (_upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let short = json!({"name": "short", "endpoints": [provider.name], "expiresIn": "1s"});
    let short = stack.rest().post("/api-keys", &short).await.expect(201);
    stack.rest().post(&format!("/api-keys/{}/revoke", key.id), &json!({})).await.expect(200);
    stack.settle().await;
    let call = provider.chat(false).key(short["key"].as_str().unwrap());
    within(Duration::from_secs(5), "the key to expire", async || {
        let reply = stack.send(&call).await;
        if reply.status() == 401 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
    stack.rest().post(&format!("/api-keys/{}/revoke", short["id"].as_str().unwrap()), &json!({})).await.expect(200);
    stack.settle().await;
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 401);
    stack.shutdown().await;
}

#[tokio::test]
async fn a_strict_endpoint_takes_the_key_in_one_place_only() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let strict = json!({"security": {"apiKey": {"locations": [{"in": "header", "name": "X-API-Key"}]}}});
    let provider = stack.provider_with("strict", &upstream, strict).await;
    let key = stack.key("strict", &[&provider]).await;
    let bearer = provider.chat(false).header("Authorization", &format!("Bearer {}", key.secret));
    assert_refusal(Vendor::OpenAi, &stack.send(&bearer).await, 401, "invalid_api_key");
    let reply = stack.send(&provider.chat(false).key(&key.secret).header("Authorization", "Bearer else")).await;
    assert_eq!(reply.status(), 200);
    stack.shutdown().await;
}

#[tokio::test]
async fn an_unknown_context_is_a_404_that_every_sdk_can_read() {
    let stack = Stack::sqlite().await;
    let (_upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let draft = json!({
        "name": "draft", "template": "openai", "context": "/draft",
        "upstream": {"url": "https://api.openai.com", "credential": {"value": "vc-planted-draft"}},
    });
    stack.rest().post("/llm-providers", &draft).await.expect(201);
    for path in ["/", "/nowhere", "/draft/v1/models", "/openai2/v1/models", "/OPENAI/v1/models"] {
        let reply = stack.send(&Call::get(path).key(&key.secret)).await;
        let body = reply.json();
        assert_eq!(reply.status(), 404, "{path}: {body:#}");
        assert_eq!(body["error"]["code"], 404, "Google's SDK wants a number: {body:#}");
        assert!(body["error"]["message"].is_string() && body["message"].is_string(), "{body:#}");
        assert!(reply.header("x-request-id").is_some());
    }
    let deployments = stack.rest().get("/deployments?endpoint=openai").await.expect(200);
    let deployment = deployments["data"][0]["id"].as_str().unwrap();
    stack.rest().post(&format!("/deployments/{deployment}/undeploy"), &json!({})).await.expect(202);
    stack.settle().await;
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 404);
    stack.shutdown().await;
}
