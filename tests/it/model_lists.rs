//! `GET /v1/models`, where rules of models hold: what the key may use, under the names it may use.

use serde_json::{Value, json};
use tests::{Answer, Endpoint, Stack, Upstream, Vendor, assert_refusal};

async fn key(stack: &Stack, name: &str, endpoints: &[&Endpoint], models: Value) -> String {
    let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
    let made = stack.rest().post("/api-keys", &json!({"name": name, "endpoints": names, "models": models})).await;
    let made = made.expect(201);
    stack.settle().await;
    made["key"].as_str().unwrap().to_owned()
}

const LIST: &str = "{\n  \"object\": \"list\",\n  \"data\": [\n    {\"id\": \"gpt-4o\", \"created\": 1.0e3},\n    \
                    {\"id\":\"o3\",\"owned_by\":\"o\\u0070enai\"},\n    {\"id\": \"gpt-4o-mini\", \"x\": [1, {\"id\":\"o3\"}]}\n  ]\n}\n";

fn names(body: &Value) -> Vec<&str> {
    let (models, key) = body.get("data").map_or_else(|| (&body["models"], "name"), |data| (data, "id"));
    models.as_array().unwrap().iter().map(|model| model[key].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_list_shows_what_the_key_may_use_and_every_byte_of_that_is_the_vendors() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let open = stack.provider("open", &upstream).await;
    let rules = json!({"models": {"allow": ["gpt-4o*"], "aliases": {"fast": "gpt-4o-mini", "far": "elsewhere"}}});
    let ruled = stack.provider_with("ruled", &upstream, rules).await;
    let key_all = stack.key("all", &[&open, &ruled]).await.secret;
    let key_one = key(&stack, "one", &[&open, &ruled], json!({"allow": ["o3", "fast"]})).await;
    let key_forced = key(&stack, "forced", &[&open, &ruled], json!({"force": "gpt-4o"})).await;
    let list = async |endpoint: &Endpoint, key: &str, path: &str, answer: Answer| {
        upstream.next(answer);
        stack
            .send(&endpoint.call("GET", path).header("accept-encoding", "gzip").header("if-none-match", "x").key(key))
            .await
    };
    let whole = || Answer::text(200, "application/json; charset=utf-8", LIST).header("etag", "\"1\"");

    let reply = list(&open, &key_all, "/v1/models", whole()).await;
    assert_eq!(
        (reply.text(), reply.header("etag")),
        (LIST.to_owned(), Some("\"1\"")),
        "without rules it is not touched"
    );
    assert_eq!(upstream.latest().request.header("if-none-match"), Some("x"));

    let reply = list(&ruled, &key_all, "/v1/models?limit=5", whole()).await;
    let expected = "{\n  \"object\": \"list\",\n  \"data\": [\n    {\"id\": \"gpt-4o\", \"created\": 1.0e3},\n    \
                    {\"id\": \"gpt-4o-mini\", \"x\": [1, {\"id\":\"o3\"}]},\n    \
                    {\"id\":\"far\",\"object\":\"model\",\"created\":0,\"owned_by\":\"lockgate\"},\n    \
                    {\"id\": \"fast\", \"x\": [1, {\"id\":\"o3\"}]}\n  ]\n}\n";
    assert_eq!((reply.status(), reply.text()), (200, expected.to_owned()));
    assert_eq!(reply.header("content-length"), Some(&*expected.len().to_string()));
    assert_eq!(reply.header("etag"), None, "it is another text now");
    let seen = upstream.latest().request;
    assert_eq!((seen.target.as_str(), seen.header("accept-encoding")), ("/v1/models?limit=5", Some("identity")));
    assert_eq!(seen.header("if-none-match"), None);

    // In pieces of one byte, without a length.
    let bytes = LIST.bytes().fold(Answer::chunked("application/json"), |answer, byte| answer.piece(vec![byte]));
    let reply = list(&ruled, &key_all, "/v1/models", bytes).await;
    assert_eq!((reply.status(), reply.text()), (200, expected.to_owned()));

    let reply = list(&open, &key_one, "/v1/models", whole()).await;
    assert_eq!(names(&reply.json()), ["o3"]);
    let reply = list(&ruled, &key_one, "/v1/%6dodels", whole()).await;
    assert_eq!(names(&reply.json()), ["fast"], "what both rules let through, in every spelling of the path");
    for endpoint in [&open, &ruled] {
        let reply = list(endpoint, &key_forced, "/v1/models", whole()).await;
        assert_eq!(names(&reply.json()), ["gpt-4o"], "whatever is asked for, it is this one");
    }
    for (key, model, status) in [(&key_one, "gpt-4o", 403), (&key_one, "fast", 200), (&key_all, "o3", 403)] {
        let path = format!("/v1/models/{model}");
        assert_eq!(stack.send(&ruled.call("GET", &path).key(key)).await.status(), status, "{model}");
    }
    let head = ruled.call("HEAD", "/v1/models").key(&key_one);
    let head = stack.client().begin(&head).await.unwrap().head().await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, None),
        "how long the vendor's list is says too much"
    );
    upstream.next(Vendor::OpenAi.error(404, "no such thing"));
    let missing = stack.send(&ruled.call("GET", "/v1/models").key(&key_one)).await;
    assert_eq!(missing.status(), 404, "only what is a list is cut");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_list_that_cannot_be_read_names_no_model_to_anyone() {
    let stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let ruled = stack.provider_with("ruled", &upstream, json!({"models": {"allow": ["gpt-4o"]}})).await;
    let aliased = stack.provider_with("aliased", &upstream, json!({"models": {"aliases": {"fast": "o3"}}})).await;
    let key = stack.key("both", &[&ruled, &aliased]).await.secret;
    let long = format!("{{\"data\":[{{\"id\":\"o3\",\"x\":\"{}\"}}]}}", "x".repeat(4 << 20));
    let cases = [
        ("packed", Answer::text(200, "application/json", LIST).header("content-encoding", "gzip")),
        ("no JSON", Answer::text(200, "text/plain", "o3")),
        ("no type", Answer::text(200, "application/octet-stream", LIST)),
        ("events", Answer::stream().piece("data: {\"id\":\"o3\"}\n\n")),
        ("another form", Answer::json(200, &json!({"data": ["o3"]}))),
        ("more than is known", Answer::json(200, &json!({"data": [], "others": ["o3"]}))),
        ("broken", Answer::text(200, "application/json", "{\"data\":[{\"id\":\"o3\"}")),
        ("a part", Answer::text(206, "application/json", "\"o3\"}]}").header("content-range", "bytes 9-16/17")),
        ("too long", Answer::text(200, "application/json", long)),
    ];
    let count = cases.len();
    for (case, answer) in cases {
        upstream.next(answer.clone());
        let reply = stack.send(&ruled.call("GET", "/v1/models").key(&key)).await;
        assert_refusal(Vendor::OpenAi, &reply, 502, "unreadable_model_list");
        assert!(!reply.text().contains("o3"), "{case}: {}", reply.text());
        upstream.next(answer);
        let reply = stack.send(&aliased.call("GET", "/v1/models").key(&key)).await;
        assert!(reply.status() < 300 && reply.text().contains(if case == "packed" { "gpt" } else { "o3" }), "{case}");
    }
    upstream.next(Answer::json(200, &json!({"data": [{"id": "o3"}]})));
    let reply = stack.send(&aliased.call("GET", "/v1/models").key(&key)).await;
    assert_eq!(names(&reply.json()), ["o3", "fast"]);
    let rows = stack.usage_rows(2 * count + 1).await;
    let refused = rows.iter().filter(|row| row["outcome"] == "refused").count();
    assert_eq!(refused, count, "the vendor answered, and what it said is not told: {rows:#?}");
    stack.shutdown().await;
}

#[tokio::test]
async fn every_shape_of_list_and_every_target_of_a_proxy_has_its_own_names() {
    let stack = Stack::sqlite().await;
    let (gemini, anthropic) = (Upstream::start(Vendor::Gemini).await, Upstream::start(Vendor::Anthropic).await);
    let rules = json!({"models": {"allow": ["gemini-2.5*"], "aliases": {"fast": "gemini-2.5-flash"}}});
    let on_gemini = stack.provider_with("gemini", &gemini, rules).await;
    let rules = json!({"models": {"allow": ["claude-b"]}});
    let on_anthropic = stack.provider_with("anthropic", &anthropic, rules).await;
    let (a, b) = (Upstream::start(Vendor::OpenAi).await, Upstream::start(Vendor::OpenAi).await);
    stack.provider_with("aa", &a, json!({"models": {"allow": ["a-model"]}})).await;
    stack.provider_with("bb", &b, json!({"models": {"allow": ["b-model"]}})).await;
    let targets = json!([
        {"provider": "aa", "aliases": {"smart": "a-model"}},
        {"provider": "bb", "priority": 1, "aliases": {"smart": "b-model"}},
    ]);
    let proxy = stack.proxy_with("both", Vendor::OpenAi, json!({"targets": targets})).await;
    let open = stack.key("open", &[&on_gemini, &on_anthropic, &proxy]).await.secret;
    let list = async |endpoint: &Endpoint, path: &str, key: &str| {
        stack.send(&endpoint.call("GET", path).key(key)).await.json()
    };

    let models = json!([{"name": "models/gemini-2.5-flash", "version": "1"}, {"name": "models/gemini-3"}]);
    gemini.next(Answer::json(200, &json!({"models": models, "nextPageToken": "t"})));
    let page = list(&on_gemini, "/v1beta/models?pageSize=2", &open).await;
    assert_eq!((names(&page), &page["nextPageToken"]), (vec!["models/gemini-2.5-flash"], &json!("t")));
    gemini.next(Answer::json(200, &json!({"models": models})));
    let page = list(&on_gemini, "/v1beta/models", &open).await;
    assert_eq!(names(&page), ["models/gemini-2.5-flash", "models/fast"]);
    assert_eq!(page["models"][1]["version"], "1", "described as what it stands for");

    let data = json!([{"id": "claude-a"}, {"id": "claude-b"}, {"id": "claude-c"}]);
    let page = json!({"data": data, "has_more": false, "first_id": "claude-a", "last_id": "claude-c"});
    anthropic.next(Answer::json(200, &page));
    let page = list(&on_anthropic, "/v1/models", &open).await;
    assert_eq!(
        (names(&page), &page["first_id"], &page["last_id"]),
        (vec!["claude-b"], &json!("claude-b"), &json!("claude-b"))
    );

    let both = Answer::json(200, &json!({"data": [{"id": "a-model", "at": "a"}, {"id": "b-model"}, {"id": "c"}]}));
    let scoped = key(&stack, "scoped", &[&proxy], json!({"allow": ["smart"]})).await;
    a.always(both.clone());
    b.always(both);
    let models = list(&proxy, "/v1/models", &scoped).await;
    assert_eq!((names(&models), &models["data"][0]["at"]), (vec!["smart"], &json!("a")));
    assert_eq!(names(&list(&proxy, "/v1/models", &open).await), ["a-model", "b-model", "smart"]);
    a.always(Vendor::OpenAi.error(503, "not now"));
    let models = list(&proxy, "/v1/models", &scoped).await;
    assert_eq!((names(&models), models["data"][0].get("at")), (vec!["smart"], None), "the other one's smart model");
    stack.shutdown().await;
}
