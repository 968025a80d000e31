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
