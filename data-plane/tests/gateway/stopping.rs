//! How a node stops: what is open finishes, what does not finish is told so, nothing is left behind.

use std::time::Duration;

use data_plane::pipeline::account::Outcome;

use super::fixture::*;

#[tokio::test]
async fn what_is_open_finishes_and_nothing_new_comes_in() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let (address, admin) = (stand.address, stand.admin);
    let mut idle = Client::connect(address).await;
    let mut client = Client::connect(address).await;
    client.send(post("/v1/x", "{}")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.head().await;
    let stopping = tokio::spawn(async move { stand.stop().await });
    // The idle connection ends soon, which also shows that stopping has begun.
    assert_eq!(idle.rest().await, b"");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let mut probe = Client::connect(admin).await;
    probe.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(probe.answer().await.status, 503);
    upstream.send(chunk("data: [DONE]\n\n")).await;
    upstream.send("0\r\n\r\n").await;
    client.until("data: [DONE]\n\n\r\n0\r\n\r\n").await;
    assert_eq!(client.rest().await, b"");
    within("shutdown", stopping).await.unwrap();
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_told_so_and_accounted_for() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand = Stand::with(Some(&draft), |config| config.deadlines.drain = Duration::from_millis(200)).await;
    let mut streaming = stand.client().await;
    streaming.send(post("/v1/x", "{}")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    streaming.head().await;
    let mut waiting = stand.client().await;
    waiting.send(post("/v1/x", "{}")).await;
    let mut silent = vendor.accept().await;
    silent.message().await;
    let mut mute = stand.client().await;
    mute.send("G").await;

    within("shutdown", stand.stop()).await;
    let rest = String::from_utf8(streaming.rest().await).unwrap();
    assert!(rest.contains("\"code\":\"draining\"") && !rest.contains("\r\n0\r\n"), "{rest:?}");
    assert_eq!(waiting.answer().await.status, 503);
    assert_eq!(mute.rest().await, b"");
    for _ in 0..2 {
        assert_eq!(stand.record().await.outcome, Outcome::Drained);
    }
    stand.no_more_records();
}

/// Stopping has begun.
async fn until_stopping(admin: std::net::SocketAddr) {
    within("stopping to begin", async {
        loop {
            let mut probe = Client::connect(admin).await;
            probe.send("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").await;
            let answer = probe.answer().await;
            if answer.status == 503 {
                return assert_eq!(answer.text(), "stopping\n");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_on_its_way_is_answered_and_told_that_it_is_the_last() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let (mut used, mut fresh, admin) = (stand.client().await, stand.client().await, stand.admin);
    used.send(get("/v1/x")).await;
    vendor.once(answer("200 OK", "Connection: close\r\n", "{}")).await;
    assert_eq!(used.answer().await.header("connection"), None);
    let stopping = tokio::spawn(async move {
        stand.stop().await;
        stand
    });
    until_stopping(admin).await;
    for client in [&mut used, &mut fresh] {
        client.send(get("/v1/x")).await;
        vendor.once(answer("200 OK", "Connection: close\r\n", "{}")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert_eq!(client.rest().await, b"");
    }
    let mut stand = within("shutdown", stopping).await.unwrap();
    for _ in 0..3 {
        assert_eq!(stand.record().await.outcome, Outcome::Answered);
    }
    stand.no_more_records();
}

#[tokio::test]
async fn a_vendor_that_never_pauses_does_not_keep_the_node_from_ending() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand = Stand::with(Some(&draft), |config| config.deadlines.drain = Duration::from_millis(100)).await;
    // A buffer of many megabytes in the kernel would put the end further away than a node waits.
    let mut client = Client::around(narrow(stand.address).await);
    client.send(post("/v1/x", "{}")).await;
    let mut upstream = vendor.accept().await;
    upstream.message().await;
    upstream.send(STREAM).await;
    client.head().await;
    let piece = chunk(&format!("data: {}\n\n", "x".repeat(16_000)));
    let talking = tokio::spawn(async move { while upstream.try_send(&piece).await {} });
    client.until("data: xxx").await;
    let (rest, ()) = tokio::join!(client.rest(), stand.stop());
    let rest = String::from_utf8(rest).unwrap();
    let end = &rest[rest.len().saturating_sub(2000)..];
    assert!(end.contains("\"code\":\"draining\"") && !end.ends_with("0\r\n\r\n"), "{end:?}");
    assert_eq!(stand.record().await.outcome, Outcome::Drained);
    within("the vendor to be left", talking).await.unwrap();
}

#[tokio::test]
async fn streams_of_http2_are_told_too() {
    let vendor = Vendor::start().await;
    let draft = Draft::new(&vendor.url());
    let mut stand = Stand::with(Some(&draft), |config| config.deadlines.drain = Duration::from_millis(200)).await;
    let stream = tokio::net::TcpStream::connect(stand.address).await.unwrap();
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = || {
        let request = http::Request::get("http://gw/openai/v1/x").header("x-api-key", key(1));
        request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap()
    };
    let streaming = tokio::spawn(sender.send_request(request()));
    let mut upstream = vendor.accept().await;
    upstream.head().await;
    upstream.send(STREAM).await;
    let mut streaming = streaming.await.unwrap().unwrap().into_body();
    upstream.send(chunk("data: {}\n\n")).await;
    let waiting = tokio::spawn(sender.send_request(request()));
    let mut silent = vendor.accept().await;
    silent.head().await;
    within("shutdown", stand.stop()).await;
    let mut told = Vec::new();
    let end = loop {
        match http_body_util::BodyExt::frame(&mut streaming).await {
            Some(Ok(frame)) => told.extend_from_slice(&frame.into_data().unwrap()),
            end => break end,
        }
    };
    let told = String::from_utf8(told).unwrap();
    assert!(told.starts_with("data: {}\n\ndata: ") && told.contains("\"code\":\"draining\""), "{told:?}");
    assert!(end.is_some(), "never a clean end");
    assert_eq!(waiting.await.unwrap().unwrap().status(), 503);
    for _ in 0..2 {
        assert_eq!(stand.record().await.outcome, Outcome::Drained);
    }
    stand.no_more_records();
    drop(sender);
    let _ = within("the connection to end", driver).await.unwrap();
}
