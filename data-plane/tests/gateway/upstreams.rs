//! Vendors that cannot be reached, do not answer, or answer badly; and whose connections are whose.

use std::time::Duration;

use data_plane::pipeline::account::Outcome;
use proto::config::{Kind, Secret, Timeouts};

use super::fixture::*;

/// The refusal's code, after checking what holds for all of them: a request id, and no word of where the vendor is.
async fn failure(stand: &mut Stand, secret_place: &str) -> (u16, String) {
    let answer = stand.ask(post("/v1/x", "{}")).await;
    let id = answer.header("x-request-id").unwrap().to_owned();
    assert!(answer.text().contains(&id));
    for word in [secret_place, "127.0.0.1", "os error", "refused (", SECRET] {
        assert!(!answer.text().contains(word) && !answer.head.contains(word), "{word} in {}", answer.text());
    }
    let record = stand.record().await;
    assert_eq!((record.outcome, record.admitted), (Outcome::UpstreamFailed, true));
    assert_eq!((record.status, record.upstream_status, record.first_byte_us), (Some(answer.status), None, None));
    let code = answer.json()["error"]["code"].as_str().unwrap().to_owned();
    assert_eq!(record.refusal, Some(code.as_str()));
    (answer.status, code)
}

#[tokio::test]
async fn a_vendor_that_takes_no_connection_is_a_502() {
    let port = Vendor::start().await.address().port();
    let mut stand = Stand::start(&Draft::new(&format!("http://127.0.0.1:{port}"))).await;
    assert_eq!(failure(&mut stand, &port.to_string()).await, (502, "upstream_refused".to_owned()));
}

#[tokio::test]
async fn a_vendor_without_an_address_is_a_502() {
    let mut stand = Stand::start(&Draft::new("https://no-such-vendor.invalid")).await;
    assert_eq!(failure(&mut stand, "no-such-vendor").await, (502, "upstream_unresolvable".to_owned()));
}

#[tokio::test]
async fn what_the_policy_forbids_is_not_dialled() {
    let vendor = Vendor::start().await;
    let port = vendor.address().port();
    let all = ["0.0.0.0/0", "::/0"];
    for (networks, url) in [
        (&[][..], vendor.url()),
        (&["10.0.0.0/8"], format!("https://localhost:{port}")),
        (&all, "http://169.254.169.254".to_owned()),
        (&all, "http://[fe80::1]".to_owned()),
        (&all, format!("http://0.0.0.0:{port}")),
        (&all, format!("http://[::]:{port}")),
        (&all, "http://0xa9fea9fe".to_owned()),
        (&all, "http://[::ffff:169.254.169.254]".to_owned()),
    ] {
        let mut stand = Stand::start(&Draft::new(&url).settings(networks)).await;
        assert_eq!(failure(&mut stand, "169.254").await, (502, "upstream_forbidden".to_owned()), "{url}");
    }
    assert!(vendor.is_alone().await);
}

#[tokio::test]
async fn our_own_listeners_are_no_vendors() {
    let mut stand = Stand::with(None, |_| {}).await;
    for address in [stand.address, stand.admin] {
        stand.runtime.store(Some(Draft::new(&format!("http://{address}")).compile()));
        assert_eq!(failure(&mut stand, "/healthz").await, (502, "upstream_forbidden".to_owned()));
    }
}

#[tokio::test]
async fn a_silent_vendor_is_a_504_by_the_endpoints_own_deadline() {
    let vendor = Vendor::start().await;
    let timeouts = Timeouts { first_byte_ms: 200, ..Timeouts::default() };
    let endpoint = proto::config::Endpoint { timeouts: Some(timeouts), ..provider("/openai", &vendor.url()) };
    let mut stand = Stand::start(&Draft::new(&vendor.url()).put(Kind::Endpoint, PROVIDER, &endpoint)).await;
    let silent = async {
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        assert_eq!(upstream.rest().await, b"");
    };
    let (found, ()) = tokio::join!(failure(&mut stand, "127"), silent);
    assert_eq!(found, (504, "upstream_silent".to_owned()));
}

#[tokio::test]
async fn a_vendor_that_breaks_before_its_head_is_a_502() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    for reply in
        ["", "HTTP/1.1 200 OK\r\nContent-Le", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 101 Switching Protocols\r\n\r\n"]
    {
        let breaks = async {
            let mut upstream = vendor.accept().await;
            upstream.message().await;
            upstream.send(reply).await;
        };
        if reply.contains("101") {
            let (answer, ()) = tokio::join!(stand.ask(post("/v1/x", "{}")), breaks);
            assert_eq!(answer.status, 502, "{reply:?}");
            stand.record().await;
        } else {
            let (found, ()) = tokio::join!(failure(&mut stand, "SSH"), breaks);
            assert_eq!(found, (502, "upstream_broken".to_owned()), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_vendor_closed_is_not_used() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    for _ in 0..20 {
        client.send(post("/v1/x", "{}")).await;
        let mut upstream = vendor.accept().await;
        upstream.message().await;
        upstream.send(ok("{}")).await;
        assert_eq!(client.answer().await.status, 200);
        // Its farewell is on the way before the next request is.
        drop(upstream);
    }
}

#[tokio::test]
async fn a_connection_is_never_shared_between_providers_or_credentials() {
    let vendor = Vendor::start().await;
    let other = provider("/other", &vendor.url());
    let draft = || {
        Draft::new(&vendor.url()).put(Kind::Endpoint, 9, &other).put(
            Kind::ApiKey,
            KEY,
            &api_key(&key(1), &[PROVIDER, PROXY, 9]),
        )
    };
    let stand = Stand::start(&draft()).await;
    let mut client = stand.client().await;
    let mut first = None;
    for path in ["/openai", "/team/proxy", "/openai"] {
        client.send(get("/v1").replace("/openai", path)).await;
        if first.is_none() {
            first = Some(vendor.accept().await);
        }
        let upstream = first.as_mut().unwrap();
        upstream.head().await;
        upstream.send(ok("{}")).await;
        assert_eq!(client.answer().await.status, 200);
    }
    client.send(get("/v1").replace("/openai", "/other")).await;
    let mut second = vendor.accept().await;
    second.head().await;
    second.send(ok("{}")).await;
    assert_eq!(client.answer().await.status, 200);
    let renewed = Secret { value: b"sk-renewed".as_slice().into(), version: 2 };
    stand.runtime.store(Some(draft().put(Kind::Secret, VENDOR_SECRET, &renewed).compile()));
    client.send(get("/v1")).await;
    let mut third = vendor.accept().await;
    assert_eq!(header(&third.head().await, "authorization"), Some("Bearer sk-renewed"));
    third.send(ok("{}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn two_lengths_in_an_answer_end_the_connection_behind_it() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let mut client = stand.client().await;
    client.send(get("/v1")).await;
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        .await;
    let answer = client.answer().await;
    assert_eq!((answer.header("content-length"), answer.text()), (None, "hello"));
    client.send(get("/v1")).await;
    let mut next = vendor.accept().await;
    next.head().await;
    next.send(ok("{}")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn a_redirect_is_passed_on_and_not_followed() {
    let vendor = Vendor::start().await;
    let elsewhere = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let reply = answer("302 Found", &format!("Location: {}/v1/y?z\r\n", vendor.url()), "");
    let (answer, _) = tokio::join!(stand.ask(get("/v1/x")), vendor.once(&reply));
    assert_eq!((answer.status, answer.header("location")), (302, Some("https://gw.example/openai/v1/y?z")));
    let away = self::answer("307 Temporary Redirect", &format!("Location: {}\r\n", elsewhere.url()), "");
    let (answer, _) = tokio::join!(stand.ask(get("/v1/x")), vendor.once(&away));
    assert_eq!((answer.status, answer.header("location")), (307, Some(elsewhere.url().as_str())));
    assert!(elsewhere.is_alone().await);
}

#[tokio::test]
async fn a_client_that_holds_its_own_request_up_is_not_the_vendors_silence() {
    let vendor = Vendor::start().await;
    let timeouts = Timeouts { first_byte_ms: 100, ..Timeouts::default() };
    let endpoint = proto::config::Endpoint { timeouts: Some(timeouts), ..provider("/openai", &vendor.url()) };
    let draft = Draft::new(&vendor.url()).put(Kind::Endpoint, PROVIDER, &endpoint);
    let mut stand = Stand::with(Some(&draft), |config| config.deadlines.body_idle = Duration::from_millis(700)).await;
    let mut client = stand.client().await;
    let head = format!("POST /openai/v1/x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n", key(1));
    client.send(format!("{head}Content-Length: 10\r\n\r\n12345")).await;
    let mut upstream = vendor.accept().await;
    upstream.until("12345").await;
    let answer = client.answer().await;
    let code = answer.json()["error"]["code"].as_str().map(str::to_owned);
    assert_eq!(code.as_deref(), Some("body_stalled"), "{}", answer.text());
    assert_eq!(stand.record().await.refusal, Some("body_stalled"));
    // With all of it there, the silence is the vendor's.
    let mut client = stand.client().await;
    client.send(format!("{head}Content-Length: 5\r\n\r\n12345")).await;
    let mut upstream = vendor.accept().await;
    upstream.until("12345").await;
    assert_eq!(client.answer().await.json()["error"]["code"], "upstream_silent");
}
