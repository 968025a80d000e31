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
    // The idle connection is told at once, which also shows that stopping has begun.
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
