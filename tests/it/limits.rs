//! Limits, from the REST API to the vendor's own words.

use serde_json::json;
use tests::{Answer, Gate, Stack, Upstream, Vendor, assert_refusal, eventually};
use tokio::task::JoinSet;

#[tokio::test]
async fn a_limit_set_over_rest_holds_at_once_and_is_told_in_every_vendors_words() {
    let stack = Stack::sqlite().await;
    for vendor in Vendor::ALL {
        let upstream = Upstream::start(vendor).await;
        let provider = stack.provider(vendor.name(), &upstream).await;
        let key = stack.key(vendor.name(), &[&provider]).await;
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
        let limited = json!({
            "name": vendor.name(), "endpoints": [vendor.name()],
            "limits": [{ "name": "hourly", "metric": "requests", "limit": 1, "window": "1h" }],
        });
        stack.rest().put(&format!("/api-keys/{}", vendor.name()), "*", &limited).await.check(200);
        // What was sent before the rule was made is not counted; the next request is, and the one after is too much.
        eventually("the limit to hold", async || {
            let status = stack.send(&provider.chat(false).key(&key.secret)).await.status();
            if status == 429 { Ok(()) } else { Err(status) }
        })
        .await;
        let before = upstream.seen().len();
        let reply = stack.send(&provider.chat(true).key(&key.secret)).await;
        let message = assert_refusal(vendor, &reply, 429, "limit_exceeded");
        assert!(message.contains("`hourly` of this API key"), "{message}");
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((3000..=3600).contains(&wait), "{wait}");
        assert_eq!(upstream.seen().len(), before, "nothing is sent");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn fifty_callers_of_a_one_dollar_key_never_spend_more_by_the_vendors_own_count() {
    const TOKENS: u64 = 5_000;
    const DOLLAR: u64 = 1_000_000_000;
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let limited = json!({
        "name": "team", "endpoints": ["openai"],
        "limits": [{
            "name": "dollar", "metric": "cost", "limit": "1", "window": "month", "requireOutputBound": true,
        }],
    });
    let made = stack.rest().post("/api-keys", &limited).await.expect(201);
    assert_eq!(made["limits"][0]["limit"], DOLLAR, "{made:#}");
    let secret = made["key"].as_str().unwrap();
    let mut body = Vendor::OpenAi.chat_body(false);
    let call = |body: &serde_json::Value| provider.call("POST", "/v1/chat/completions").json(body).key(secret);
    stack.settle().await;
    // What states no bound is refused, and told which.
    let message = assert_refusal(Vendor::OpenAi, &stack.send(&call(&body)).await, 400, "unbounded_request");
    assert!(message.contains("set max_tokens or max_completion_tokens"), "{message}");
    body["max_completion_tokens"] = json!(TOKENS);
    body["model"] = json!("gpt-unheard-of");
    let message = assert_refusal(Vendor::OpenAi, &stack.send(&call(&body)).await, 403, "unpriced_model");
    assert!(message.contains("gpt-unheard-of of llm-provider openai"), "{message}");
    body["model"] = json!("gpt-4o");
    // The vendor bills all that it may, at 10 dollars a million, and 100 of input at 2.50.
    let mut answer = Vendor::OpenAi.chat_answer();
    answer["usage"] = json!({ "prompt_tokens": 100, "completion_tokens": TOKENS });
    let each = 100 * 2_500 + TOKENS * 10_000;
    let gate = Gate::new();
    upstream.always(Answer::json(200, &answer).after(&gate));
    assert_eq!(upstream.seen().len(), 0, "nothing was sent so far");
    // All at once, and nobody is answered before the first has asked; then on until nobody gets anything any more.
    let mut answered = true;
    while std::mem::take(&mut answered) {
        let mut callers = JoinSet::new();
        for _ in 0..50 {
            let (client, call) = (stack.client(), call(&body));
            callers.spawn(async move { client.send(&call).await.status() });
        }
        upstream.request(1).await;
        gate.open();
        for status in callers.join_all().await {
            assert!([200, 429].contains(&status), "{status}");
            answered |= status == 200;
        }
        assert!(upstream.seen().len() as u64 * each <= DOLLAR, "{} requests", upstream.seen().len());
    }
    let spent = upstream.seen().len() as u64 * each;
    assert!(spent <= DOLLAR, "{spent}");
    assert!(spent >= DOLLAR * 9 / 10, "and nearly all of it can be used: {spent}");
    // The ledger knows the same.
    let requests = upstream.seen().len();
    eventually("every record", async || {
        let totals = stack.rest().get("/usage").await.expect(200)["totals"].clone();
        if totals["costNanos"] == spent { Ok(()) } else { Err(format!("{requests} requests, {spent}: {totals:#}")) }
    })
    .await;
    stack.shutdown().await;
}

#[tokio::test]
async fn a_providers_limit_holds_through_its_proxy_and_a_models_for_its_key() {
    let stack = Stack::sqlite().await;
    let (first, second) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
    let limit = |more: serde_json::Value| {
        let mut limit = json!({ "name": "hourly", "metric": "requests", "limit": 1, "window": "1h" });
        limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "limits": [limit] })
    };
    stack.provider_with("first", &first, limit(json!({}))).await;
    stack.provider_with("second", &second, limit(json!({ "limit": 2 }))).await;
    let targets = json!({ "targets": [{ "provider": "first" }, { "provider": "second", "priority": 1 }] });
    let proxy = stack.proxy_with("assistant", Vendor::OpenAi, targets).await;
    let limited = json!({
        "name": "team", "endpoints": ["assistant"],
        "limits": limit(json!({ "name": "dear", "models": ["gpt-4o", "o3*"], "limit": 2 }))["limits"],
    });
    let made = stack.rest().post("/api-keys", &limited).await.expect(201);
    assert_eq!(made["limits"][0]["models"], json!(["gpt-4o", "o3*"]), "{made:#}");
    stack.settle().await;
    let ask = async |model: &str| {
        let mut body = Vendor::OpenAi.chat_body(false);
        body["model"] = json!(model);
        let call = proxy.call("POST", "/v1/chat/completions").json(&body).key(made["key"].as_str().unwrap());
        stack.send(&call).await
    };
    for (model, upstream) in [("gpt-4o", &first), ("gpt-4o", &second)] {
        let before = upstream.seen().len();
        assert_eq!(ask(model).await.status(), 200);
        assert_eq!(upstream.seen().len(), before + 1);
    }
    let message = assert_refusal(Vendor::OpenAi, &ask("gpt-4o").await, 429, "limit_exceeded");
    assert!(message.contains("`dear` of this API key"), "{message}");
    // Another model is not counted there, and the refused one took no place at the second provider.
    assert_eq!(ask("gpt-4o-mini").await.status(), 200);
    let reply = ask("gpt-4o-mini").await;
    let message = assert_refusal(Vendor::OpenAi, &reply, 429, "limit_exceeded");
    assert!(message.contains("`hourly` of the provider `"), "{message}");
    assert_eq!((first.seen().len(), second.seen().len()), (1, 2), "nothing else was sent");
    // Why, by the id that the client saw.
    let id = reply.header("x-lockgate-request-id").unwrap().to_owned();
    let told = eventually("the record of the refusal", async || {
        let told = stack.rest().get(&format!("/requests/{id}")).await;
        if told.reply().status() == 200 { Ok(told.expect(200)) } else { Err(told.reply().status()) }
    })
    .await;
    let rule = told.to_string();
    assert!(rule.contains("limit hourly of llm-provider"), "{told:#}");
    stack.shutdown().await;
}
