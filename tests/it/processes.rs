//! The product as the processes that operators run: told to stop, killed, and started again.

use std::{fs, net::SocketAddr, path::Path, sync::Arc};

use serde_json::{Value, json};
use tests::{
    Client, Rest, Upstream, Vendor,
    client::Call,
    eventually, postgres,
    process::{Process, START, free_address},
    within,
};

/// A control plane and a node as processes, as a compose file would run them: settings by environment alone.
pub(crate) struct Deployment {
    folder: Arc<tempfile::TempDir>,
    database_url: Option<String>,
    api: SocketAddr,
    link: SocketAddr,
    pub gateway: SocketAddr,
    pub admin: SocketAddr,
}

impl Deployment {
    pub(crate) fn new(database_url: Option<String>) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let [api, link, gateway, admin] = [(); 4].map(|()| free_address());
        Self { folder, database_url, api, link, gateway, admin }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Where the control plane's API is.
    pub(crate) fn api_url(&self) -> String {
        format!("http://{}", self.api)
    }

    pub(crate) async fn control_plane(&self) -> Process {
        let mut variables = vec![
            ("LOCKGATE_SERVER__LISTEN", self.api.to_string()),
            ("LOCKGATE_LINK__LISTEN", self.link.to_string()),
            ("LOCKGATE_STORE__DATA_DIR", self.path("control-plane")),
            ("LOCKGATE_BOOTSTRAP__GATEWAY_TOKEN_FILE", self.path("gateway-token")),
            ("LOCKGATE_BOOTSTRAP__GATEWAY_BASE_URL", format!("http://{}", self.gateway)),
        ];
        variables.extend(self.database_url.iter().map(|url| ("DATABASE_URL", url.clone())));
        let mut process = Process::start(&["control-plane"], &variables, &self.folder.path().join("control-plane.log"));
        process.ready(self.api, "/readyz").await;
        process
    }

    /// Starts a node; the caller waits for what it needs of it.
    pub(crate) fn node(&self) -> Process {
        self.node_with(&[])
    }

    /// The same with further settings.
    pub(crate) fn node_with(&self, more: &[(&str, &str)]) -> Process {
        self.node_named("node-1", more)
    }

    /// Where another node of the same deployment lives.
    pub(crate) fn beside(&self) -> Self {
        let [gateway, admin] = [(); 2].map(|()| free_address());
        Self { folder: Arc::clone(&self.folder), database_url: self.database_url.clone(), gateway, admin, ..*self }
    }

    /// Any node.
    pub(crate) fn node_named(&self, name: &str, more: &[(&str, &str)]) -> Process {
        let mut variables = vec![
            ("LOCKGATE_GATEWAY__LISTEN", self.gateway.to_string()),
            ("LOCKGATE_GATEWAY__NAME", name.to_owned()),
            ("LOCKGATE_LINK__ADDRESS", self.link.to_string()),
            ("LOCKGATE_LINK__TOKEN_FILE", self.path("gateway-token")),
            ("LOCKGATE_STORE__DATA_DIR", self.path(name)),
            ("LOCKGATE_ADMIN__LISTEN", self.admin.to_string()),
        ];
        variables.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
        Process::start(&["data-plane"], &variables, &self.folder.path().join(format!("{name}.log")))
    }

    /// The first owner comes with the token of the first start, and makes a token for scripts.
    pub(crate) async fn first_owner(&self) -> Rest {
        let token = fs::read_to_string(self.folder.path().join("control-plane/first-owner-token")).unwrap();
        let client = Client::new(&self.api.to_string());
        let origin = format!("http://{}", self.api);
        let owner = json!({"token": token.trim(), "email": "owner@example.com", "password": "a long enough password"});
        let reply = client.send(&Call::post("/api/v1/bootstrap", &owner).header("Origin", &origin)).await;
        assert_eq!(reply.status(), 201, "{}", reply.text());
        let cookie = reply.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        let ask = Call::post("/api/v1/tokens", &json!({"name": "script"}))
            .header("Origin", &origin)
            .header("Cookie", &cookie);
        let reply = client.send(&ask).await;
        assert_eq!(reply.status(), 201, "{}", reply.text());
        Rest::new(&origin, reply.json()["token"].as_str().unwrap())
    }
}

pub(crate) async fn a_provider(rest: &Rest, upstream: &Upstream) -> String {
    let gateway = rest.get("/gateways/default").await;
    let mut body = gateway.body.clone();
    body["upstreamNetworks"] = json!(["127.0.0.0/8"]);
    rest.put("/gateways/default", &gateway.etag(), &body).await.expect(200);
    let provider = json!({
        "name": "openai", "template": "openai", "context": "/openai",
        "upstream": {"url": upstream.url(), "credential": {"value": upstream.credential()}},
    });
    rest.post("/llm-providers", &provider).await.expect(201);
    rest.post("/deployments?wait=10s", &json!({"endpoint": "openai", "gateway": "default"})).await.expect(200);
    let key = rest.post("/api-keys", &json!({"name": "ci", "endpoints": ["openai"]})).await.expect(201);
    key["key"].as_str().unwrap().to_owned()
}

pub(crate) async fn answers(gateway: SocketAddr, key: &str) {
    let client = Client::new(&gateway.to_string());
    let call = Call::post("/openai/v1/chat/completions", &Vendor::OpenAi.chat_body(false)).key(key);
    eventually("the gateway to answer", async || {
        let mut exchange = client.begin(&call).await.map_err(|error| error.to_string())?;
        let reply = exchange.whole().await;
        if reply.status() == 200 { Ok(()) } else { Err(reply.text()) }
    })
    .await;
}

#[tokio::test]
async fn killed_control_planes_lose_no_acknowledged_write_and_nodes_serve_on() {
    for database_url in [None, Some(postgres::database())] {
        let deployment = Deployment::new(database_url);
        let upstream = Upstream::start(Vendor::OpenAi).await;
        let mut control_plane = deployment.control_plane().await;
        let rest = deployment.first_owner().await;
        let mut node = deployment.node();
        node.ready(deployment.admin, "/readyz").await;
        let key = a_provider(&rest, &upstream).await;
        answers(deployment.gateway, &key).await;

        let mut acknowledged = Vec::new();
        for round in 0..3 {
            // Writers that are in the middle of something when the process dies.
            let mut writers = tokio::task::JoinSet::new();
            let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
            for writer in 0..4 {
                let (address, rest, told) = (deployment.api, rest.clone(), told.clone());
                writers.spawn(async move {
                    for number in 0.. {
                        let name = format!("s-{round}-{writer}-{number}");
                        if !write(address, rest.token(), &name).await {
                            break;
                        }
                        if told.send(name).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(told);
            for _ in 0..20 {
                acknowledged.push(heard.recv().await.expect("writes are acknowledged"));
            }
            control_plane.kill();
            while let Some(name) = heard.recv().await {
                acknowledged.push(name);
            }
            writers.join_all().await;
            // The node does not notice, and a new one starts from what it has.
            answers(deployment.gateway, &key).await;
            node.kill();
            node = deployment.node();
            answers(deployment.gateway, &key).await;
            control_plane = deployment.control_plane().await;
        }
        let stored = names(&rest).await;
        let lost: Vec<&String> = acknowledged.iter().filter(|name| !stored.contains(name)).collect();
        assert!(lost.is_empty(), "{} of {} acknowledged writes are lost: {lost:?}", lost.len(), acknowledged.len());

        // Told to stop, both end in order.
        assert_eq!(node.terminate().await.code(), Some(0), "{}", log(&deployment, "node-1"));
        assert_eq!(control_plane.terminate().await.code(), Some(0), "{}", log(&deployment, "control-plane"));
    }
}

fn log(deployment: &Deployment, name: &str) -> String {
    fs::read_to_string(deployment.folder.path().join(format!("{name}.log"))).unwrap_or_default()
}

/// Whether the write was acknowledged; a dead control plane acknowledges nothing.
async fn write(address: SocketAddr, token: &str, name: &str) -> bool {
    let body = json!({"name": name, "value": "vc-planted-write"}).to_string();
    let head = format!(
        "POST /api/v1/secrets HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let Ok(mut stream) = tokio::net::TcpStream::connect(address).await else { return false };
    if tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer).await;
    answer.starts_with(b"HTTP/1.1 201")
}

/// All names of secrets, page by page.
async fn names(rest: &Rest) -> Vec<String> {
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = rest.get(&format!("/secrets?limit=100{cursor}")).await.expect(200);
        names.extend(page["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()));
        match &page["nextCursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => return names,
        }
    }
}

fn dev(folder: &Path) -> (Process, std::path::PathBuf) {
    let ready = folder.join("ready.json");
    let _ = fs::remove_file(&ready);
    let data = folder.join("data").display().to_string();
    let arguments = [
        "dev",
        "--ready-file",
        ready.to_str().unwrap(),
        "--data-dir",
        &data,
        "--api-listen",
        "127.0.0.1:0",
        "--gateway-listen",
        "127.0.0.1:0",
    ];
    (Process::start(&arguments, &[], &folder.join("dev.log")), ready)
}

async fn read_ready(process: &mut Process, path: &Path) -> Value {
    within(START, "lockgate dev to be ready", async || {
        if let Some(status) = process.exited() {
            panic!("it ended with {status}:\n{}", process.output());
        }
        let text = fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice::<Value>(&text).map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test]
async fn lockgate_dev_serves_a_first_request_and_keeps_its_data_through_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, path) = dev(folder.path());
    let ready = read_ready(&mut process, &path).await;
    let sample = ready["sample"].clone();
    let ask = async |key: &str, ready: &Value| {
        let offer = &ready["sample"]["providers"]["openai"];
        let url = offer["invokeUrl"].as_str().unwrap();
        let context = format!("/{}", url.splitn(4, '/').nth(3).unwrap());
        let body = json!({"model": offer["model"], "messages": [{"role": "user", "content": "Say hello."}]});
        Client::new(url).send(&Call::post(&format!("{context}/v1/chat/completions"), &body).key(key)).await
    };
    let key = sample["key"].as_str().unwrap();
    let reply = ask(key, &ready).await;
    assert_eq!(reply.status(), 200, "{}", reply.text());
    assert!(reply.json()["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()));
    for kind in ["providers", "proxies"] {
        for vendor in ["openai", "anthropic", "gemini", "mistral", "azure-openai"] {
            assert!(sample[kind][vendor]["invokeUrl"].is_string(), "{kind} {vendor}: {sample:#}");
        }
    }
    let rest = Rest::new(ready["api"].as_str().unwrap(), ready["token"].as_str().unwrap());
    let providers = rest.get("/llm-providers").await.expect(200);
    let openai =
        providers["data"].as_array().unwrap().iter().find(|provider| provider["template"] == "openai").unwrap();
    let own = json!({"name": "own", "endpoints": [openai["name"]]});
    let own = rest.post("/api-keys", &own).await.expect(201)["key"].as_str().unwrap().to_owned();
    process.kill();

    let (mut process, path) = dev(folder.path());
    let again = read_ready(&mut process, &path).await;
    for key in [key, &own] {
        let reply = ask(key, &again).await;
        assert_eq!(reply.status(), 200, "{}", reply.text());
    }
    assert_eq!(process.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn a_wrong_setting_is_told_with_the_nearest_right_one() {
    let folder = tempfile::tempdir().unwrap();
    for plane in ["control-plane", "data-plane"] {
        let variables = [
            ("LOCKGATE_STORE__DATA_DIR", folder.path().display().to_string()),
            ("LOCKGATE_STORE__DATA_DRI", "x".to_owned()),
        ];
        let mut process = Process::start(&[plane], &variables, &folder.path().join("log"));
        let status = eventually("it to end", async || process.exited().ok_or("still running")).await;
        assert_ne!(status.code(), Some(0));
        let output = process.output();
        assert!(output.contains("data_dri") && output.contains("data_dir"), "{plane}: {output}");
    }
}
