//! What a client may not say in HTTP/1.1, in raw bytes: each has a named refusal with a request id, or passes as it is.

use tests::{Answer, Endpoint, Key, Stack, Upstream, Vendor, raw::Raw};

async fn stack(settings: &[(&str, &str)]) -> (Stack, Upstream, Endpoint, Key) {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    let mut all = vec![("admin.listen", "127.0.0.1:0")];
    all.extend(settings);
    stack.add_node("node-1", &all).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("openai", &[&provider]).await;
    (stack, upstream, provider, key)
}

/// Sends bytes; the answer must be this refusal, and the connection must end behind it if `closes`.
async fn refused(stack: &Stack, what: &str, bytes: &str, status: u16, label: &str, closes: bool) {
    let mut client = Raw::connect(stack.client().address()).await;
    // It may be refused before all of it has gone.
    client.try_send(bytes).await;
    let (head, body) = client.answer().await;
    assert_eq!(head.status, status, "{what}: {body}");
    assert!(body.contains(&format!("\"{label}\"")), "{what} must be {label}: {body}");
    let id = head.header("x-request-id").unwrap_or_else(|| panic!("{what}: no request id in {head:?}"));
    assert!(id.starts_with("req_") && body.contains(id), "{what}: {body}");
    assert_eq!(head.header("content-type"), Some("application/json"), "{what}");
    if closes {
        assert_eq!(head.header("connection"), Some("close"), "{what}");
        client.try_send("GET /openai/again HTTP/1.1\r\nHost: gw\r\n\r\n").await;
        assert_eq!(client.rest().await, b"", "{what}: nothing is read behind it");
    } else {
        client.send("GET /nothing-here HTTP/1.1\r\nHost: gw\r\n\r\n").await;
        assert_eq!(client.answer().await.0.status, 404, "{what}: the connection goes on");
    }
}

#[tokio::test]
async fn what_is_no_good_request_is_refused_by_name() {
    let (stack, upstream, _provider, key) = stack(&[]).await;
    let auth = format!("X-API-Key: {}\r\n", key.secret);
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: gw\r\n{auth}\r\n");
    let with = |fields: &str| format!("GET /openai/v1/models HTTP/1.1\r\nHost: gw\r\n{auth}{fields}\r\n");
    let line = |line: &str| format!("{line} HTTP/1.1\r\nHost: gw\r\n{auth}\r\n");
    let hosts = |hosts: &str| format!("GET /openai/v1/models HTTP/1.1\r\n{hosts}{auth}\r\n");
    let absolute = format!("GET http://other/openai HTTP/1.1\r\nHost: gw\r\n{auth}\r\n");
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let body = |fields: &str| format!("POST /openai/v1/x HTTP/1.1\r\nHost: gw\r\n{auth}{fields}\r\n{chunks}");
    let old = format!("POST /openai/v1/x HTTP/1.0\r\nHost: gw\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{chunks}");
    let mut table = vec![
        ("no host", hosts(""), 400, "bad_host"),
        ("two hosts", hosts("Host: gw\r\nHost: gw\r\n"), 400, "bad_host"),
        ("a malformed host", hosts("Host: g w\r\n"), 400, "bad_host"),
        ("user information", hosts("Host: a@gw\r\n"), 400, "bad_host"),
        ("an absolute form with another host", absolute, 400, "bad_host"),
        ("a length and chunks", body("Content-Length: 15\r\nTransfer-Encoding: chunked\r\n"), 400, "bad_framing"),
        ("chunks and a length", body("Transfer-Encoding: chunked\r\nContent-Length: 15\r\n"), 400, "bad_framing"),
        ("two lengths", body("Content-Length: 15\r\nContent-Length: 15\r\n"), 400, "bad_framing"),
        ("chunked twice", body("Transfer-Encoding: chunked, chunked\r\n"), 400, "bad_framing"),
        ("chunks in HTTP/1.0", old, 400, "bad_framing"),
        ("gzip in chunks", body("Transfer-Encoding: gzip, chunked\r\n"), 501, "transfer_coding_not_supported"),
        ("an unknown expectation", with("Expect: the-unexpected\r\n"), 417, "expectation_not_supported"),
        ("no http", "hello\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("another version", "GET / HTTP/3.0\r\nHost: gw\r\n\r\n".to_owned(), 400, "malformed_request"),
        ("a space before the colon", with("X-A : 1\r\n"), 400, "malformed_request"),
        ("a folded field", with("X-A: 1\r\n 2\r\n"), 400, "malformed_request"),
        ("a NUL", with("X-A: a\0b\r\n"), 400, "malformed_request"),
        ("101 fields", with(&"X-A: 1\r\n".repeat(99)), 431, "head_too_large"),
        ("a large field", with(&format!("X-A: {}\r\n", "x".repeat(33_000))), 431, "head_too_large"),
        ("an endless head", with(&"X-Header: 1\r\n".repeat(50_000)), 431, "head_too_large"),
        ("a long uri", get(&format!("/openai/{}", "x".repeat(8_192))), 414, "uri_too_long"),
        ("an endless uri", get(&format!("/openai/{}", "x".repeat(70_000))), 414, "uri_too_long"),
    ];
    for name in ["X-API-Key", "authorization", "HOST", "Content-Length", "close, transfer-encoding"] {
        table.push(("a nominated field", with(&format!("Connection: {name}\r\n")), 400, "bad_connection_header"));
    }
    for (what, bytes, status, label) in table {
        refused(&stack, what, &bytes, status, label, true).await;
    }
    let mut table = vec![
        ("two keys", with(&auth), 400, "ambiguous_key"),
        ("an unknown upgrade", with("Connection: upgrade\r\nUpgrade: irc\r\n"), 405, "upgrade_not_supported"),
        (
            "another key in disguise alone",
            hosts("Host: gw\r\n").replace("X-API-Key", "X_API_KEY"),
            401,
            "invalid_api_key",
        ),
    ];
    for asked in ["TRACE /openai/v1", "GET *", "OPTIONS *", "BREW /openai/v1"] {
        table.push(("a method that is not passed on", line(asked), 405, "method_not_allowed"));
    }
    for path in [
        "//openai/v1",
        "/openai//v1",
        "/./openai/v1",
        "/openai/../openai/v1",
        "/openai/%2e%2e/v1",
        "/openai%2fv1",
        "/%6fpenai/v1",
        "/openai/a%5cb",
        "/openai\\v1",
        "/openai/v1%00",
        "/op\u{e9}nai/v1",
        "/openai/<v1>",
    ] {
        table.push(("a path with two readings", get(path), 400, "bad_path"));
    }
    for (what, bytes, status, label) in table {
        // What no URI can be made of ends the connection, as does a wish to speak another protocol.
        let closes = bytes.contains('<') || label == "upgrade_not_supported";
        refused(&stack, what, &bytes, status, label, closes).await;
    }
    let mut client = Raw::connect(stack.client().address()).await;
    client.send(format!("CONNECT gw:443 HTTP/1.1\r\nHost: gw:443\r\n{auth}\r\n")).await;
    assert_eq!(client.answer().await.0.status, 405);
    assert_eq!(upstream.seen().len(), 0, "{:?}", upstream.seen());
    for label in ["bad_host", "bad_framing", "malformed_request", "head_too_large", "uri_too_long"] {
        let count = stack.metric(0, &format!("lockgate_refusals_total{{refusal=\"{label}\"}}")).await;
        assert!(count > 0, "{label} is counted");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_refusal_waits_for_its_turn_and_nothing_is_read_behind_it() {
    let (stack, upstream, _provider, key) = stack(&[]).await;
    let auth = format!("Host: gw\r\nX-API-Key: {}\r\n", key.secret);
    let evil = "POST /openai/evil HTTP/1.1\r\nHost: gw\r\nX-API-Key: any\r\nContent-Length: 3\r\n\
                Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let before = [
        format!("GET /openai/v1/models HTTP/1.1\r\n{auth}\r\n"),
        format!("POST /openai/v1/files HTTP/1.1\r\n{auth}Content-Length: {}\r\n\r\n{evil}", evil.len()),
        format!(
            "POST /openai/v1/files HTTP/1.1\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{:x};x=y\r\n{evil}\r\n0\r\n\
             Content-Length: 70\r\n\r\n",
            evil.len()
        ),
    ];
    for (count, good) in before.iter().enumerate() {
        upstream.next(Answer::text(200, "text/plain", "fine"));
        let behind = format!("GET /openai/behind HTTP/1.1\r\n{auth}\r\n");
        let mut client = Raw::connect(stack.client().address()).await;
        client.send(format!("{good}{evil}{behind}")).await;
        let (head, body) = client.answer().await;
        assert_eq!((head.status, body.as_str()), (200, "fine"), "{good}");
        let (head, body) = client.answer().await;
        assert_eq!(head.status, 400, "{body}");
        assert!(body.contains("bad_framing"), "{body}");
        assert_eq!(client.rest().await, b"");
        assert_eq!(upstream.seen().len(), count + 1, "the good one and no other");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn what_is_good_passes_byte_for_byte_and_what_ends_here_ends() {
    let (stack, upstream, _provider, key) = stack(&[]).await;
    let auth = format!("Host: gw\r\nX-API-Key: {}\r\n", key.secret);
    for target in ["/v1/x%2F/y", "/v1/%2F/%2f", "/v1/models/a:b", "/v1/x?alt=sse&a=%2F", "/v1/.well-known/...;x=1"] {
        let mut client = Raw::connect(stack.client().address()).await;
        client
            .send(format!("GET /openai{target} HTTP/1.1\r\n{auth}X_API_KEY: other\r\nX_Forwarded_For: a\r\n\r\n"))
            .await;
        assert_eq!(client.answer().await.0.status, 200, "{target}");
        let request = upstream.latest().request;
        assert_eq!(request.target, target);
        assert!(!request.raw_head.to_lowercase().contains("x_"), "disguises are dropped: {}", request.raw_head);
    }
    // An absolute form that agrees with its host, and HTTP/1.0.
    for line in ["GET http://gw/openai/v1/a HTTP/1.1", "GET /openai/v1/a HTTP/1.0"] {
        let mut client = Raw::connect(stack.client().address()).await;
        client.send(format!("{line}\r\n{auth}\r\n")).await;
        assert_eq!(client.answer().await.0.status, 200, "{line}");
        assert_eq!(upstream.latest().request.target, "/v1/a");
    }
    // Trailers end here, whatever they carry.
    let mut client = Raw::connect(stack.client().address()).await;
    client
        .send(format!(
            "POST /openai/v1/files HTTP/1.1\r\n{auth}Trailer: x-api-key\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\nX-API-Key: other\r\nContent-Length: 70\r\n\r\n"
        ))
        .await;
    assert_eq!(client.answer().await.0.status, 200);
    let request = upstream.latest().request;
    assert_eq!(&request.body[..], b"hello");
    assert!(!request.raw_head.to_lowercase().contains("trailer"), "{}", request.raw_head);
    // Go on is said when the key has been checked, and not before.
    let expects = |key: &str| {
        format!(
            "POST /openai/v1/files HTTP/1.1\r\nHost: gw\r\nX-API-Key: {key}\r\nExpect: 100-continue\r\n\
             Content-Length: 5\r\n\r\n"
        )
    };
    let mut client = Raw::connect(stack.client().address()).await;
    client.send(expects("unknown")).await;
    assert_eq!(client.answer().await.0.status, 401);
    let mut client = Raw::connect(stack.client().address()).await;
    client.send(expects(&key.secret)).await;
    assert_eq!(client.answer().await.0.status, 100);
    client.send("hello").await;
    assert_eq!(client.answer().await.0.status, 200);
    stack.shutdown().await;
}

#[tokio::test]
async fn every_silence_has_its_deadline_and_its_count() {
    let deadlines = [
        ("deadlines.first_byte", "150ms"),
        ("deadlines.head", "300ms"),
        ("deadlines.keep_alive", "400ms"),
        ("deadlines.body_idle", "200ms"),
    ];
    let (stack, _upstream, _provider, key) = stack(&deadlines).await;
    let auth = format!("Host: gw\r\nX-API-Key: {}\r\n", key.secret);
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for (said, reason) in [
        ("", "first_byte_timeout"),
        (&preface[..1], "first_byte_timeout"),
        (&preface[..23], "first_byte_timeout"),
        ("G", "head_timeout"),
        ("GET /openai HTTP/1.1\r\nHost: gw\r\nX-Slow: ", "head_timeout"),
    ] {
        let name = format!("lockgate_connections_closed_total{{reason=\"{reason}\"}}");
        let before = stack.metric(0, &name).await;
        let mut client = Raw::connect(stack.client().address()).await;
        client.send(said).await;
        assert_eq!(client.rest().await, b"", "{said:?}");
        stack.metric_becomes(0, &name, before + 1).await;
    }
    // Dripping does not help: the head has its time as a whole.
    let mut client = Raw::connect(stack.client().address()).await;
    client.send("GET /openai HTTP/1.1\r\nHost: gw\r\nX-Slow: ").await;
    let drips = async {
        while client.try_send("x").await {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), drips).await.expect("it is closed");

    let closed = "lockgate_connections_closed_total{reason=\"keep_alive_timeout\"}";
    let mut client = Raw::connect(stack.client().address()).await;
    client.send(format!("GET /openai/v1/models HTTP/1.1\r\n{auth}\r\n")).await;
    assert_eq!(client.answer().await.0.status, 200);
    assert_eq!(client.rest().await, b"");
    stack.metric_becomes(0, closed, 1).await;

    // A body that is never sent, and one that stops.
    for sent in ["", "hel"] {
        let mut client = Raw::connect(stack.client().address()).await;
        client.send(format!("POST /openai/v1/files HTTP/1.1\r\n{auth}Content-Length: 5\r\n\r\n{sent}")).await;
        let (head, body) = client.answer().await;
        assert_eq!(head.status, 408, "{body}");
        assert!(body.contains("body_stalled"), "{body}");
        assert_eq!(client.rest().await, b"");
    }
    stack.shutdown().await;
}
