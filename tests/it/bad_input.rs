//! Input that nobody means well: each has a defined answer, and leaves its record.

use serde_json::{Value, json};
use tests::{Answer, Stack, Upstream, Vendor, assert_refusal, client::Call};

#[tokio::test]
async fn a_model_behind_thirty_megabytes_of_picture_is_judged_or_refused_and_nothing_stays_held() {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("usual", &[("admin.listen", "127.0.0.1:0")]).await;
    stack.add_node("small", &[("admin.listen", "127.0.0.1:0"), ("limits.model_bytes", "1000000")]).await;
    stack.add_node("poor", &[("admin.listen", "127.0.0.1:0"), ("limits.memory_bytes", "20000000")]).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let ruled = stack.provider_with("ruled", &upstream, json!({"models": {"allow": ["gpt-4o"]}})).await;
    let key = stack.key("ruled", &[&ruled]).await.secret;
    let picture = "A".repeat(30 * 1024 * 1024);
    let body = |model: &str| {
        let content = format!(r#"[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{picture}"}}}}]"#);
        format!(r#"{{"messages":[{{"role":"user","content":{content}}}],"model":"{model}"}}"#)
    };
    let chat = || ruled.call("POST", "/v1/chat/completions").header("content-type", "application/json").key(&key);
    let usual = stack.client_of(0);
    let whole = body("gpt-4o");
    assert_eq!(usual.send(&chat().body(whole.clone())).await.status(), 200);
    assert_eq!(upstream.the_one().request.body, whole.as_bytes(), "every byte is the client's");
    assert_refusal(Vendor::OpenAi, &usual.send(&chat().body(body("o3"))).await, 403, "model_not_allowed");
    // No more comes than it takes to see that it is too much.
    for (node, status, label) in [(1, 413, "model_too_late"), (2, 503, "overloaded")] {
        let begun = chat().header("content-length", &whole.len().to_string());
        let mut exchange = stack.client_of(node).begin(&begun).await.unwrap();
        let _ = exchange.write(&whole.as_bytes()[..if node == 1 { 2_000_000 } else { 20_500_000 }]).await;
        let reply = exchange.whole().await;
        assert_refusal(Vendor::OpenAi, &reply, status, label);
    }
    assert_eq!(upstream.seen().len(), 1, "nothing of those reached the vendor");
    let rows = stack.usage_rows(4).await;
    let refusals: Vec<&Value> = rows.iter().map(|row| &row["refusal"]).collect();
    for label in ["model_not_allowed", "model_too_late", "overloaded"] {
        assert!(refusals.contains(&&json!(label)), "{label}: {rows:#?}");
    }
    for node in 0..3 {
        stack.metric_becomes(node, "lockgate_held_bytes", 0).await;
    }
    let audit = stack.rest().get("/usage/audit").await.expect(200);
    assert_eq!(audit["balanced"], json!(true), "{audit:#}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_limit_lowered_below_what_is_spent_refuses_at_once_and_a_raised_one_lets_pass() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("limited", &[&provider]).await;
    let limit = async |most: u64| {
        let limited = json!({
            "name": "limited", "endpoints": ["openai"],
            "limits": [{ "name": "daily", "metric": "requests", "limit": most, "window": "1d" }],
        });
        stack.rest().put("/api-keys/limited", "*", &limited).await.check(200);
        stack.settle().await;
    };
    let ask = async || stack.send(&provider.chat(false).key(&key.secret)).await;
    limit(100).await;
    for _ in 0..5 {
        assert_eq!(ask().await.status(), 200);
    }
    limit(3).await;
    let refused = ask().await;
    let message = assert_refusal(Vendor::OpenAi, &refused, 429, "limit_exceeded");
    assert!(message.contains("`daily`"), "{message}");
    assert_eq!(upstream.seen().len(), 5, "nothing is sent");
    limit(7).await;
    // What was spent counts on: two more, and no third.
    assert_eq!([ask().await.status(), ask().await.status(), ask().await.status()], [200, 200, 429]);
    let rows = stack.usage_rows(9).await;
    assert_eq!(rows.iter().filter(|row| row["refusal"] == "limit_exceeded").count(), 2, "{rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_price_of_zero_is_a_price_and_no_price_is_none() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("all", &[&provider]).await.secret;
    let mut answer = Vendor::OpenAi.chat_answer();
    answer["model"] = json!("house-model");
    upstream.always(Answer::json(200, &answer));
    let mut body = Vendor::OpenAi.chat_body(false);
    body["model"] = json!("house-model");
    let ask = async || {
        let call: Call = provider.call("POST", "/v1/chat/completions").json(&body).key(&key);
        assert_eq!(stack.send(&call).await.status(), 200);
    };
    ask().await;
    let row = &stack.usage_rows(1).await[0];
    assert_eq!((&row["costNanos"], &row["unpriced"]), (&Value::Null, &json!(true)), "{row:#}");
    let free = json!({"prices": [{"models": ["house-model"], "rates": {"input": 0, "output": 0}}]});
    stack.rest().put("/prices/llm-providers/openai", "*", &free).await.check(200);
    stack.settle().await;
    ask().await;
    let row = &stack.usage_rows(2).await[0];
    assert_eq!((&row["costNanos"], &row["unpriced"]), (&json!(0), &json!(false)), "{row:#}");
    let usage = stack.rest().get("/usage?groupBy=model").await.expect(200);
    assert_eq!(usage["totals"]["unpricedRequests"], 1, "{usage:#}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_socket_where_models_are_restricted_is_refused_whatever_its_query_names() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let ruled = stack.provider_with("ruled", &upstream, json!({"models": {"allow": ["gpt-realtime"]}})).await;
    let open = stack.provider("open", &upstream).await;
    let key = stack.key("both", &[&ruled, &open]).await.secret;
    let ask = async |endpoint: &tests::Endpoint, query: &str| {
        let call = endpoint.call("GET", &format!("/v1/realtime{query}")).key(&key);
        let call = call.header("connection", "Upgrade").header("upgrade", "websocket");
        let call = call.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        stack.client().begin(&call).await.unwrap()
    };
    // Its messages may name any other.
    for query in ["?model=gpt-realtime", "?model=o3", "?model=gpt-realtime&model=o3", ""] {
        let reply = ask(&ruled, query).await.whole().await;
        assert_refusal(Vendor::OpenAi, &reply, 400, "unreadable_model");
    }
    assert_eq!(upstream.seen().len(), 0);
    assert_eq!(ask(&open, "?model=gpt-realtime").await.head().await.status, 101);
    let rows = stack.usage_rows(5).await;
    assert_eq!(rows.iter().filter(|row| row["refusal"] == "unreadable_model").count(), 4, "{rows:#?}");
    stack.shutdown().await;
}
