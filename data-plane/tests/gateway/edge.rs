//! What a client may not do, in raw bytes: refused by name or closed, at bounded cost.

use std::time::Duration;

use super::fixture::*;

/// Sends bytes and reads the status of the answer; the connection must then close if `closes`.
async fn refused(stand: &Stand, request: &str) -> (u16, String, bool) {
    let mut client = stand.client().await;
    client.send(request).await;
    let answer = client.answer().await;
    client.send("GET / HTTP/1.1\r\nHost: again\r\n\r\n").await;
    let closed = client.rest_within(Duration::from_millis(300)).await;
    let code = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    let code = code.and_then(|body| {
        let code = [body.pointer("/error/code"), body.pointer("/error/status")];
        code.into_iter().flatten().find_map(|code| code.as_str().map(str::to_owned))
    });
    (answer.status, code.unwrap_or_default(), closed)
}

#[tokio::test]
async fn a_host_must_be_named_once_and_well() {
    let stand = Stand::start(&Draft::new("http://127.0.0.1:1")).await;
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: a/b\r\n", "Host: u@a\r\n", "Host:\r\n"] {
        let (status, _, closed) = refused(&stand, &format!("GET /openai HTTP/1.1\r\n{hosts}\r\n")).await;
        assert_eq!((status, closed), (400, true), "{hosts:?}");
    }
    let absolute = |host: &str| format!("GET http://gw:80/openai HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(refused(&stand, &absolute("other")).await.0, 400);
    assert_eq!(refused(&stand, &absolute("GW:80")).await.0, 401);
}

#[tokio::test]
async fn a_length_must_be_stated_in_one_way() {
    let stand = Stand::start(&Draft::new("http://127.0.0.1:1")).await;
    let post = |headers: &str, body: &str| {
        format!("POST /openai HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n{headers}\r\n\r\n{body}", key(1))
    };
    let chunked = "5\r\nhello\r\n0\r\n\r\n";
    for (headers, body) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", chunked),
        ("Transfer-Encoding: chunked\r\ncontent-length: 15", chunked),
        ("Transfer-Encoding: chunked, chunked", chunked),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", chunked),
        ("Transfer-Encoding: identity", ""),
        ("Content-Length: 5\r\nContent-Length: 6", "hello"),
        ("Content-Length: +5", "hello"),
        ("Content-Length: 5, 5", "hello"),
    ] {
        let (status, _, closed) = refused(&stand, &post(headers, body)).await;
        assert_eq!((status, closed), (400, true), "{headers:?}");
    }
    for (headers, expected) in [
        ("Transfer-Encoding: gzip, chunked", (501, "UNIMPLEMENTED".to_owned(), true)),
        ("Expect: something", (417, "INVALID_ARGUMENT".to_owned(), true)),
    ] {
        assert_eq!(refused(&stand, &post(headers, "")).await, expected, "{headers:?}");
    }
}

#[tokio::test]
async fn paths_are_refused_never_repaired() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    for path in [
        "/openai//v1",
        "//openai/v1",
        "/openai/./v1",
        "/openai/../openai/v1",
        "/openai/%2e%2e/v1",
        "/openai/v1/%2E",
        "/openai/..%2f..%2fv1",
        "/openai%2fv1",
        "/%6fpenai/v1",
        "/openai/v1%00",
        "/openai/a%5cb",
        "/openai/a\\b",
        "/op\u{e9}nai/v1",
        "/team%2Fproxy",
        "/openai/..;/v1",
        "/openai/%zz",
    ] {
        let request = get("/v1").replace("/openai/v1", path);
        let (status, _, _) = refused(&stand, &request).await;
        assert_eq!(status, 400, "{path}");
    }
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn methods_and_upgrades_that_are_not_carried_are_refused() {
    let stand = Stand::start(&Draft::new("http://127.0.0.1:1")).await;
    for line in ["TRACE /openai/v1", "CONNECT gw:443", "BREW /openai/v1", "PROPFIND /openai", "PRIMES /openai"] {
        let answer = stand.ask(format!("{line} HTTP/1.1\r\nHost: gw:443\r\n\r\n")).await;
        assert_eq!(answer.status, 405, "{line}");
        assert!(answer.header("allow").is_some_and(|allow| allow.contains("POST")));
    }
    for line in ["GET *", "OPTIONS *"] {
        let answer = stand.ask(format!("{line} HTTP/1.1\r\nHost: gw\r\n\r\n")).await;
        assert_eq!(answer.status, 405, "{line}");
    }
    let upgrade = get("/v1/realtime").replace("\r\n\r\n", "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(refused(&stand, &upgrade).await.0, 405);
}

#[tokio::test]
async fn connection_may_not_nominate_what_decides() {
    let stand = Stand::start(&Draft::new("http://127.0.0.1:1")).await;
    for name in ["X-API-Key", "authorization", "Host", "content-length", "close, Api-Key"] {
        let request = get("/v1").replace("\r\n\r\n", &format!("\r\nConnection: {name}\r\n\r\n"));
        assert_eq!(refused(&stand, &request).await.0, 400, "{name}");
    }
}

#[tokio::test]
async fn heads_and_uris_have_their_limits() {
    let stand = Stand::start(&Draft::new("http://127.0.0.1:1")).await;
    let head = |extra: String| get("/v1").replace("\r\n\r\n", &format!("\r\n{extra}\r\n"));
    let (status, code, closed) = refused(&stand, &get(&format!("/{}", "x".repeat(9_000)))).await;
    assert_eq!((status, code.as_str(), closed), (414, "INVALID_ARGUMENT", true));
    let many = (0..100).map(|index| format!("X-{index}: 1\r\n")).collect::<Vec<_>>().concat();
    assert_eq!(refused(&stand, &head(many)).await.0, 431);
    let large = format!("X-Large: {}\r\n", "x".repeat(33_000));
    assert_eq!(refused(&stand, &head(large)).await.0, 431);
    let endless = format!("GET /openai HTTP/1.1\r\nHost: gw\r\nX-Large: {}", "x".repeat(600_000));
    let mut client = stand.client().await;
    client.try_send(&endless).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn bodies_have_their_limit_however_they_are_framed() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand = Stand::with(Some(&draft), |config| config.limits.body_bytes = 10).await;
    let sized = post("/v1/x", "12345678901");
    let answer = stand.ask(&sized).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"body_too_large".into()));
    assert!(vendor.is_alone().await);
    let record = stand.record().await;
    assert_eq!((record.refusal, record.admitted), (Some("body_too_large"), false));

    let chunked = format!(
        "POST /openai/v1/x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
        key(1)
    );
    let mut client = stand.client().await;
    client.send(&chunked).await;
    client.send("8\r\n12345678\r\n").await;
    let mut upstream = vendor.accept().await;
    upstream.until("12345678").await;
    client.send("8\r\n12345678\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"body_too_large".into()));
    assert!(!String::from_utf8_lossy(&upstream.rest().await).contains("0\r\n\r\n"), "the vendor saw a whole request");
    let record = stand.record().await;
    assert_eq!((record.refusal, record.admitted), (Some("body_too_large"), true));
}

#[tokio::test]
async fn go_on_is_said_after_the_key_is_checked() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let head = |key: &str| {
        format!(
            "POST /openai/v1/x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {key}\r\nExpect: 100-continue\r\n\
             Content-Length: 5\r\n\r\n"
        )
    };
    let mut client = stand.client().await;
    client.send(head(&key(9))).await;
    assert_eq!(client.answer().await.status, 401);

    let mut client = stand.client().await;
    client.send(head(&key(1))).await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    let (_, (head, body)) = tokio::join!(client.answer(), vendor.once(ok("{}")));
    assert_eq!((header(&head, "expect"), body.as_slice()), (None, &b"hello"[..]));
}

#[tokio::test]
async fn who_says_nothing_is_closed_in_time() {
    let draft = Draft::new("http://127.0.0.1:1");
    let stand = Stand::with(Some(&draft), |config| {
        config.deadlines.first_byte = Duration::from_millis(100);
        config.deadlines.head = Duration::from_millis(200);
        config.deadlines.keep_alive = Duration::from_millis(300);
    })
    .await;
    for first in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM", "G", "GET /openai HTTP/1.1\r\nHost: gw\r\nX-Slow: "] {
        let mut client = stand.client().await;
        client.send(first).await;
        assert_eq!(client.rest().await, b"", "{first:?}");
    }
    let mut client = stand.client().await;
    client.send("GET /openai HTTP/1.1\r\nHost: gw\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 401);
    assert_eq!(client.rest().await, b"");
    // The second head on a connection has its deadline too.
    let mut client = stand.client().await;
    client.send("GET /openai HTTP/1.1\r\nHost: gw\r\n\r\n").await;
    client.answer().await;
    client.send("GET /openai HTTP/1.1\r\nHost:").await;
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_head_may_come_in_any_pieces() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    let exchange = async {
        for byte in post("/v1/x", "{}").as_bytes().chunks(7) {
            client.send(byte).await;
            tokio::task::yield_now().await;
        }
        client.answer().await
    };
    let (answer, (_, body)) = tokio::join!(exchange, vendor.once(ok("{}")));
    assert_eq!((answer.status, body.as_slice()), (200, &b"{}"[..]));
}

#[tokio::test]
async fn a_body_that_stops_arriving_is_a_timeout() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand = Stand::with(Some(&draft), |config| config.deadlines.body_idle = Duration::from_millis(150)).await;
    let mut client = stand.client().await;
    client.send(post("/v1/x", "hello").trim_end_matches("lo")).await;
    let mut upstream = vendor.accept().await;
    upstream.until("hel").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (408, &"body_stalled".into()));
    assert_eq!(stand.record().await.refusal, Some("body_stalled"));
    assert_eq!(upstream.rest().await, b"");
}

#[tokio::test]
async fn two_requests_in_one_piece_are_two_requests() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    client.send(format!("{}{}", post("/v1/a", "{}"), get("/v1/b"))).await;
    let mut upstream = vendor.accept().await;
    for (line, reply) in [("POST /v1/a ", "{\"a\":1}"), ("GET /v1/b ", "{\"b\":2}")] {
        let (head, _) = upstream.message().await;
        assert!(head.starts_with(line), "{head}");
        upstream.send(ok(reply)).await;
        assert_eq!(client.answer().await.text(), reply);
        stand.record().await;
    }
    stand.no_more_records();
}

#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let stand = Stand::start(&Draft::new("http://127.0.0.1:1")).await;
    for length in [100_000, 3_000_000] {
        let mut client = stand.client().await;
        let request = format!(
            "POST /openai/v1/x HTTP/1.1\r\nHost: gw\r\nContent-Length: {length}\r\n\r\n{}",
            "x".repeat(150_000.min(length))
        );
        client.try_send(request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, 401, "{length}");
    }
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped_in_time() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand = Stand::with(Some(&draft), |config| {
        config.deadlines.client_idle = Duration::from_millis(300);
    })
    .await;
    let mut client = stand.client().await;
    client.send(get("/v1/files/large/content")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
    client.head().await;
    let block = vec![7_u8; 1 << 20];
    within("the gateway hangs up", async { while upstream.try_send(&block).await {} }).await;
    let record = stand.record().await;
    assert_eq!(record.outcome, data_plane::pipeline::account::Outcome::ClientGone);
}
