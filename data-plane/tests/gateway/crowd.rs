//! Many clients at once over few connections: nobody sees another's bytes, and every request is accounted for.

use std::collections::BTreeMap;

use data_plane::pipeline::account::Outcome;
use tokio::task::JoinSet;

use super::fixture::*;

const CLIENTS: usize = 24;
const REQUESTS: usize = 25;

/// A vendor that answers every request with its own path, in a way that depends on it.
async fn echo(vendor: Vendor) {
    let mut connections = JoinSet::new();
    loop {
        let mut connection = vendor.accept_or_wait().await;
        connections.spawn(async move {
            while let Some((head, body)) = connection.try_message().await {
                let path = head.split(' ').nth(1).unwrap().to_owned();
                let number: usize = path.rsplit('/').next().unwrap().parse().unwrap();
                assert_eq!(body, path.as_bytes(), "the request is whole");
                let text = format!("{path} ").repeat(1 + number % 500);
                let sent = match number % 4 {
                    0 => connection.try_send(ok(&text)).await,
                    1 => {
                        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                        let (first, second) = text.split_at(text.len() / 2);
                        connection.try_send(head).await
                            && connection.try_send(chunk(first)).await
                            && connection.try_send(format!("{}0\r\n\r\n", chunk(second))).await
                    }
                    2 => {
                        connection.try_send(answer("200 OK", "Connection: close\r\n", &text)).await;
                        false
                    }
                    _ => connection.try_send(answer("404 Not Found", "", &text)).await,
                };
                if !sent {
                    break;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nobody_sees_anothers_bytes_and_every_request_is_accounted_for() {
    let vendor = Vendor::start().await;
    let mut stand = Stand::start(&Draft::new(&vendor.url())).await;
    let vendor = tokio::spawn(echo(vendor));
    let address = stand.address;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(async move {
            let mut connection = Client::connect(address).await;
            let mut left = 0;
            for request in 0..REQUESTS {
                let number = client * REQUESTS + request;
                let path = format!("/v1/{client}/{number}");
                connection.send(post(&path, &path)).await;
                if number.is_multiple_of(7) {
                    // Leaves in the middle; the connection at the vendor must not be used again.
                    connection = Client::connect(address).await;
                    left += 1;
                    continue;
                }
                let answer = connection.answer().await;
                assert_eq!(answer.status, if number % 4 == 3 { 404 } else { 200 }, "{path}: {}", answer.text());
                assert_eq!(answer.text(), format!("{path} ").repeat(1 + number % 500));
            }
            left
        });
    }
    let left: usize = within("all clients", clients.join_all()).await.into_iter().sum();
    assert!(left > 0);
    within("stopping", stand.stop()).await;
    vendor.abort();
    let mut outcomes = BTreeMap::new();
    let mut paths = BTreeMap::new();
    while let Some(record) = stand.taken_record() {
        *outcomes.entry(record.outcome.label()).or_insert(0) += 1;
        *paths.entry(record.path).or_insert(0) += 1;
    }
    assert!(paths.values().all(|records| *records == 1), "one record each: {paths:?}");
    // Who leaves before the gateway has read the head has asked for nothing.
    let total: usize = outcomes.values().sum();
    assert!((CLIENTS * REQUESTS - left..=CLIENTS * REQUESTS).contains(&total), "{outcomes:?}");
    let failed = outcomes.get(Outcome::UpstreamFailed.label()).copied().unwrap_or_default();
    assert_eq!(failed, 0, "{outcomes:?}");
}
