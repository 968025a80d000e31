//! Vendors' heads that are odd, too much, too early or wrong: what passes, what is refused, and whose connection is
//! used again.

use proto::config::{Endpoint, Kind, RouteTarget, endpoint};

use super::fixture::*;

/// A vendor that closes, or is left, behind this head. What the caller is told.
async fn broken(head: &str) -> (u16, String) {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let says = async {
        let mut upstream = vendor.accept().await;
        upstream.head().await;
        // It may be hung up on before it has said everything.
        upstream.try_send(head).await;
        upstream.rest().await;
    };
    let (answer, ()) = tokio::join!(stand.ask(get("/v1")), says);
    let code = answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer.header("x-lockgate-attempts"), Some(&*format!("openai;{code}")));
    (answer.status, code)
}

/// One that says this, then a well-behaved one if the connection is not used again.
async fn passes(request: String, reply: &str, used_again: bool) -> Answer {
    let vendor = Vendor::start().await;
    let stand = Stand::with(Some(&Draft::new(&vendor.url())), |config| config.gateway.workers = 1).await;
    let mut client = stand.client().await;
    client.send(&request).await;
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    upstream.send(reply).await;
    let answer = if request.starts_with("HEAD") {
        let head = client.head().await;
        Answer { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: Vec::new() }
    } else {
        client.answer().await
    };
    client.send(get("/v1/next")).await;
    let mut next = if used_again { upstream } else { vendor.accept().await };
    assert!(next.head().await.starts_with("GET /v1/next "));
    next.send(ok("{\"next\":true}")).await;
    assert_eq!(client.answer().await.text(), "{\"next\":true}", "never what was left of the one before");
    answer
}

#[tokio::test]
async fn a_head_without_end_or_bounds_is_a_502() {
    let many = "X-A: 1\r\n".repeat(101);
    let long = "x".repeat(300 * 1024);
    let endless = "X-A: 1\r\n".repeat(40_000);
    for head in [
        format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\nX-Long: {long}\r\nContent-Length: 0\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{endless}"),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2_000) + "HTTP/1.1 99 No\r\n\r\n",
    ] {
        assert_eq!(broken(&head).await, (502, "upstream_broken".to_owned()), "{}", &head[..60.min(head.len())]);
    }
}

#[tokio::test]
async fn a_head_with_broken_framing_is_a_502() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
    ] {
        assert_eq!(broken(head).await, (502, "upstream_broken".to_owned()), "{head:?}");
    }
}

#[tokio::test]
async fn interim_heads_are_not_the_answer() {
    let reply = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n{}",
        ok("{\"a\":1}")
    );
    let answer = passes(get("/v1"), &reply, true).await;
    assert_eq!((answer.status, answer.text(), answer.header("link")), (200, "{\"a\":1}", None));
}

#[tokio::test]
async fn an_answer_to_head_has_a_length_and_no_body() {
    let head = get("/v1").replacen("GET", "HEAD", 1);
    let answer = passes(head, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", true).await;
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("1234")));
}

#[tokio::test]
async fn bytes_behind_an_answer_that_has_none_are_never_the_next_answer() {
    let stray = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    for (status, length) in [("204 No Content", ""), ("304 Not Modified", "Content-Length: 42\r\n")] {
        let answer = passes(get("/v1"), &format!("HTTP/1.1 {status}\r\n{length}\r\n{stray}"), false).await;
        assert_eq!(answer.status.to_string(), status[..3]);
        assert_eq!(answer.text(), "");
    }
    let answer = passes(get("/v1"), &format!("{}{stray}", ok("{}")), false).await;
    assert_eq!(answer.text(), "{}");
    let head = get("/v1").replacen("GET", "HEAD", 1);
    passes(head, &format!("HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n{stray}"), false).await;
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_is_sent_is_passed_on_at_once() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    let head = format!("POST /openai/v1/x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n", key(1));
    client.send(format!("{head}Content-Length: 10\r\n\r\n12345")).await;
    let mut upstream = vendor.accept().await;
    upstream.until("12345").await;
    upstream.send(answer("413 Payload Too Large", "", "{\"early\":true}")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.text()), (413, "{\"early\":true}"));
    // The half-sent connection is not lent to anyone.
    let (second, _) = tokio::join!(stand.ask(get("/v1/next")), vendor.once(ok("{}")));
    assert_eq!(second.status, 200);
}

/// A second provider `/second`, and the proxy over both, the first one first.
fn two(first: &Vendor, second: &Vendor) -> Draft {
    let target = |id, priority| RouteTarget { provider_id: bytes(id), weight: 1, priority, aliases: vec![] };
    let route =
        proto::config::Route { targets: vec![target(PROVIDER, 0), target(9, 1)], ..proto::config::Route::default() };
    let proxy = Endpoint { target: Some(endpoint::Target::Route(route)), ..proxy("/team/proxy") };
    Draft::new(&first.url()).put(Kind::Endpoint, 9, &provider("/second", &second.url())).put(
        Kind::Endpoint,
        PROXY,
        &proxy,
    )
}

#[tokio::test]
async fn a_body_that_is_half_sent_begins_anew_elsewhere_and_goes_on() {
    let (first, second) = (Vendor::start().await, Vendor::start().await);
    let stand = Stand::start(&two(&first, &second)).await;
    let mut client = stand.client().await;
    let head = format!("POST /team/proxy/v1/x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n", key(1));
    for (framing, pieces) in [
        ("Content-Length: 10\r\n\r\n", ["12345", "67890"]),
        ("Transfer-Encoding: chunked\r\n\r\n", ["5\r\n12345\r\n", "5\r\n67890\r\n0\r\n\r\n"]),
    ] {
        client.send(format!("{head}{framing}{}", pieces[0])).await;
        let mut failing = first.accept().await;
        failing.until("12345").await;
        failing.send(answer("503 Service Unavailable", "", "{}")).await;
        // The rest is still to come, and the first vendor is left alone with its half.
        let mut upstream = second.accept().await;
        let sent = upstream.until("12345").await;
        assert!(sent.starts_with("POST /v1/x HTTP/1.1\r\n"), "{sent}");
        assert!(!failing.rest().await.windows(5).any(|bytes| bytes == b"67890"));
        client.send(pieces[1]).await;
        upstream.until("67890").await;
        if framing.starts_with("Transfer") {
            upstream.until("0\r\n\r\n").await;
        }
        upstream.send(answer("200 OK", "Connection: close\r\n", "{}")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("x-lockgate-attempts")), (200, Some("openai;503, second;200")));
    }
}

#[tokio::test]
async fn the_clients_own_failure_is_not_tried_elsewhere() {
    let (first, second) = (Vendor::start().await, Vendor::start().await);
    let stand = Stand::with(Some(&two(&first, &second)), |config| config.limits.body_bytes = 8).await;
    let mut client = stand.client().await;
    let head = format!("POST /team/proxy/v1/x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n", key(1));
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n")).await;
    let mut upstream = first.accept().await;
    upstream.until("12345").await;
    client.send("5\r\n67890\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("x-lockgate-attempts")), (413, Some("openai;body_too_large")));
    assert!(second.is_alone().await);
}

#[tokio::test]
async fn the_control_plane_is_no_vendor_whatever_its_name() {
    let (vendor, other) = (Vendor::start().await, Vendor::start().await);
    let link = format!("localhost:{}", vendor.address().port());
    let stand = Stand::with(Some(&Draft::new(&vendor.url())), |config| config.link.address = link).await;
    let answer = stand.ask(get("/v1")).await;
    assert_eq!(answer.json()["error"]["code"], "upstream_forbidden");
    assert!(vendor.is_alone().await);
    stand.runtime.store(Some(Draft::new(&other.url()).compile()));
    let (answer, _) = tokio::join!(stand.ask(get("/v1")), other.once(ok("{}")));
    assert_eq!(answer.status, 200);
}
