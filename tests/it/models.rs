//! Which models may be asked for, under which names: what is refused, and what a vendor gets to see instead.

use serde_json::{Value, json};
use tests::{Answer, Endpoint, Stack, Upstream, Vendor, assert_refusal, client::Call};

/// A key for these endpoints with rules of its own.
async fn key(stack: &Stack, name: &str, endpoints: &[&Endpoint], models: Value) -> String {
    let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let made = stack.rest().post("/api-keys", &json!({"name": name, "endpoints": names, "models": models})).await;
    let made = made.expect(201);
    stack.settle().await;
    made["key"].as_str().unwrap().to_owned()
}

fn chat(endpoint: &Endpoint, body: &str) -> Call {
    endpoint.call("POST", "/v1/chat/completions").header("content-type", "application/json").body(body.to_owned())
}

#[tokio::test]
async fn what_is_not_allowed_is_refused_and_an_alias_is_replaced_in_place() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let rules = json!({"models": {"allow": ["gpt-4o*"], "aliases": {"fast": "gpt-4o-mini"}}});
    let endpoint = stack.provider_with("ruled", &upstream, rules).await;
    let key = stack.key("ruled", &[&endpoint]).await.secret;
    let ask = async |call: Call| stack.send(&call.key(&key)).await;

    let body = "{ \"messages\":[{\"role\":\"user\",\"content\":\"\\u0041 }\"}],\r\n  \"model\" : \"f\\u0061st\", \"x\":1.0e2 }";
    assert_eq!(ask(chat(&endpoint, body)).await.status(), 200);
    let seen = upstream.latest().request;
    assert_eq!(
        seen.body,
        body.replace("\"f\\u0061st\"", "\"gpt-4o-mini\"").as_bytes(),
        "every other byte is as it was"
    );
    assert_eq!(seen.header("content-length"), Some(&*seen.body.len().to_string()));
    assert_eq!(ask(chat(&endpoint, r#"{"model":"gpt-4o","messages":[]}"#)).await.status(), 200);
    assert_eq!(upstream.latest().request.body, r#"{"model":"gpt-4o","messages":[]}"#.as_bytes());
    let before = upstream.seen().len();

    let refused = ask(chat(&endpoint, r#"{"model":"o3"}"#)).await;
    assert_refusal(Vendor::OpenAi, &refused, 403, "model_not_allowed");
    for word in ["o3", "models of llm-provider ruled", "gpt-4o*"] {
        assert!(refused.text().contains(word), "{word}: {}", refused.text());
    }
    for (body, label) in [
        (r#"{"model":"gpt-4o","model":"o3"}"#, "ambiguous_model"),
        (r#"{"model":"gpt-4o","Model":"o3"}"#, "ambiguous_model"),
        (r#"{"messages":[]}"#, "model_required"),
        (r#"{"model":7}"#, "unreadable_model"),
        (r#"[{"model":"gpt-4o"}]"#, "unreadable_model"),
    ] {
        assert_refusal(Vendor::OpenAi, &ask(chat(&endpoint, body)).await, 400, label);
    }
    let plain = endpoint.call("POST", "/v1/chat/completions").header("content-type", "text/plain");
    assert_refusal(Vendor::OpenAi, &ask(plain.body(r#"{"model":"o3"}"#)).await, 400, "unreadable_model");
    let packed = chat(&endpoint, "xxx").header("content-encoding", "gzip");
    assert_refusal(Vendor::OpenAi, &ask(packed).await, 400, "unreadable_model");
    let one = ask(endpoint.call("GET", "/v1/models/o3")).await;
    assert_refusal(Vendor::OpenAi, &one, 403, "model_not_allowed");
    assert_eq!(upstream.seen().len(), before, "nothing of these reached the vendor");
    upstream.next(Answer::json(200, &json!({"data": [{"id": "gpt-4o"}, {"id": "o3"}]})));
    let list = ask(endpoint.call("GET", "/v1/models")).await;
    assert_eq!((list.status(), list.text().contains("o3")), (200, false));
    let file = endpoint.call("POST", "/v1/files").header("content-type", "application/octet-stream").body("abc");
    assert_eq!(ask(file).await.status(), 200, "a file runs no model");

    let rows = stack.usage_rows(13).await;
    let asked: Vec<&Value> =
        rows.iter().filter(|row| row["outcome"] == "answered").map(|row| &row["requestedModel"]).collect();
    assert!(asked.contains(&&json!("fast")), "what the client asked for is what is recorded: {rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_second_name_behind_a_large_body_never_lets_it_arrive_whole() {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("node-1", &[("limits.model_bytes", "1000000")]).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let endpoint = stack.provider_with("ruled", &upstream, json!({"models": {"allow": ["gpt-4o"]}})).await;
    let key = stack.key("ruled", &[&endpoint]).await.secret;
    let image = "A".repeat(4_000_000);
    let ask = async |body: String| stack.send(&chat(&endpoint, &body).key(&key)).await;
    assert_eq!(ask(format!("{{\"model\":\"gpt-4o\",\"messages\":[],\"image\":\"{image}\"}}")).await.status(), 200);
    assert_eq!(upstream.seen().len(), 1);
    // What is left unread fits into what is read on after a refusal, so that the answer arrives.
    let late = ask(format!("{{\"image\":\"{}\",\"model\":\"gpt-4o\"}}", &image[..1_800_000])).await;
    assert_refusal(Vendor::OpenAi, &late, 413, "model_too_late");
    let within = ask(format!("{{\"image\":\"{}\",\"messages\":[],\"model\":\"gpt-4o\"}}", &image[..900_000])).await;
    assert_eq!(within.status(), 200);
    assert_eq!(upstream.seen().len(), 2);
    let twice = ask(format!("{{\"model\":\"gpt-4o\",\"image\":\"{image}\",\"model\":\"o3\"}}")).await;
    assert_refusal(Vendor::OpenAi, &twice, 400, "ambiguous_model");
    assert_eq!(upstream.seen().len(), 2, "it never arrived whole");
    stack.shutdown().await;
}

#[tokio::test]
async fn each_target_of_a_proxy_has_its_own_name_for_a_model_and_the_rules_run_in_order() {
    let stack = Stack::sqlite().await;
    let (a, b) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
    stack.provider_with("aa", &a, json!({"models": {"allow": ["a-model"]}})).await;
    stack.provider("bb", &b).await;
    let targets = json!([
        {"provider": "aa", "aliases": {"smart": "a-model"}},
        {"provider": "bb", "priority": 1, "aliases": {"smart": "b-model"}},
    ]);
    let proxy = json!({"targets": targets, "models": {"aliases": {"best": "smart"}}});
    let proxy = stack.proxy_with("both", Vendor::OpenAi, proxy).await;
    let open = stack.key("open", &[&proxy]).await.secret;
    let model = |upstream: &Upstream| upstream.latest().request.json()["model"].clone();
    let ask = async |key: &str, model: &str| {
        stack.send(&chat(&proxy, &json!({"model": model, "messages": []}).to_string()).key(key)).await
    };

    a.next(Vendor::OpenAi.error(503, "not now"));
    assert_eq!(ask(&open, "best").await.status(), 200);
    assert_eq!((model(&a), model(&b)), (json!("a-model"), json!("b-model")), "after a failure the other name");
    assert_eq!(ask(&open, "other").await.status(), 200);
    assert_eq!((a.seen().len(), model(&b)), (1, json!("other")), "the first one does not allow it: it is left out");

    let scoped = key(&stack, "scoped", &[&proxy], json!({"allow": ["best"]})).await;
    assert_eq!(ask(&scoped, "best").await.status(), 200);
    let refused = ask(&scoped, "smart").await;
    assert_refusal(Vendor::OpenAi, &refused, 403, "model_not_allowed");
    assert!(refused.text().contains("models of this api-key (allow best)"), "{}", refused.text());
    let forced = key(&stack, "forced", &[&proxy], json!({"force": "smart"})).await;
    assert_eq!(ask(&forced, "whatever").await.status(), 200);
    assert_eq!(model(&a), json!("a-model"));
    stack.shutdown().await;
}

#[tokio::test]
async fn a_model_in_the_path_is_judged_and_rewritten_there() {
    let stack = Stack::sqlite().await;
    let (azure, gemini) = (Upstream::start(Vendor::Azure).await, Upstream::start(Vendor::Gemini).await);
    let rules = json!({"models": {"allow": ["gpt-4o"], "aliases": {"fast": "my dep/1".replace(' ', "-")}}});
    let on_azure = stack.provider_with("azure", &azure, rules).await;
    let rules = json!({"models": {"allow": ["gemini-2.5*"], "aliases": {"fast": "gemini-2.5-flash"}}});
    let on_gemini = stack.provider_with("gemini", &gemini, rules).await;
    let key = stack.key("both", &[&on_azure, &on_gemini]).await.secret;
    let ask = async |endpoint: &Endpoint, path: &str, body: Value| {
        stack.send(&endpoint.call("POST", path).json(&body).key(&key)).await
    };
    let body = json!({"model": "gpt-4o", "messages": []});
    ask(&on_azure, "/openai/deployments/f%61st/chat/completions?api-version=1", body.clone()).await;
    let seen = azure.latest().request;
    assert_eq!(seen.target, "/openai/deployments/my-dep%2F1/chat/completions?api-version=1");
    assert_eq!(seen.json(), body);
    ask(&on_gemini, "/v1beta/models/fast:generateContent", json!({"contents": []})).await;
    assert_eq!(gemini.latest().request.target, "/v1beta/models/gemini-2.5-flash:generateContent");
    let (on_a, on_g) = (azure.seen().len(), gemini.seen().len());
    for (endpoint, path, status, label) in [
        (&on_azure, "/openai/deployments/evil/chat/completions", 403, "model_not_allowed"),
        (&on_azure, "/OpenAI/Deployments/evil/chat/completions", 400, "ambiguous_model"),
        (&on_azure, "/openai%2Fdeployments/evil/chat/completions", 400, "ambiguous_model"),
        (&on_gemini, "/v1beta/models/gemini-3:generateContent", 403, "model_not_allowed"),
        (&on_gemini, "/v1beta/models%2Fgemini-3:generateContent", 400, "ambiguous_model"),
        (&on_gemini, "/v1beta/tunedModels/x:generateContent", 400, "model_required"),
    ] {
        assert_refusal(endpoint.vendor, &ask(endpoint, path, body.clone()).await, status, label);
    }
    assert_eq!((azure.seen().len(), gemini.seen().len()), (on_a, on_g));
    stack.shutdown().await;
}
