//! Whatever else a vendor offers passes through: paths, queries, methods and headers, but for those that must not.

use serde_json::json;
use tests::{
    Answer, Endpoint, Key, Stack, Upstream, Vendor,
    client::{Call, Client},
};

async fn a_provider(stack: &Stack, vendor: Vendor) -> (Upstream, Endpoint, Key) {
    let upstream = Upstream::start(vendor).await;
    let provider = stack.provider(vendor.name(), &upstream).await;
    let key = stack.key(vendor.name(), &[&provider]).await;
    (upstream, provider, key)
}

#[tokio::test]
async fn every_path_query_and_method_passes_byte_for_byte() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let targets = [
        "/v1/models",
        "/v1/files/file-1/content?a=1&a=2&b=%20+%2F&empty=&flag",
        "/v1/models/ft%3Agpt-4o%2Fx",
        "/v1/tomorrow/an-endpoint-nobody-knows?x=%C3%A9",
        "/",
        "",
        "?only=query",
    ];
    for target in targets {
        let reply = stack.send(&provider.call("GET", target).key(&key.secret)).await;
        assert_eq!(reply.status(), 200, "{target}: {}", reply.text());
        assert_eq!(reply.header("x-vendor"), Some("echo"));
        let arrived = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        assert_eq!(upstream.latest().request.target, arrived);
    }
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
        let reply = stack.send(&provider.call(method, "/v1/things").key(&key.secret)).await;
        assert_eq!(reply.status(), 200, "{method}: {}", reply.text());
        assert_eq!(upstream.latest().request.method, method);
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn paths_that_two_readers_could_read_in_two_ways_are_refused() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let paths = [
        "/openai/../openai/v1",
        "/./openai/v1",
        "//openai/v1",
        "/openai%2Fv1/models",
        "/%6fpenai/v1",
        "/openai/v1/../../x",
        "/openai\\v1",
        "/openai/%2e%2e/x",
    ];
    for path in paths {
        let reply = stack.send(&Call::get(path).key(&key.secret)).await;
        assert!([400, 404].contains(&reply.status()), "{path}: {} {}", reply.status(), reply.text());
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
    drop(provider);
    stack.shutdown().await;
}

#[tokio::test]
async fn headers_go_out_as_a_new_map() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let call = provider
        .chat(false)
        .key(&key.secret)
        .header("OpenAI-Organization", "org-1")
        .header("X-Stainless-Lang", "python")
        .header("User-Agent", "an-sdk/1.0")
        .header("Accept", "application/json")
        // What is for this hop, for others or for nobody:
        .header("Connection", "keep-alive, X-Nominated")
        .header("X-Nominated", "secret")
        .header("Keep-Alive", "timeout=5")
        .header("TE", "trailers")
        .header("Cookie", "session=1")
        .header("X-Forwarded-For", "203.0.113.9")
        .header("X-Forwarded-Host", "evil.example")
        .header("Forwarded", "for=203.0.113.9")
        .header("Via", "1.1 stranger")
        .header("api-key", "another vendor's")
        .header("x-goog-api-key", "another vendor's")
        .header("Proxy-Authorization", "Basic x")
        .header("Accept-Encoding", "gzip, br")
        .header("Expect", "100-continue");
    let reply = stack.send(&call).await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    let request = upstream.the_one().request;
    for kept in ["openai-organization", "x-stainless-lang", "user-agent", "accept", "content-type"] {
        assert!(request.header(kept).is_some(), "{kept} must pass: {}", request.raw_head);
    }
    let dropped = [
        "x-nominated",
        "keep-alive",
        "te",
        "cookie",
        "x-forwarded-for",
        "x-forwarded-host",
        "forwarded",
        "api-key",
        "x-goog-api-key",
        "proxy-authorization",
        "expect",
        "x-api-key",
        "via",
    ];
    for dropped in dropped {
        assert_eq!(request.header(dropped), None, "{dropped} must not pass: {}", request.raw_head);
    }
    assert!(request.header("accept-encoding").is_none_or(|value| value == "identity"), "{}", request.raw_head);
    assert_eq!(request.header("host"), Some(upstream.address().to_string().as_str()));
    stack.shutdown().await;
}

#[tokio::test]
async fn headers_come_back_without_what_is_not_for_the_client() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let answer = Answer::json(200, &json!({"ok": true}))
        .header("x-ratelimit-remaining-requests", "99")
        .header("openai-processing-ms", "12")
        .header("set-cookie", "__cf_bm=1")
        .header("alt-svc", "h3=\":443\"")
        .header("connection", "x-hop")
        .header("x-hop", "1");
    upstream.next(answer);
    let reply = stack.send(&provider.chat(false).key(&key.secret)).await;
    for kept in ["x-ratelimit-remaining-requests", "openai-processing-ms", "content-type"] {
        assert!(reply.header(kept).is_some(), "{kept}: {:?}", reply.head);
    }
    for dropped in ["set-cookie", "alt-svc", "x-hop"] {
        assert_eq!(reply.header(dropped), None, "{dropped}: {:?}", reply.head);
    }
    assert!(reply.header("x-lockgate-request-id").is_some_and(|id| id.starts_with("req_")), "{:?}", reply.head);
    stack.shutdown().await;
}

#[tokio::test]
async fn a_connection_is_used_again_but_never_for_another_provider() {
    // Each worker has connections of its own.
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("node-1", &[("gateway.workers", "1")]).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    upstream.accept_any_credential();
    let first = stack.provider("first", &upstream).await;
    let second = stack
        .provider_with("second", &upstream, json!({"upstream": {"credential": {"value": "vc-planted-second"}}}))
        .await;
    let key = stack.key("both", &[&first, &second]).await;
    for endpoint in [&first, &second, &first, &second] {
        assert_eq!(stack.send(&endpoint.chat(false).key(&key.secret)).await.status(), 200);
    }
    let seen = upstream.seen();
    let connections: Vec<usize> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 0, 1], "each provider its own, and each again");
    stack.shutdown().await;
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_closed() {
    let stack = Stack::sqlite().await;
    let (upstream, provider, key) = a_provider(&stack, Vendor::OpenAi).await;
    let path = format!("{}/v1/models", provider.context);
    let auth = format!("X-API-Key: {}\r\n", key.secret);
    let host = format!("Host: {}\r\n", stack.client().address());
    let requests = [
        ("no host", format!("GET {path} HTTP/1.1\r\n{auth}\r\n")),
        ("two hosts", format!("GET {path} HTTP/1.1\r\n{host}Host: other\r\n{auth}\r\n")),
        (
            "two lengths",
            format!(
                "POST {path} HTTP/1.1\r\n{host}{auth}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
        ),
        ("a nominated key", format!("GET {path} HTTP/1.1\r\n{host}{auth}Connection: x-api-key\r\n\r\n")),
        ("trace", format!("TRACE {path} HTTP/1.1\r\n{host}{auth}\r\n")),
        ("connect", format!("CONNECT example.com:443 HTTP/1.1\r\n{host}{auth}\r\n")),
        ("too many headers", format!("GET {path} HTTP/1.1\r\n{host}{auth}{}\r\n", "X-A: 1\r\n".repeat(200))),
        ("a long uri", format!("GET {path}?{} HTTP/1.1\r\n{host}{auth}\r\n", "x".repeat(20_000))),
        ("no http", "hello\r\n\r\n".to_owned()),
    ];
    for (what, bytes) in requests {
        let mut exchange = stack.client().begin_raw(bytes.as_bytes()).await.unwrap();
        let head = exchange.head().await;
        assert!([400, 405, 414, 431, 501].contains(&head.status), "{what}: {head:?}");
    }
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
    stack.shutdown().await;
}

#[tokio::test]
async fn too_large_a_body_is_a_413() {
    let mut stack = Stack::sqlite().await;
    stack.add_node("small", &[("limits.body_bytes", "1000")]).await;
    let (_upstream, provider, key) = a_provider(&stack, Vendor::Anthropic).await;
    let small: Client = stack.client_of(1);
    let fits = provider.call("POST", "/v1/files").key(&key.secret).body(vec![b'x'; 1000]);
    assert_eq!(small.send(&fits).await.status(), 200);
    let large = provider.call("POST", "/v1/files").key(&key.secret).body(vec![b'x'; 1001]);
    let refused = small.send(&large).await;
    assert_eq!(refused.status(), 413, "{}", refused.text());
    assert!(refused.json()["error"]["message"].is_string(), "{}", refused.text());
    assert_eq!(stack.send(&large).await.status(), 200, "the other node has its own limit");
    let own =
        stack.proxy_with("own", Vendor::Anthropic, json!({"provider": provider.name, "maxBodyBytes": 2000})).await;
    let key = stack.key("own", &[&own]).await;
    for (length, status) in [(2000, 200), (2001, 413)] {
        let sized = own.call("POST", "/v1/files").key(&key.secret).body(vec![b'x'; length]);
        assert_eq!(small.send(&sized).await.status(), status, "{length}");
    }
    let read = stack.rest().get("/llm-proxies/own").await.expect(200);
    assert_eq!(read["maxBodyBytes"], 2000);
    stack.shutdown().await;
}
