//! What survives what: planes that stop, start and find their surroundings changed.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{Answer, Gate, Rest, Stack, Upstream, Vendor, client::Call, eventually, postgres::Cluster, within};

#[tokio::test]
async fn a_node_restarted_with_the_control_plane_dead_serves_what_it_had() {
    for mut stack in Stack::on_both_engines().await {
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let provider = stack.provider("openai", &upstream).await;
        let proxy = stack.proxy("app", &provider).await;
        let key = stack.key("ci", &[&provider, &proxy]).await;
        let revoked = stack.key("gone", &[&provider]).await;
        stack.rest().post(&format!("/api-keys/{}/revoke", revoked.id), &json!({})).await.expect(200);
        stack.settle().await;

        stack.stop_control_plane().await;
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
        stack.stop_node(0).await;
        stack.start_node(0).await;
        for endpoint in [&provider, &proxy] {
            let reply = stack.send(&endpoint.chat(true).key(&key.secret)).await;
            assert_eq!(reply.status(), 200, "{}", reply.text());
        }
        assert_eq!(stack.send(&provider.chat(false).key(&revoked.secret)).await.status(), 401, "revoked stays revoked");

        // The control plane comes back, and the node follows it again by itself.
        stack.start_control_plane().await;
        stack.settle().await;
        stack.rest().post(&format!("/api-keys/{}/revoke", key.id), &json!({})).await.expect(200);
        stack.settle().await;
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 401);
        stack.shutdown().await;
    }
}

/// What the first connection is told that anyone takes at this address: tried over and over, from before someone listens.
fn first_answer(address: SocketAddr, request: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        let Ok(mut stream) = TcpStream::connect(address) else { continue };
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        return answer;
    }
    panic!("nobody listens at {address}");
}

#[tokio::test]
async fn the_first_connection_that_a_restarted_node_accepts_is_served_with_the_control_plane_away() {
    let mut stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("ci", &[&provider]).await;
    let address = stack.client().address();
    let request = format!(
        "GET /openai/v1/models HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {}\r\nConnection: close\r\n\r\n",
        key.secret
    );
    stack.stop_control_plane().await;
    for _ in 0..5 {
        stack.stop_node(0).await;
        let request = request.clone();
        let first = std::thread::spawn(move || first_answer(address, &request));
        stack.start_node(0).await;
        let told = tokio::task::spawn_blocking(move || first.join()).await.unwrap().unwrap();
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    }
    stack.shutdown().await;
}

#[tokio::test]
async fn a_node_that_never_had_a_configuration_is_not_ready_and_opens_nothing() {
    let mut stack = Stack::without_nodes(None, Vec::new()).await;
    stack.add_node("first", &[]).await;
    stack.stop_node(0).await;
    std::fs::remove_dir_all(stack.node_folder(0)).unwrap();
    stack.stop_control_plane().await;
    stack.start_node(0).await;
    let reply = stack.send(&Call::get("/openai/v1/models").key("lgk_any")).await;
    assert_eq!(reply.status(), 503, "{}", reply.text());
    assert!(reply.text().contains("not_ready") || reply.json()["error"]["status"] == "UNAVAILABLE", "{}", reply.text());
    stack.start_control_plane().await;
    eventually("the node to be ready", async || {
        let reply = stack.send(&Call::get("/openai/v1/models")).await;
        if reply.status() == 404 { Ok(()) } else { Err(reply.status()) }
    })
    .await;
    stack.shutdown().await;
}

#[tokio::test]
async fn a_damaged_copy_on_a_nodes_disk_is_never_served() {
    let mut stack = Stack::sqlite().await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("ci", &[&provider]).await;
    stack.stop_control_plane().await;
    stack.stop_node(0).await;
    let damage = |folder: &std::path::Path, flips: fn(usize, usize) -> bool| {
        for path in files(folder) {
            let mut bytes = std::fs::read(&path).unwrap();
            let length = bytes.len();
            bytes.iter_mut().enumerate().filter(|(at, _)| flips(*at, length)).for_each(|(_, byte)| *byte ^= 1);
            std::fs::write(&path, bytes).unwrap();
        }
    };
    // One bit at the end of each file: what was written last is lost, and no more than that.
    damage(&stack.node_folder(0), |at, length| at + 1 == length);
    stack.start_node(0).await;
    assert_ne!(stack.send(&provider.chat(false)).await.status(), 200, "damaged never means open");
    stack.stop_node(0).await;
    // All of each file.
    damage(&stack.node_folder(0), |_, _| true);
    stack.start_node(0).await;
    let status = stack.send(&provider.chat(false).key(&key.secret)).await.status();
    assert_eq!(status, 503, "nothing to serve from is not ready: neither open nor a 401");
    stack.start_control_plane().await;
    stack.settle().await;
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200, "one reset mends it");
    stack.shutdown().await;
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(self::files(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test]
async fn the_database_away_is_a_503_and_the_data_plane_does_not_notice() {
    let cluster = Cluster::start();
    let stack = Stack::start(Some(cluster.database()), Vec::new()).await;
    let upstream = Upstream::start(Vendor::OpenAi).await;
    let provider = stack.provider("openai", &upstream).await;
    let key = stack.key("ci", &[&provider]).await;
    let gate = Gate::new();
    upstream.next(Answer::stream().piece("data: 1\n\n").wait(&gate).piece("data: 2\n\n"));
    let mut stream = stack.client().begin(&provider.chat(true).key(&key.secret)).await.unwrap();
    stream.until("data: 1\n\n").await;

    cluster.pause();
    // With a token, without one, and with a wrong one: nobody can know, and nobody is told 401 for it.
    let wrong =
        Rest::new(&format!("http://{}", stack.api()), "lgt_000000000000_00000000000000000000000000000000000000");
    for _ in 0..2 {
        let told = stack.rest().get("/llm-providers").await;
        assert_eq!(told.check(503).code(), "unavailable");
        assert!(told.header("retry-after").is_some());
        let written = stack.rest().post("/api-keys", &json!({"name": "lost", "endpoints": ["openai"]})).await;
        written.check(503);
        assert!(!written.body.to_string().contains("postgres"), "{:#}", written.body);
    }
    assert_ne!(wrong.get("/llm-providers").await.status, 200);
    for _ in 0..5 {
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
    }
    gate.open();
    assert_eq!(stream.whole().await.text(), "data: 1\n\ndata: 2\n\n");

    cluster.resume();
    within(Duration::from_secs(30), "the REST API to come back", async || {
        let told = stack.rest().get("/llm-providers").await;
        if told.status == 200 { Ok(()) } else { Err(told.body) }
    })
    .await;
    let keys = stack.rest().get("/api-keys").await.expect(200);
    assert!(!keys.to_string().contains("lost"), "what was answered 503 is not there: {keys:#}");
    // What was used meanwhile is in the ledger in the end: six answers.
    stack.usage_rows(6).await;
    stack.rest().post(&format!("/api-keys/{}/revoke", key.id), &json!({})).await.expect(200);
    stack.settle().await;
    assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 401);
    stack.shutdown().await;
}

#[tokio::test]
async fn a_wrong_master_key_refuses_to_start_and_says_which_it_wants() {
    for mut stack in Stack::on_both_engines().await {
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let provider = stack.provider("openai", &upstream).await;
        let key = stack.key("ci", &[&provider]).await;
        stack.stop_control_plane().await;

        let file = stack.folder().join("control-plane/master.key");
        let right = std::fs::read_to_string(&file).unwrap();
        let other = Stack::without_nodes(None, Vec::new()).await;
        std::fs::copy(other.folder().join("control-plane/master.key"), &file).unwrap();
        other.shutdown().await;
        let Err(error) = control_plane::start(stack.control_plane_config()).await else {
            panic!("it must not start with a wrong key")
        };
        let told = describe(&error);
        let id = right
            .split(|letter: char| !letter.is_alphanumeric() && letter != '_' && letter != '-')
            .find(|word| told.contains(word) && word.len() > 3);
        assert!(id.is_some(), "the error must name the key that is wanted: {told}");
        for secret in right.split_whitespace().flat_map(|word| word.split(':')).filter(|word| word.len() > 30) {
            assert!(!told.contains(secret), "the error must not tell the key itself");
        }
        // Nor without a key: a new one would open nothing.
        std::fs::remove_file(&file).unwrap();
        assert!(control_plane::start(stack.control_plane_config()).await.is_err(), "no key, and something to open");

        std::fs::write(&file, right).unwrap();
        stack.start_control_plane().await;
        stack.settle().await;
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
        stack.shutdown().await;
    }
}

/// The error with its sources, as it is logged.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[tokio::test]
async fn everything_is_there_again_after_a_restart() {
    for mut stack in Stack::on_both_engines().await {
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let provider = stack.provider("openai", &upstream).await;
        let key = stack.key("ci", &[&provider]).await;
        let before = stack.rest().get("/llm-providers/openai").await.expect(200);
        stack.stop_control_plane().await;
        stack.stop_node(0).await;
        stack.start_control_plane().await;
        stack.start_node(0).await;
        stack.settle().await;
        assert_eq!(stack.rest().get("/llm-providers/openai").await.expect(200), before);
        assert_eq!(stack.send(&provider.chat(false).key(&key.secret)).await.status(), 200);
        // New keys can be made: the store, the sealing key and the link have all survived.
        let second = stack.key("second", &[&provider]).await;
        assert_eq!(stack.send(&provider.chat(false).key(&second.secret)).await.status(), 200);
        stack.shutdown().await;
    }
}
