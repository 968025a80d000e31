//! What is asked of vendors so that tokens are known, what clients see of it, and what becomes of lies and of answers
//! that nobody waits for.

use serde_json::{Value, json};
use tests::{Answer, Endpoint, Key, Stack, Upstream, Vendor};

async fn a_provider(stack: &Stack, vendor: Vendor, more: Value) -> (Upstream, Endpoint, Key) {
    let upstream = Upstream::start(vendor).await;
    let provider = stack.provider_with(vendor.name(), &upstream, more).await;
    let key = stack.key(vendor.name(), &[&provider]).await;
    (upstream, provider, key)
}

const AZURE: &str = "/openai/deployments/my-gpt4o-deployment/chat/completions?api-version=";

#[tokio::test]
async fn a_stream_is_asked_for_usage_and_the_client_sees_nothing_of_it() {
    let stack = Stack::sqlite().await;
    for vendor in [Vendor::OpenAi, Vendor::Azure] {
        let (upstream, provider, key) = a_provider(&stack, vendor, json!({})).await;
        let path =
            if vendor == Vendor::Azure { format!("{AZURE}2024-10-21") } else { "/v1/chat/completions".to_owned() };
        let body =
            r#"{"model": "m",  "messages":[{"role":"user","content":"\u00e9 \"stream\":false"}], "stream": true }"#;
        let call = || provider.call("POST", &path).header("content-type", "application/json").key(&key.secret);
        let reply = stack.send(&call().body(body)).await;
        assert_eq!(reply.text(), vendor.veiled_events().concat(), "{vendor:?}");
        let sent = upstream.latest().request;
        let asked = body.replace("true }", r#"true,"stream_options":{"include_usage":true} }"#);
        assert_eq!(String::from_utf8_lossy(&sent.body), asked, "{vendor:?}");
        assert_eq!(sent.header("content-length"), Some(asked.len().to_string().as_str()), "{vendor:?}");

        // A client that asks by itself gets everything, and its body goes as it is.
        let body = r#"{"model":"m","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
        let reply = stack.send(&call().body(body)).await;
        assert_eq!(reply.text(), vendor.chat_events(true).concat(), "{vendor:?}");
        assert_eq!(String::from_utf8_lossy(&upstream.latest().request.body), body, "{vendor:?}");

        // What is no stream is not touched.
        let body = r#"{"model":"m","messages":[]}"#;
        assert_eq!(stack.send(&call().body(body)).await.status(), 200);
        assert_eq!(String::from_utf8_lossy(&upstream.latest().request.body), body, "{vendor:?}");
    }
    let rows = stack.usage_rows(6).await;
    for row in &rows {
        assert_eq!(row["inputTokens"], Vendor::INPUT_TOKENS, "{row:#}");
        assert_eq!(row["outputTokens"], Vendor::OUTPUT_TOKENS, "{row:#}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn nobody_is_asked_who_would_refuse_or_was_not_to_be_asked() {
    let stack = Stack::sqlite().await;
    let (azure, provider, key) = a_provider(&stack, Vendor::Azure, json!({})).await;
    for (version, more) in [("2024-06-01", ""), ("2024-10-20-preview", ""), ("2024-10-21", r#","data_sources":[{}]"#)] {
        let body = format!(r#"{{"messages":[],"stream":true{more}}}"#);
        let call = provider.call("POST", &format!("{AZURE}{version}")).header("content-type", "application/json");
        assert_eq!(stack.send(&call.body(body.clone()).key(&key.secret)).await.status(), 200, "{version}");
        assert_eq!(String::from_utf8_lossy(&azure.latest().request.body), body, "{version}");
    }
    let (openai, provider, key) = a_provider(&stack, Vendor::OpenAi, json!({"usage": {"ask": false}})).await;
    let chat = Vendor::OpenAi.chat_body(true);
    assert_eq!(
        stack.send(&provider.chat(true).key(&key.secret)).await.text(),
        Vendor::OpenAi.chat_events(false).concat()
    );
    assert_eq!(openai.latest().request.json(), chat);
    let rows = stack.usage_rows(4).await;
    for row in &rows {
        assert_eq!((&row["inputTokens"], &row["outputTokens"]), (&Value::Null, &Value::Null), "{row:#}");
        assert_eq!((&row["estimated"], &row["finishReason"]), (&json!(false), &json!("stop")), "{row:#}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn what_a_client_left_behind_is_estimated_and_marked() {
    let stack = Stack::sqlite().await;
    for vendor in [Vendor::OpenAi, Vendor::Anthropic] {
        let (upstream, provider, key) = a_provider(&stack, vendor, json!({})).await;
        let first: String = vendor.chat_events(false).into_iter().take_while(|event| !event.contains("two")).collect();
        upstream.next(Answer::stream().piece(first.clone()).hang());
        let call = provider.chat(true).header("anthropic-version", "2023-06-01").key(&key.secret);
        let mut leaving = stack.client().begin(&call).await.unwrap();
        leaving.until(&first).await;
        drop(leaving);
    }
    let rows = stack.usage_rows(2).await;
    for (row, vendor) in rows.iter().rev().zip([Vendor::OpenAi, Vendor::Anthropic]) {
        assert_eq!((&row["outcome"], &row["estimated"]), (&json!("client_gone"), &json!(true)), "{row:#}");
        // A token for every four bytes of "one", and of the question, unless the vendor has said.
        let question = vendor.chat_body(true).to_string().len().div_ceil(4);
        let input = if vendor == Vendor::Anthropic { json!(Vendor::INPUT_TOKENS) } else { json!(question) };
        assert_eq!((&row["inputTokens"], &row["outputTokens"]), (&input, &json!(1)), "{row:#}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_vendors_error_is_told_by_its_class() {
    let stack = Stack::sqlite().await;
    for (number, vendor) in Vendor::ALL.into_iter().enumerate() {
        let (upstream, provider, key) = a_provider(&stack, vendor, json!({})).await;
        upstream.next(vendor.error(429, "Slow down."));
        stack.send(&provider.chat(false).key(&key.secret)).await;
        let rows = stack.usage_rows(number + 1).await;
        let class = match vendor {
            Vendor::Gemini => "RESOURCE_EXHAUSTED",
            Vendor::Azure => "429",
            Vendor::OpenAi | Vendor::Anthropic | Vendor::Mistral => "rate_limit_error",
        };
        assert_eq!(rows[0]["errorType"], class, "{:#}", rows[0]);
        assert_eq!(rows[0]["inputTokens"], Value::Null, "{:#}", rows[0]);
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_model_is_found_behind_a_picture_and_the_first_of_two_counts() {
    let stack = Stack::sqlite().await;
    let (_upstream, provider, key) = a_provider(&stack, Vendor::OpenAi, json!({})).await;
    let picture = "A".repeat(30 * 1024 * 1024);
    let body = format!(
        r#"{{"messages":[{{"content":[{{"image_url":"data:image/png;base64,{picture}"}}]}}],"model":"seen","stream":true}}"#
    );
    let call = |body: String| {
        provider
            .call("POST", "/v1/chat/completions")
            .header("content-type", "application/json")
            .body(body)
            .key(&key.secret)
    };
    assert_eq!(stack.send(&call(body)).await.status(), 200);
    let rows = stack.usage_rows(1).await;
    assert_eq!(rows[0]["requestedModel"], "seen");
    // Too large to be held: it was not asked, so nobody knows.
    assert_eq!(rows[0]["inputTokens"], Value::Null);
    let body = r#"{"model":"first","messages":[],"model":"second"}"#;
    assert_eq!(stack.send(&call(body.to_owned())).await.status(), 200);
    assert_eq!(stack.usage_rows(2).await[0]["requestedModel"], "first");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_stored_answer_that_is_read_again_counts_no_tokens_again() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi, json!({})).await;
    upstream.next(Answer::json(200, &Vendor::OpenAi.chat_answer()));
    assert_eq!(
        stack.send(&provider.call("GET", "/v1/chat/completions/chatcmpl-1").key(&key.secret)).await.status(),
        200
    );
    let row = &stack.usage_rows(1).await[0];
    assert_eq!((&row["servedModel"], &row["inputTokens"]), (&json!(Vendor::OpenAi.served_model()), &Value::Null));
    stack.shutdown().await;
}

#[tokio::test]
async fn a_vendor_that_lies_about_usage_leaves_a_record_without_the_lie() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi, json!({})).await;
    let usages = [
        (json!({"prompt_tokens": -5, "completion_tokens": 7}), (json!(null), json!(7))),
        (json!({"prompt_tokens": 1e300, "completion_tokens": u64::MAX}), (json!(null), json!(null))),
        (json!({"prompt_tokens": "12", "completion_tokens": [7]}), (json!(null), json!(null))),
        (json!({"completion_tokens": 7}), (json!(null), json!(7))),
        (json!("none"), (json!(null), json!(null))),
        (json!(null), (json!(null), json!(null))),
    ];
    for (number, (usage, (input, output))) in usages.iter().enumerate() {
        let mut answer = Vendor::OpenAi.chat_answer();
        answer["usage"] = usage.clone();
        upstream.next(Answer::json(200, &answer));
        let reply = stack.send(&provider.chat(false).key(&key.secret)).await;
        assert_eq!(reply.json(), answer, "what the vendor says is passed on as it is");
        let row = &stack.usage_rows(number + 1).await[0];
        assert_eq!((&row["inputTokens"], &row["outputTokens"]), (input, output), "{usage}: {row:#}");
        assert_eq!(row["outcome"], "answered", "{usage}: {row:#}");
    }
    let audit = stack.rest().get("/usage/audit").await.expect(200);
    assert_eq!(audit["balanced"], json!(true), "{audit:#}");
    stack.shutdown().await;
}

#[tokio::test]
async fn half_an_event_and_bytes_that_are_no_text_pass_and_leave_one_record_each() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi, json!({})).await;
    let event = |text: &[u8]| {
        let (before, after) = (br#"data: {"model":"m","choices":[{"delta":{"content":""#, b"\"}}]}\n\n");
        [before, text, after].concat()
    };
    let usage = br#"data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#;
    // A letter cut between two pieces, and bytes that are in no letter.
    let odd = event(b"\xe2\x82\xac\xff\xfe");
    let cut = odd.iter().position(|byte| *byte == 0x82).unwrap();
    for (end, counts) in [(&b"\n\ndata: [DONE]\n\n"[..], (json!(3), json!(4))), (b"", (json!(null), json!(null)))] {
        let before = stack.rest().get("/requests").await.expect(200)["data"].as_array().unwrap().len();
        let said = if end.is_empty() { &usage[..usage.len() - 3] } else { &usage[..] };
        let last = [said, end].concat();
        let pieces = [odd[..cut].to_vec(), odd[cut..].to_vec(), last];
        let stream = pieces.iter().fold(Answer::stream(), |stream, piece| stream.piece(piece.clone()));
        upstream.next(stream);
        // The client asks for usage by itself, so that every byte is its own to see.
        let mut body = Vendor::OpenAi.chat_body(true);
        body["stream_options"] = json!({"include_usage": true});
        let call = provider.call("POST", "/v1/chat/completions").json(&body).key(&key.secret);
        let reply = stack.send(&call).await;
        assert_eq!(reply.body.as_ref(), pieces.concat(), "byte for byte");
        let row = &stack.usage_rows(before + 1).await[0];
        assert_eq!((&row["inputTokens"], &row["outputTokens"]), (&counts.0, &counts.1), "{row:#}");
        assert_eq!((&row["outcome"], &row["servedModel"]), (&json!("answered"), &json!("m")), "{row:#}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_cost_is_the_price_of_its_day_from_the_node_to_the_sum() {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("node-1", &[("admin.listen", "127.0.0.1:0")]).await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi, json!({})).await;
    let mut answer = Vendor::OpenAi.chat_answer();
    let cached = json!({"cached_tokens": 400});
    answer["usage"] = json!({"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": cached});
    let ask = async |answer: &Value, model: &str| {
        upstream.next(Answer::json(200, answer));
        let mut body = Vendor::OpenAi.chat_body(false);
        body["model"] = json!(model);
        let call = provider.call("POST", "/v1/chat/completions").json(&body).key(&key.secret);
        assert_eq!(stack.send(&call).await.status(), 200);
    };
    ask(&answer, Vendor::OpenAi.model()).await;
    let row = &stack.usage_rows(1).await[0];
    // 600 at 2.50, 400 at 1.25 and 100 at 10 dollars a million.
    assert_eq!((&row["costNanos"], &row["cost"]), (&json!(3_000_000), &json!("0.003")), "{row:#}");
    assert_eq!(row["unpriced"], json!(false), "{row:#}");
    let version = row["priceVersion"].as_str().unwrap();
    assert!(version.starts_with("openai@"), "{row:#}");
    // Nobody knows what this one costs, and that is not nothing.
    answer["model"] = json!("unheard-of");
    ask(&answer, "unheard-of").await;
    let row = &stack.usage_rows(2).await[0];
    assert_eq!((&row["costNanos"], &row["unpriced"]), (&Value::Null, &json!(true)), "{row:#}");
    let usage = stack.rest().get("/usage?groupBy=model").await.expect(200);
    assert_eq!(usage["totals"]["costNanos"], 3_000_000, "{usage:#}");
    assert_eq!(usage["totals"]["unpricedRequests"], 1, "{usage:#}");
    let page = stack.metrics(0).await;
    let cost = page.lines().find(|line| line.starts_with("lockgate_cost_dollars_total{") && line.contains("gpt-4o"));
    assert!(cost.is_some_and(|line| line.ends_with(" 0.003000000")), "{page}");
    stack.shutdown().await;
}
