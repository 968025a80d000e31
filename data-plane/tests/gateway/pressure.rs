//! What a stream costs when one side is fast and the other does not move: the fast one is made to wait, and what lies
//! between them stays small.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::fixture::*;

/// Streams at once.
const STREAMS: usize = 24;
/// Offered on each.
const OFFERED: usize = 96 << 20;
/// More than the kernel keeps for two hops over loopback, of which one has a narrow end: it may grow a buffer to 32 MiB.
/// Beyond that it would be ours, and the memory would tell.
const KERNEL: usize = 72 << 20;
/// At most held for a stream.
const HELD: u64 = 256 * 1024;
/// What a process of this size gains and loses by itself.
const NOISE: u64 = 8 << 20;
/// Nothing moves any more.
const STILL: Duration = Duration::from_millis(700);

async fn resident(stand: &Stand) -> u64 {
    let mut probe = Client::connect(stand.admin).await;
    probe.send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let text = String::from_utf8(probe.rest().await).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    line.unwrap().parse().unwrap()
}

/// Writes until nobody takes any more. How much was taken.
async fn pour(stream: &mut TcpStream, offered: usize) -> usize {
    let piece = vec![b'x'; 64 * 1024];
    let mut taken = 0;
    while taken < offered {
        match timeout(STILL, stream.write(&piece[..piece.len().min(offered - taken)])).await {
            Ok(written) => taken += written.unwrap(),
            Err(_) => break,
        }
    }
    taken
}

/// A vendor that offers a long answer on every connection. What of it was taken, when nothing moves any more.
async fn answers(vendor: &Vendor) -> Vec<(TcpStream, usize)> {
    let mut pouring = JoinSet::new();
    for _ in 0..STREAMS {
        let mut upstream = vendor.accept_raw().await;
        pouring.spawn(async move {
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                assert!(upstream.read_buf(&mut asked).await.unwrap() > 0);
            }
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
            upstream.write_all(format!("{head}Content-Length: {OFFERED}\r\n\r\n").as_bytes()).await.unwrap();
            let taken = pour(&mut upstream, OFFERED).await;
            (upstream, taken)
        });
    }
    tokio::time::timeout(6 * PATIENCE, pouring.join_all()).await.expect("the vendors to be made to wait")
}

fn check(taken: &[(TcpStream, usize)], (before, after): (u64, u64)) {
    for (_, taken) in taken {
        assert!(*taken < KERNEL, "a vendor is made to wait: {taken} of {OFFERED} were taken");
    }
    let bound = before + STREAMS as u64 * HELD + NOISE;
    assert!(after < bound, "{STREAMS} streams: {before} bytes before, {after} while they stand still, bound {bound}");
}

#[tokio::test]
async fn a_client_that_reads_nothing_makes_its_vendor_wait() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let before = resident(&stand).await;
    let mut clients = Vec::new();
    for _ in 0..STREAMS {
        let mut client = Client::around(narrow(stand.address).await);
        client.send(get("/v1/x")).await;
        clients.push(client);
    }
    let upstreams = answers(&vendor).await;
    check(&upstreams, (before, resident(&stand).await));
    drop(clients);
}

#[tokio::test]
async fn streams_of_http2_that_nobody_reads_make_their_vendors_wait() {
    let vendor = Vendor::start().await;
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let stream = narrow(stand.address).await;
    let (executor, io) = (hyper_util::rt::TokioExecutor::new(), hyper_util::rt::TokioIo::new(stream));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    let driver = tokio::spawn(connection);
    let before = resident(&stand).await;
    let mut answered = JoinSet::new();
    for _ in 0..STREAMS {
        let request = http::Request::get("http://gw/openai/v1/x").header("x-api-key", key(1));
        answered.spawn(sender.send_request(request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap()));
    }
    let upstreams = answers(&vendor).await;
    let unread = within("all heads", answered.join_all()).await;
    assert!(unread.iter().all(|answer| answer.as_ref().is_ok_and(|answer| answer.status() == 200)));
    check(&upstreams, (before, resident(&stand).await));
    drop((unread, sender));
    driver.abort();
}

#[tokio::test]
async fn a_vendor_that_reads_nothing_makes_its_client_wait() {
    let vendor = Vendor::narrow();
    let stand = Stand::start(&Draft::new(&vendor.url())).await;
    let before = resident(&stand).await;
    let mut pouring = JoinSet::new();
    for _ in 0..STREAMS {
        let mut client = TcpStream::connect(stand.address).await.unwrap();
        let head = post("/v1/x", "").replace("Content-Length: 0", &format!("Content-Length: {OFFERED}"));
        client.write_all(head.as_bytes()).await.unwrap();
        pouring.spawn(async move {
            let taken = pour(&mut client, OFFERED).await;
            (client, taken)
        });
    }
    let mut silent = Vec::new();
    for _ in 0..STREAMS {
        silent.push(vendor.accept_raw().await);
    }
    let clients = tokio::time::timeout(6 * PATIENCE, pouring.join_all()).await.expect("the clients to be made to wait");
    check(&clients, (before, resident(&stand).await));
}
