//! `lockgate dev`: from nothing to ten endpoints that answer, again, after a kill, and to the end of a stream.
use super::run::{Dev, Process, Reply, call, open};
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

const VENDORS: [&str; 5] = ["openai", "anthropic", "gemini", "mistral", "azure-openai"];

/// The smallest chat request of a vendor: where it goes, and its body.
pub(crate) fn question(vendor: &str, model: &str, prompt: &str) -> (String, Value) {
    let messages = json!([{ "role": "user", "content": prompt }]);
    match vendor {
        "anthropic" => ("/v1/messages".to_owned(), json!({ "model": model, "max_tokens": 64, "messages": messages })),
        "gemini" => (
            format!("/v1beta/models/{model}:generateContent"),
            json!({ "contents": [{ "role": "user", "parts": [{ "text": prompt }] }] }),
        ),
        "azure-openai" => (
            format!("/openai/deployments/{model}/chat/completions?api-version=2024-06-01"),
            json!({ "messages": messages }),
        ),
        _ => ("/v1/chat/completions".to_owned(), json!({ "model": model, "messages": messages })),
    }
}

async fn ask(dev: &Dev, endpoint: &str, vendor: &str, key: &str) -> Reply {
    let (path, body) = question(vendor, dev.text(&format!("{endpoint}/model")), "Count from 1 to 5.");
    let url = format!("{}{path}", dev.text(&format!("{endpoint}/invokeUrl")));
    // Anthropic insists on it, the others do not look at it.
    call(Method::POST, &url, &[("x-api-key", key), ("anthropic-version", "2023-06-01")], Some(body)).await.unwrap()
}

async fn all_ten_answer(dev: &Dev, key: &str) {
    for vendor in VENDORS {
        for kind in ["providers", "proxies"] {
            let reply = ask(dev, &format!("/sample/{kind}/{vendor}"), vendor, key).await;
            assert_eq!(reply.status, StatusCode::OK, "{kind} {vendor}: {}", reply.text());
            assert!(reply.text().contains("1, 2, 3, 4, 5."), "{kind} {vendor}: {}", reply.text());
        }
    }
}

#[tokio::test]
async fn dev_serves_ten_endpoints_by_the_time_its_ready_file_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &["--pace", "0ms"]).await;
    let key = dev.text("/sample/key").to_owned();
    all_ten_answer(&dev, &key).await;
    let refused = ask(&dev, "/sample/providers/openai", "openai", "lgk_nobody").await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    let session = dev.api(Method::GET, "/session", None).await.json();
    assert_eq!(session["user"]["role"], "owner", "{session}");
    // The members that scripts rely on, and no others.
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(members(&dev.ready), "api console gateway sample token");
    assert_eq!(members(&dev.ready["gateway"]), "name url");
    assert_eq!(members(&dev.ready["sample"]), "key providers proxies");
    let printed = dev.process.printed();
    for text in [dev.text("/console"), &key, "curl -N", "OpenAI(base_url=", "sample:429"] {
        assert!(printed.contains(text), "`{text}` is not printed:\n{printed}");
    }
    dev.stop().await;
}

#[tokio::test]
async fn the_printed_link_signs_in_once() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &["--no-sample"]).await;
    assert!(dev.ready.get("sample").is_none(), "{}", dev.ready);
    let (_, token) = dev.text("/console").split_once("#token=").expect("a sign-in link");
    let url = format!("{}/api/v1/session", dev.text("/api"));
    let same_origin = [("sec-fetch-site", "same-origin")];
    let body = json!({ "oneTimeToken": token });
    let first = call(Method::POST, &url, &same_origin, Some(body.clone())).await.unwrap();
    assert_eq!(first.status, StatusCode::CREATED, "{}", first.text());
    assert!(first.headers.contains_key("set-cookie"));
    let second = call(Method::POST, &url, &same_origin, Some(body)).await.unwrap();
    assert_eq!(second.status, StatusCode::UNAUTHORIZED, "{}", second.text());
    dev.stop().await;
}

#[tokio::test]
async fn a_second_start_keeps_data_and_keys() {
    let directory = tempfile::tempdir().unwrap();
    let first = Dev::start(directory.path(), &["--pace", "0ms"]).await;
    let key = first.text("/sample/key").to_owned();
    first.api(Method::POST, "/secrets", Some(json!({ "name": "mine", "value": "something" }))).await.json();
    let deployments = first.api(Method::GET, "/deployments", None).await.json()["data"].clone();
    first.stop().await;

    let second = Dev::start(directory.path(), &["--pace", "0ms"]).await;
    assert_eq!(second.text("/sample/key"), key);
    all_ten_answer(&second, &key).await;
    assert_eq!(second.api(Method::GET, "/secrets/mine", None).await.json()["name"], "mine");
    let ids = |deployments: &Value| -> Vec<Value> {
        deployments.as_array().unwrap().iter().map(|deployment| deployment["id"].clone()).collect()
    };
    let now = second.api(Method::GET, "/deployments", None).await.json()["data"].clone();
    assert_eq!(ids(&now), ids(&deployments), "a second start deploys nothing that is deployed");
    second.stop().await;
}

#[tokio::test]
async fn a_kill_loses_no_acknowledged_write() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let dev = Dev::start(directory.path(), &["--no-sample"]).await;
        // Four writers at once, so that the kill falls into the middle of something.
        let (url, token) = (format!("{}/api/v1/secrets", dev.text("/api")), format!("Bearer {}", dev.text("/token")));
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let (url, token, sender) = (url.clone(), token.clone(), sender.clone());
                tokio::spawn(async move {
                    for number in 0.. {
                        let name = format!("r{round}-w{writer}-n{number}");
                        let body = json!({ "name": name, "value": "something" });
                        let answered = call(Method::POST, &url, &[("authorization", &token)], Some(body)).await;
                        let Ok(reply) = answered else { return };
                        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
                        sender.send(name).unwrap();
                    }
                })
            })
            .collect();
        for _ in 0..25 {
            acknowledged.push(receiver.recv().await.unwrap());
        }
        dev.process.kill_nine().await;
        for writer in writers {
            writer.await.unwrap();
        }
        drop(sender);
        while let Some(name) = receiver.recv().await {
            acknowledged.push(name);
        }
    }
    let dev = Dev::start(directory.path(), &["--no-sample"]).await;
    for name in &acknowledged {
        let reply = dev.api(Method::GET, &format!("/secrets/{name}"), None).await;
        assert_eq!(reply.status, StatusCode::OK, "{name} was acknowledged and is gone, of {}", acknowledged.len());
    }
    dev.stop().await;
}

#[tokio::test]
async fn the_audit_log_of_a_trial_is_whole() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &["--no-sample"]).await;
    dev.api(Method::POST, "/secrets", Some(json!({ "name": "mine", "value": "something" }))).await.json();
    let store = directory.path().join("data/control-plane");
    let verify = async |name: &str| {
        let arguments = ["audit", "verify", "--data-dir", store.to_str().unwrap()];
        let mut process = Process::start(&directory.path().join(name), &arguments);
        (process.ended().await, process.printed())
    };
    let (code, printed) = verify("while-it-runs").await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.starts_with("the audit log is whole: "), "{printed}");
    dev.stop().await;
    std::fs::remove_dir_all(&store).unwrap();
    let (code, printed) = verify("without-a-store").await;
    assert_eq!(code, Some(1), "{printed}");
    assert!(!store.exists(), "looking at a store must not make one");
}

#[tokio::test]
async fn sigterm_lets_a_stream_finish() {
    let directory = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(directory.path(), &["--pace", "40ms"]).await;
    let model = dev.text("/sample/providers/openai/model").to_owned();
    let (path, mut body) = question("openai", &model, "Count from 1 to 50.");
    body["stream"] = json!(true);
    let url = format!("{}{path}", dev.text("/sample/providers/openai/invokeUrl"));
    let key = dev.text("/sample/key").to_owned();
    let headers = [("x-api-key", key.as_str())];
    let mut stream = open(Method::POST, &url, &headers, Some(body)).await.unwrap().into_body();
    let mut text = stream.frame().await.unwrap().unwrap().into_data().unwrap().to_vec();
    dev.process.signal("TERM").await;
    text.extend(stream.collect().await.expect("the stream goes on").to_bytes());
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("50.") && text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(dev.process.ended().await, Some(0), "{}", dev.process.printed());
}

#[tokio::test]
async fn a_busy_port_is_explained_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = directory.path().join("data");
    let arguments =
        ["dev", "--data-dir", data.to_str().unwrap(), "--gateway-listen", &address, "--api-listen", "127.0.0.1:0"];
    let mut process = Process::start(&directory.path().join("log"), &arguments);
    assert_eq!(process.ended().await, Some(1));
    let printed = process.printed();
    assert!(
        printed.starts_with(&format!("error: {address} is in use; choose another address with --gateway-listen")),
        "{printed}"
    );
    assert_eq!(printed.lines().count(), 1, "{printed}");
}

#[tokio::test]
async fn a_directory_serves_one_process() {
    let directory = tempfile::tempdir().unwrap();
    let dev = Dev::start(directory.path(), &["--no-sample"]).await;
    let data = directory.path().join("data");
    let arguments =
        ["dev", "--data-dir", data.to_str().unwrap(), "--gateway-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"];
    let mut process = Process::start(&directory.path().join("second-log"), &arguments);
    assert_eq!(process.ended().await, Some(1));
    assert!(process.printed().contains("another `lockgate dev` is using"), "{}", process.printed());
    dev.stop().await;
}
