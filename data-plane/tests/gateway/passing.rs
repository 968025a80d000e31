//! What reaches the vendor, and what comes back.

use data_plane::pipeline::account::Outcome;

use super::fixture::*;

#[tokio::test]
async fn a_request_reaches_the_vendor_with_its_credential_and_nothing_of_ours() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let key = key(1);
    let request = format!(
        "POST /openai/v1/models/a%2Fb:c?alt=sse&api_key=&x=%20+ HTTP/1.1\r\nHost: gw.example:8080\r\n\
         X-API-Key: {key}\r\nAuthorization: Bearer {key}\r\nX_API_KEY: {key}\r\nCookie:\r\nCookie: a=b\r\n\
         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nForwarded: for=1.2.3.4\r\n\
         X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nAccept-Encoding: gzip, br\r\nX-Lockgate-Debug: 1\r\n\
         Proxy-Authorization: Basic x\r\nUpgrade: h2c\r\nUser-Agent: SDK/1\r\nX-Stainless-Lang: python\r\n\
         X-Stainless-Lang: twice\r\nOpenAI-Beta: yes\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n\
         {{\"model\":\"gpt-4\"}}"
    );
    let ask = stand.ask(&request);
    let (answer, (head, body)) = tokio::join!(ask, vendor.once(ok("{\"model\":\"gpt-4-0613\"}")));
    assert_eq!((answer.status, answer.text()), (200, "{\"model\":\"gpt-4-0613\"}"));
    assert_eq!(body, b"{\"model\":\"gpt-4\"}");
    let mut lines: Vec<_> = head.lines().filter(|line| !line.is_empty()).map(str::to_lowercase).collect();
    assert_eq!(lines.remove(0), "post /v1/models/a%2fb:c?alt=sse&x=%20+ http/1.1");
    assert!(head.starts_with("POST /v1/models/a%2Fb:c?alt=sse&x=%20+ HTTP/1.1\r\n"), "{head}");
    lines.sort();
    assert_eq!(
        lines,
        [
            "accept-encoding: identity",
            &format!("authorization: bearer {SECRET}"),
            "content-length: 17",
            "content-type: application/json",
            &format!("host: {}", vendor.address()),
            "openai-beta: yes",
            "user-agent: sdk/1",
            "x-stainless-lang: python",
            "x-stainless-lang: twice",
        ]
    );
    assert!(!answer.head.contains(SECRET));
    let record = stand.record().await;
    assert_eq!(record.outcome, Outcome::Answered);
    assert_eq!((record.status, record.upstream_status), (Some(200), Some(200)));
    assert_eq!(record.requested_model.as_deref(), Some("gpt-4"));
    assert_eq!(record.served_model.as_deref(), Some("gpt-4-0613"));
    assert_eq!((record.request_bytes, record.response_bytes), (17, 22));
    assert_eq!((record.method.as_str(), record.path.as_ref()), ("POST", "/v1/models/a%2Fb:c"));
    assert_eq!((record.input_tokens, record.output_tokens, record.streamed, record.revision), (None, None, false, 7));
    assert!(record.admitted && record.first_byte_us.is_some_and(|first| first <= record.duration_us));
    stand.no_more_records();
}

#[tokio::test]
async fn a_proxy_is_its_provider_under_another_context() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&format!("{}/base", vendor.url()))).await;
    let request = format!("GET /team/proxy HTTP/1.1\r\nHost: gw\r\nAuthorization: bearer {}\r\n\r\n", key(1));
    let (answer, (head, _)) = tokio::join!(stand.ask(&request), vendor.once(ok("{}")));
    assert_eq!(answer.status, 200);
    assert!(head.starts_with("GET /base HTTP/1.1\r\n"), "{head}");
    let record = stand.record().await;
    assert_eq!(record.endpoint_id.as_u128(), PROXY);
    assert_eq!(record.provider_id.map(|id| id.as_u128()), Some(PROVIDER));
}

#[tokio::test]
async fn a_vendors_head_passes_but_for_what_ends_here() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let upload = format!("{}/upload/v1beta/files?upload_id=x", vendor.url());
    let headers = format!(
        "X-Request-Id: req_vendor\r\nopenai-processing-ms: 12\r\nx-ratelimit-remaining-requests: 9\r\n\
         Set-Cookie: a=b\r\nAlt-Svc: h3\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-Goog-Upload-URL: {upload}\r\n\
         Location: https://elsewhere.example/x\r\n"
    );
    let (answer, _) =
        tokio::join!(stand.ask(get("/v1/files")), vendor.once(self::answer("201 Created", &headers, "{}")));
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("x-request-id"), Some("req_vendor"));
    assert!(answer.header("x-lockgate-request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(answer.header("openai-processing-ms"), Some("12"));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), Some("9"));
    let back = answer.header("x-goog-upload-url");
    assert_eq!(back, Some("https://gw.example/openai/upload/v1beta/files?upload_id=x"));
    assert_eq!(answer.header("location"), Some("https://elsewhere.example/x"));
    for gone in ["set-cookie", "alt-svc", "x-hop", "connection"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn other_methods_and_bodiless_answers_pass_and_the_connection_is_used_again() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    let mut connection = None;
    for (method, reply) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        ("OPTIONS", "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n"),
        ("DELETE", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        ("PUT", "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"),
        ("PATCH", "HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ] {
        client.send(get("/v1/x").replace("GET", method)).await;
        if connection.is_none() {
            connection = Some(vendor.accept().await);
        }
        let vendor = connection.as_mut().unwrap();
        assert!(vendor.head().await.starts_with(&format!("{method} /v1/x HTTP/1.1\r\n")));
        vendor.send(reply).await;
        let head = client.head().await;
        assert_eq!(head.split(' ').nth(1), reply.split(' ').nth(1), "{method}");
        if method == "HEAD" {
            assert_eq!(header(&head, "content-length"), Some("500"));
        }
        if method == "PATCH" {
            client.until("0\r\n\r\n").await;
        }
        assert_eq!(stand.record().await.outcome, Outcome::Answered, "{method}");
    }
}

#[tokio::test]
async fn bodies_pass_in_chunks_and_trailers_end_here() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let request = format!(
        "POST /openai/v1/audio HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\nContent-Type: multipart/form-data\r\n\
         Transfer-Encoding: chunked\r\nTrailer: X-API-Key\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\
         X-API-Key: smuggled\r\nContent-Length: 3\r\n\r\n",
        key(1)
    );
    let reply = "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\r\n\
        3\r\n\u{1}\u{2}\u{3}\r\n0\r\nX-End: 1\r\n\r\n";
    let (answer, (head, body)) = tokio::join!(stand.ask(&request), vendor.once(&reply));
    assert_eq!(body, b"hello world");
    assert!(header(&head, "transfer-encoding").is_some() && header(&head, "content-length").is_none());
    assert_eq!((answer.status, answer.body.as_slice()), (200, &[1, 2, 3][..]));
    assert_eq!(answer.header("trailer"), None);
    let record = stand.record().await;
    assert_eq!((record.request_bytes, record.response_bytes, record.requested_model), (11, 3, None));
}

#[tokio::test]
async fn a_large_body_is_streamed_both_ways() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let large = "x".repeat(3_000_000);
    let body = format!("{{\"input\":\"{large}\",\"model\":\"m\"}}");
    let reply = ok(&format!("{{\"data\":\"{large}\",\"usage\":{{\"prompt_tokens\":3,\"completion_tokens\":0}}}}"));
    let request = post("/v1/embeddings", &body);
    let (answer, (_, seen)) = tokio::join!(stand.ask(&request), vendor.once(&reply));
    assert_eq!(seen.len(), body.len());
    assert!(reply.ends_with(answer.text()));
    let record = stand.record().await;
    assert_eq!(record.requested_model.as_deref(), Some("m"));
    assert_eq!((record.input_tokens, record.output_tokens), (Some(3), Some(0)));
}

#[tokio::test]
async fn http2_by_prior_knowledge_is_served() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let stream = tokio::net::TcpStream::connect(stand.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post("http://gw/openai/v1/chat/completions")
        .header("x-api-key", key(1))
        .header("content-type", "application/json")
        .body(http_body_util::Full::new(bytes::Bytes::from_static(b"{\"model\":\"m\"}")))
        .unwrap();
    let (answer, (head, body)) = tokio::join!(sender.send_request(request), vendor.once(ok("{\"model\":\"n\"}")));
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200);
    let answer = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    assert_eq!(answer, "{\"model\":\"n\"}");
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "host"), Some(vendor.address().to_string().as_str()));
    assert_eq!(body, b"{\"model\":\"m\"}");
    assert_eq!(stand.record().await.requested_model.as_deref(), Some("m"));
    let request = http::Request::get("http://gw/nowhere").body(http_body_util::Full::default()).unwrap();
    let refused = sender.send_request(request).await.unwrap();
    assert_eq!(refused.status(), 404);
    drop(sender);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_of_http2_that_leaves_cancels_the_vendor_too() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let stream = tokio::net::TcpStream::connect(stand.address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let driver = tokio::spawn(connection);
    let request = |path: &str| {
        http::Request::get(format!("http://gw/openai{path}"))
            .header("x-api-key", key(1))
            .body(http_body_util::Empty::<bytes::Bytes>::new())
            .unwrap()
    };
    // One stream is reset while the vendor is silent, the other in mid-answer; the connection stays.
    let waiting = tokio::spawn(sender.send_request(request("/v1/waiting")));
    let mut silent = vendor.accept().await;
    silent.head().await;
    waiting.abort();
    assert_eq!(silent.rest().await, b"");
    assert_eq!(stand.record().await.outcome, Outcome::ClientGone);
    let streaming = tokio::spawn(sender.send_request(request("/v1/streaming")));
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    upstream.send(STREAM).await;
    let answer = streaming.await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    drop(answer);
    assert_eq!(upstream.rest().await, b"");
    assert_eq!(stand.record().await.outcome, Outcome::ClientGone);
    drop(sender);
    driver.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_get_may_carry_a_body() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    for method in ["GET", "DELETE"] {
        let request = get("/v1/search").replace("GET", method);
        let chunked = request.replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        let sized = request.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc");
        for request in [chunked, sized] {
            let (answer, (_, body)) = tokio::join!(stand.ask(&request), vendor.once(ok("{}")));
            assert_eq!((answer.status, body.as_slice()), (200, &b"abc"[..]), "{request}");
        }
    }
}
