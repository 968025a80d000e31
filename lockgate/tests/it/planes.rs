//! The planes as processes of their own.

use std::path::Path;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::dev::question;
use super::run::{Process, call, eventually, free_port};

/// Both planes as processes of their own, and the sample upstream as a third.
struct Apart<'a> {
    directory: &'a Path,
    api: String,
    link: String,
    gateway: String,
}

impl Apart<'_> {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    fn control_plane(&self) -> Process {
        let token = format!("bootstrap.gateway_token_file={}", self.path("gateway-token"));
        let networks = "bootstrap.gateway_upstream_networks=[\"127.0.0.0/8\"]";
        let base = format!("bootstrap.gateway_base_url=http://{}", self.gateway);
        let data = self.path("control-plane");
        let arguments = [
            "control-plane",
            "--listen",
            &self.api,
            "--link-listen",
            &self.link,
            "--data-dir",
            &data,
            "--set",
            &token,
            "--set",
            networks,
            "--set",
            &base,
        ];
        Process::start(&self.directory.join("control-plane.log"), &arguments)
    }

    fn data_plane(&self) -> Process {
        let (data, token) = (self.path("data-plane"), self.path("gateway-token"));
        let arguments = [
            "data-plane",
            "--listen",
            &self.gateway,
            "--control-plane",
            &self.link,
            "--token-file",
            &token,
            "--data-dir",
            &data,
            "--name",
            "node-1",
            "--set",
            "admin.listen=",
        ];
        Process::start(&self.directory.join("data-plane.log"), &arguments)
    }
}

#[tokio::test]
async fn a_node_serves_after_a_restart_with_the_control_plane_dead() {
    let directory = tempfile::tempdir().unwrap();
    let address = || format!("127.0.0.1:{}", free_port());
    let apart = Apart { directory: directory.path(), api: address(), link: address(), gateway: address() };
    let sample = address();
    let _sample =
        Process::start(&directory.path().join("sample.log"), &["sample", "--listen", &sample, "--pace", "0ms"]);
    let control_plane = apart.control_plane();
    let api = format!("http://{}/api/v1", apart.api);
    eventually("the control plane", || async {
        call(Method::GET, &format!("http://{}/readyz", apart.api), &[], None)
            .await
            .ok()
            .filter(|reply| reply.status.is_success())
    })
    .await;
    let node = apart.data_plane();

    // The first owner, with the token that the first start wrote.
    let token = std::fs::read_to_string(directory.path().join("control-plane/first-owner-token")).unwrap();
    let owner =
        json!({ "token": token.trim(), "email": "owner@example.com", "password": "correct horse battery staple" });
    let same_origin = ("sec-fetch-site", "same-origin");
    let claimed = call(Method::POST, &format!("{api}/bootstrap"), &[same_origin], Some(owner)).await.unwrap();
    assert_eq!(claimed.status, StatusCode::CREATED, "{}", claimed.text());
    let cookie = claimed.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let post = async |path: &str, body: Value| {
        let headers = [same_origin, ("cookie", &cookie)];
        call(Method::POST, &format!("{api}{path}"), &headers, Some(body)).await.unwrap().json()
    };
    let upstream =
        json!({ "url": format!("http://{sample}/openai"), "credential": { "value": "sk-sample-openai-4dQmVwYt" } });
    post("/llm-providers", json!({ "name": "one", "template": "openai", "context": "/one", "upstream": upstream }))
        .await;
    let key =
        post("/api-keys", json!({ "name": "caller", "endpoints": ["one"] })).await["key"].as_str().unwrap().to_owned();
    post("/deployments?wait=10s", json!({ "endpoint": "one", "gateway": "default" })).await;

    let (path, body) = question("openai", "gpt-4o", "Count from 1 to 5.");
    let url = format!("http://{}/one{path}", apart.gateway);
    let serves = || async {
        let answered = call(Method::POST, &url, &[("x-api-key", &key)], Some(body.clone())).await.ok();
        answered.filter(|reply| reply.status == StatusCode::OK).map(|reply| reply.text())
    };
    let text = eventually("an answer", serves).await;
    assert!(text.contains("1, 2, 3, 4, 5."), "{text}");

    control_plane.kill_nine().await;
    node.kill_nine().await;
    let mut node = apart.data_plane();
    let text = eventually("an answer without a control plane", serves).await;
    assert!(text.contains("1, 2, 3, 4, 5."), "{text}");
    node.signal("TERM").await;
    assert_eq!(node.ended().await, Some(0), "{}", node.printed());
}
