//! How a node stands up, as the processes that operators run: what it says of itself, and how it stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tests::{
    Answer, Client, Gate, Upstream, Vendor,
    client::{Call, Ending},
    eventually, within,
};
use tokio::{sync::Mutex, task::JoinSet};

use super::processes::{Deployment, a_provider, answers};

/// Streams that are open when the node is told to stop.
const STREAMS: usize = 60;

async fn admin(deployment: &Deployment, path: &str) -> (u16, String) {
    let client = Client::new(&deployment.admin.to_string());
    let reply = client.send(&Call::get(path)).await;
    (reply.status(), reply.text())
}

fn chat(key: &str, streamed: bool) -> Call {
    Call::post("/openai/v1/chat/completions", &Vendor::OpenAi.chat_body(streamed)).key(key)
}

#[tokio::test]
async fn a_node_told_to_stop_finishes_what_it_can_ends_the_rest_with_an_error_and_loses_no_record() {
    let deployment = Deployment::new(None);
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let _control_plane = deployment.control_plane().await;
    let rest = deployment.first_owner().await;
    let mut node = deployment.node_with(&[("LOCKGATE_DEADLINES__DRAIN", "2s")]);
    node.ready(deployment.admin, "/readyz").await;
    let key = a_provider(&rest, &upstream).await;
    answers(deployment.gateway, &key).await;
    let before = 1;
    eventually("the record of the first answer", async || {
        let listed = rest.get("/requests?limit=200").await.expect(200);
        let rows = listed["data"].as_array().map_or(0, Vec::len);
        if rows == before { Ok(()) } else { Err(rows) }
    })
    .await;

    let said = eventually("the node to tell of its link", async || {
        let (status, said) = admin(&deployment, "/readyz").await;
        if status == 200 && said.contains("connected") { Ok(said) } else { Err(said) }
    })
    .await;
    assert!(said.starts_with("ready, revision ") && said.contains("\nconfiguration applied "), "{said}");
    let (_, page) = admin(&deployment, "/metrics").await;
    for figure in ["lockgate_ready 1", "lockgate_link_connected 1", "lockgate_configuration_persisted 1"] {
        assert!(page.lines().any(|line| line == figure), "{figure}: {page}");
    }
    for figure in ["lockgate_configuration_age_seconds ", "lockgate_usage_records_total "] {
        assert!(page.lines().any(|line| line.starts_with(figure)), "{figure}: {page}");
    }
    for secret in [key.as_str(), upstream.credential(), "lge_"] {
        assert!(!page.contains(secret) && !said.contains(secret));
    }

    // Half of them end while the node drains, half never would.
    let gate = Gate::new();
    let client = Client::new(&deployment.gateway.to_string());
    let mut open = Vec::new();
    for number in 0..STREAMS {
        let answer = Answer::stream().piece("data: 1\n\n");
        upstream.next(if number % 2 == 0 { answer.wait(&gate).piece("data: 2\n\n") } else { answer.hang() });
        let mut exchange = client.begin(&chat(&key, true)).await.unwrap();
        exchange.until("data: 1\n\n").await;
        open.push(exchange);
    }
    node.signal("TERM");
    within(Duration::from_secs(10), "new connections to be refused", async || {
        match tokio::net::TcpStream::connect(deployment.gateway).await {
            Ok(_) => Err("connected"),
            Err(_) => Ok(()),
        }
    })
    .await;
    let (status, said) = admin(&deployment, "/readyz").await;
    assert!(status == 503 && said.starts_with("stopping\n"), "{said}");
    assert_eq!(admin(&deployment, "/healthz").await.0, 200);
    gate.open();
    for (number, exchange) in open.iter_mut().enumerate() {
        let reply = exchange.whole().await;
        if number % 2 == 0 {
            assert_eq!((reply.text().as_str(), reply.ending), ("data: 1\n\ndata: 2\n\n", Ending::Clean));
        } else {
            assert!(reply.text().contains("\"code\":\"draining\""), "{}", reply.text());
            assert_eq!(reply.ending, Ending::Broken, "never a clean end");
        }
    }
    assert_eq!(node.ended().await.code(), Some(0), "{}", node.output());
    let rows = eventually("a record of each", async || {
        let listed = rest.get("/requests?limit=200").await.expect(200);
        let rows = listed["data"].as_array().cloned().unwrap_or_default();
        if rows.len() >= before + STREAMS { Ok(rows) } else { Err(rows.len()) }
    })
    .await;
    let drained = rows.iter().filter(|row| row["outcome"] == "drained").count();
    assert_eq!((rows.len(), drained), (before + STREAMS, STREAMS / 2), "one of each, and no more");
}

#[tokio::test]
async fn a_second_signal_ends_a_node_at_once() {
    let deployment = Deployment::new(None);
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let _control_plane = deployment.control_plane().await;
    let rest = deployment.first_owner().await;
    let mut node = deployment.node();
    node.ready(deployment.admin, "/readyz").await;
    let key = a_provider(&rest, &upstream).await;
    answers(deployment.gateway, &key).await;
    upstream.next(Answer::stream().piece("data: 1\n\n").hang());
    let mut exchange = Client::new(&deployment.gateway.to_string()).begin(&chat(&key, true)).await.unwrap();
    exchange.until("data: 1\n\n").await;
    node.signal("TERM");
    eventually("it to stop", async || {
        let (status, said) = admin(&deployment, "/readyz").await;
        if status == 503 { Ok(()) } else { Err(said) }
    })
    .await;
    node.signal("INT");
    assert_eq!(node.ended().await.code(), Some(130), "{}", node.output());
}

#[tokio::test]
async fn a_rolling_restart_under_load_fails_no_request() {
    let deployment = Deployment::new(None);
    let other = deployment.beside();
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let _control_plane = deployment.control_plane().await;
    let rest = deployment.first_owner().await;
    let mut nodes = [deployment.node(), other.node_named("node-2", &[])];
    let key = {
        nodes[0].ready(deployment.admin, "/readyz").await;
        a_provider(&rest, &upstream).await
    };
    for place in [&deployment, &other] {
        answers(place.gateway, &key).await;
    }
    // Each on a new connection: whoever is refused there has sent nothing, and goes to the other node. To a node that
    // was started they return when it says that it is ready, as a load balancer would.
    let ready = Arc::new([AtomicBool::new(true), AtomicBool::new(true)]);
    let (stop, served) = (tokio_util::sync::CancellationToken::new(), Arc::new(Mutex::new([0usize; 2])));
    let mut clients = JoinSet::new();
    for client in 0..6 {
        let (stop, served, ready, key) = (stop.clone(), Arc::clone(&served), Arc::clone(&ready), key.clone());
        let addresses = [deployment.gateway, other.gateway];
        clients.spawn(async move {
            let mut turn = client;
            while !stop.is_cancelled() {
                turn += 1;
                if !ready[turn % 2].load(Ordering::SeqCst) {
                    tokio::task::yield_now().await;
                    continue;
                }
                let Ok(mut exchange) = Client::new(&addresses[turn % 2].to_string()).begin(&chat(&key, false)).await
                else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let reply = exchange.whole().await;
                assert_eq!(reply.status(), 200, "{}", reply.text());
                assert_eq!(reply.ending, Ending::Clean);
                served.lock().await[turn % 2] += 1;
            }
        });
    }
    let [first, second] = nodes;
    let mut running = Vec::new();
    for (index, place, name, node) in [(0, &deployment, "node-1", first), (1, &other, "node-2", second)] {
        assert_eq!(node.terminate().await.code(), Some(0));
        ready[index].store(false, Ordering::SeqCst);
        let mut again = place.node_named(name, &[]);
        again.ready(place.admin, "/readyz").await;
        ready[index].store(true, Ordering::SeqCst);
        let before = *served.lock().await;
        eventually("both to serve", async || {
            let now = *served.lock().await;
            if now.iter().zip(before).all(|(now, before)| *now > before + 20) { Ok(()) } else { Err(now) }
        })
        .await;
        running.push(again);
    }
    stop.cancel();
    while let Some(client) = clients.join_next().await {
        client.expect("no request may fail");
    }
}
