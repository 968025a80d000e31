//! What is said last reaches a client that is slow to take it: the end of a broken answer, and a refusal behind which the
//! connection closes. Who takes nothing at all is left by the deadline.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::task::yield_now;
use tokio::time::timeout;

use super::STUCK;
use super::stand::{Stand, key, runtime};
use crate::listener::close::Close;
use crate::pipeline::account::Outcome;

/// What a client's connection holds: far less than an answer.
const NARROW: usize = 64;
const EVENTS: usize = 400;

fn event(number: usize) -> String {
    format!("data: {{\"number\": {number}}}\n\n")
}

/// A client that asks for a stream and takes nothing of it, while the vendor says so many events and dies.
async fn broken_off(stand: &mut Stand, events: usize) -> DuplexStream {
    let mut client = stand.connect(NARROW);
    let request = format!("GET /one/t0 HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n\r\n", key(1));
    client.write_all(request.as_bytes()).await.unwrap();
    let mut vendor = stand.dialled.recv().await.unwrap().stream;
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        vendor.read_buf(&mut asked).await.unwrap();
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    vendor.write_all(head.as_bytes()).await.unwrap();
    for number in 0..events {
        let event = event(number);
        vendor.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await.unwrap();
    }
    client
}

#[tokio::test]
async fn a_client_that_pauses_hears_all_that_was_said_and_how_it_ended_before_the_cut() {
    let mut stand = Stand::new(runtime(), |_| {});
    let mut client = broken_off(&mut stand, EVENTS).await;
    for _ in 0..100 {
        // The vendor has died; as long as the client takes nothing, nothing may be given up.
        yield_now().await;
    }
    let mut heard = Vec::new();
    timeout(STUCK, client.read_to_end(&mut heard)).await.expect("the cut").unwrap();
    let text = String::from_utf8(heard).unwrap();
    for number in 0..EVENTS {
        assert!(text.contains(&event(number)), "event {number} is lost");
    }
    let last = text.rsplit("data: ").next().unwrap();
    assert!(last.contains("\"upstream_broken\"") && last.ends_with("}\n\n\r\n"), "{last:?}");
    assert!(!text.ends_with("0\r\n\r\n"), "a clean end");
    assert_eq!(stand.records.recv().await.unwrap().outcome, Outcome::UpstreamBroken);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_left_by_its_deadline_whatever_it_has_not_heard() {
    let mut stand = Stand::new(runtime(), |config| config.deadlines.client_idle = Duration::from_millis(50));
    // Few enough to be handed on all at once: the gateway knows that the vendor has died.
    let client = broken_off(&mut stand, 3).await;
    let record = timeout(STUCK, stand.records.recv()).await.expect("the end of the wait").unwrap();
    assert_eq!(record.outcome, Outcome::UpstreamBroken);
    stand.clients.close();
    timeout(STUCK, stand.clients.wait()).await.expect("the end of the connection");
    assert_eq!(stand.plane.metrics.closed_for(Close::ClientIdle), 1);
    drop(client);
}

#[tokio::test]
async fn a_refused_upgrade_with_a_body_that_nobody_reads_is_answered_in_full() {
    for length in [1, 5000] {
        let stand = Stand::new(runtime(), |_| {});
        let mut client = stand.connect(NARROW);
        let request = format!(
            "POST /one/t0 HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\nConnection: upgrade\r\nUpgrade: other\r\n\
             Content-Length: {length}\r\n\r\n",
            key(1)
        );
        client.write_all(request.as_bytes()).await.unwrap();
        for _ in 0..100 {
            yield_now().await;
        }
        let mut heard = Vec::new();
        timeout(STUCK, client.read_to_end(&mut heard)).await.expect("the end").unwrap();
        let text = String::from_utf8(heard).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 405 "), "{text}");
        let length = format!("content-length: {}", body.len());
        assert!(head.lines().any(|line| line == length) && body.contains("upgrade_not_supported"), "{text}");
    }
}
