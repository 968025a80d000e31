//! A whole Lockgate in this process: one control plane on either database, nodes joined to it by the real link.
//!
//! Everything listens on port 0 of loopback the first time; what is stopped and started again keeps its address and its
//! folder, as a restarted process would.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use data_plane::request_log::Output;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    Client, Rest, Upstream, Vendor,
    client::{Call, Reply},
    eventually, postgres,
};

/// Settings on top of the defaults, as flags would be.
type Settings = Vec<(String, String)>;

/// A running Lockgate.
pub struct Stack {
    folder: TempDir,
    database_url: Option<String>,
    control_plane: Option<ControlPlane>,
    settings: Settings,
    nodes: Vec<Node>,
    api: Option<SocketAddr>,
    link: Option<SocketAddr>,
    rest: Option<Rest>,
}

struct ControlPlane {
    handle: control_plane::Handle,
}

struct Node {
    name: String,
    gateway: Option<SocketAddr>,
    settings: Settings,
    handle: Option<data_plane::Handle>,
}

/// A deployed provider or proxy, as a developer knows it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its name.
    pub name: String,
    /// What stands between host and vendor's path.
    pub context: String,
    /// As the REST API tells it.
    pub invoke_url: String,
    /// Whose dialect it speaks.
    pub vendor: Vendor,
}

/// A gateway key.
#[derive(Clone, Debug)]
pub struct Key {
    /// For the REST API.
    pub id: String,
    /// For the gateway.
    pub secret: String,
}

impl Endpoint {
    /// A call to any of the vendor's paths.
    pub fn call(&self, method: &str, path_and_query: &str) -> Call {
        Call::new(method, &format!("{}{path_and_query}", self.context))
    }

    /// The call that its SDK makes for one question, without a key.
    pub fn chat(&self, streamed: bool) -> Call {
        let call = self.call("POST", self.vendor.chat_path(streamed)).json(&self.vendor.chat_body(streamed));
        // What Anthropic's SDK adds by itself.
        if self.vendor == Vendor::Anthropic { call.header("anthropic-version", "2023-06-01") } else { call }
    }
}

impl Stack {
    /// On the embedded database, with one node.
    pub async fn sqlite() -> Self {
        Self::start(None, Vec::new()).await
    }

    /// On a database of its own in the test run's Postgres, with one node.
    pub async fn postgres() -> Self {
        Self::start(Some(postgres::database()), Vec::new()).await
    }

    /// One of each, for stories that must be told on both.
    pub async fn on_both_engines() -> [Self; 2] {
        [Self::sqlite().await, Self::postgres().await]
    }

    /// With a database of the test's own (`None`: embedded) and settings of the control plane on top.
    pub async fn start(database_url: Option<String>, settings: Settings) -> Self {
        let mut stack = Self::without_nodes(database_url, settings).await;
        stack.add_node("node-1", &[]).await;
        stack
    }

    /// A control plane alone.
    pub async fn without_nodes(database_url: Option<String>, settings: Settings) -> Self {
        let folder = tempfile::Builder::new().prefix("lockgate-test.").tempdir().expect("a temporary folder");
        let mut stack = Self {
            folder,
            database_url,
            control_plane: None,
            settings,
            nodes: Vec::new(),
            api: None,
            link: None,
            rest: None,
        };
        stack.start_control_plane().await;
        stack
    }

    /// Everything that the planes write to disk lies below.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The control plane's settings, as they are now.
    pub fn control_plane_config(&self) -> control_plane::Config {
        let folder = self.folder.path().join("control-plane");
        let listen = |address: Option<SocketAddr>| address.map_or("127.0.0.1:0".to_owned(), |it| it.to_string());
        let mut settings = vec![
            ("server.listen".to_owned(), listen(self.api)),
            ("link.listen".to_owned(), listen(self.link)),
            ("store.data_dir".to_owned(), folder.display().to_string()),
            ("bootstrap.gateway_token_file".to_owned(), self.token_file().display().to_string()),
        ];
        settings.extend(self.database_url.iter().map(|url| ("store.url".to_owned(), url.clone())));
        settings.extend(self.settings.iter().cloned());
        control_plane::Config::load(None, [], settings).expect("the harness writes good settings")
    }

    /// Starts the control plane, again at its old addresses.
    pub async fn start_control_plane(&mut self) {
        assert!(self.control_plane.is_none(), "the control plane runs already");
        let handle = control_plane::start(self.control_plane_config()).await.expect("the control plane must start");
        self.api = Some(handle.api);
        self.link = Some(handle.link);
        let admin = handle.local_admin().await.expect("the first owner can be made");
        self.rest = Some(Rest::new(&format!("http://{}", handle.api), &admin.token));
        self.control_plane = Some(ControlPlane { handle });
    }

    /// Stops the control plane; nothing listens at its addresses any more.
    pub async fn stop_control_plane(&mut self) {
        let control_plane = self.control_plane.take().expect("the control plane runs");
        control_plane.handle.shutdown().await;
    }

    /// Adds a node and makes its address a base URL of the gateway `default`.
    pub async fn add_node(&mut self, name: &str, settings: &[(&str, &str)]) {
        let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.nodes.push(Node { name: name.to_owned(), gateway: None, settings, handle: None });
        let index = self.nodes.len() - 1;
        self.start_node(index).await;
        let mut gateway = self.rest().get("/gateways/default").await;
        let etag = gateway.check(200).etag();
        let addresses = self.nodes.iter().filter_map(|node| node.gateway);
        gateway.body["baseUrls"] = addresses.map(|address| format!("http://{address}")).collect();
        // The scripted vendors live on loopback.
        gateway.body["upstreamNetworks"] = json!(["127.0.0.0/8", "::1/128"]);
        self.rest().put("/gateways/default", &etag, &gateway.body).await.expect(200);
        self.settle().await;
    }

    /// Starts a node, again at its old address.
    pub async fn start_node(&mut self, index: usize) {
        let config = self.node_config(index);
        let node = &mut self.nodes[index];
        assert!(node.handle.is_none(), "the node runs already");
        let handle = data_plane::start(config).await.expect("the node must start");
        node.gateway = Some(handle.gateway);
        node.handle = Some(handle);
    }

    /// Stops a node in order.
    pub async fn stop_node(&mut self, index: usize) {
        let handle = self.nodes[index].handle.take().expect("the node runs");
        handle.shutdown().await;
    }

    /// A node's settings, as they are now.
    pub fn node_config(&self, index: usize) -> data_plane::Config {
        let node = &self.nodes[index];
        let link = self.link.expect("the control plane has been started once");
        let gateway = node.gateway.map_or("127.0.0.1:0".to_owned(), |address| address.to_string());
        let mut settings = vec![
            ("gateway.listen".to_owned(), gateway),
            ("gateway.name".to_owned(), node.name.clone()),
            ("link.address".to_owned(), link.to_string()),
            ("link.token_file".to_owned(), self.token_file().display().to_string()),
            ("store.data_dir".to_owned(), self.node_folder(index).display().to_string()),
            ("admin.listen".to_owned(), String::new()),
        ];
        settings.extend(node.settings.iter().cloned());
        let settings: Vec<(&str, String)> = settings.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let mut config = data_plane::Config::load(None, &settings).expect("the harness writes good settings");
        // Whoever keeps the log in a test keeps the lines of requests as well.
        config.log.output = Output::new(|lines| {
            tracing::info!("{}", String::from_utf8_lossy(lines));
            Ok(())
        });
        config
    }

    /// Where a node keeps its last good configuration and its usage.
    pub fn node_folder(&self, index: usize) -> PathBuf {
        self.folder.path().join(&self.nodes[index].name)
    }

    /// Where the control plane put the token of the gateway `default`.
    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("gateway-token")
    }

    /// The owner's REST API.
    pub fn rest(&self) -> &Rest {
        self.rest.as_ref().expect("the control plane has been started once")
    }

    /// Where the REST API listens.
    pub fn api(&self) -> SocketAddr {
        self.api.expect("the control plane has been started once")
    }

    /// Where the link listens.
    pub fn link(&self) -> SocketAddr {
        self.link.expect("the control plane has been started once")
    }

    /// A developer at the first node.
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// A developer at one of the nodes.
    pub fn client_of(&self, index: usize) -> Client {
        let address = self.nodes[index].gateway.expect("the node has been started once");
        Client::new(&address.to_string())
    }

    /// The page of a node's metrics. The node must have been given an admin listener.
    pub async fn metrics(&self, index: usize) -> String {
        let node = self.nodes[index].handle.as_ref().expect("the node runs");
        let admin = node.admin.expect("the test asks for metrics, so it sets `admin.listen`");
        Client::new(&admin.to_string()).send(&Call::get("/metrics")).await.text()
    }

    /// One line of a node's metrics, e.g. `lockgate_refusals_total{refusal="bad_host"}`. The node must have been given an
    /// admin listener.
    pub async fn metric(&self, index: usize, name: &str) -> u64 {
        let text = self.metrics(index).await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no metric {name} in {text}"))
    }

    /// Waits until a metric has this value; it may be counted a moment after the client has seen why. Fails at once if it
    /// is more.
    pub async fn metric_becomes(&self, index: usize, name: &str, value: u64) {
        eventually(name, async || {
            let found = self.metric(index, name).await;
            assert!(found <= value, "{name} is {found}, more than {value}");
            if found == value { Ok(()) } else { Err(found) }
        })
        .await;
    }

    /// Sends to the first node and reads the whole answer.
    pub async fn send(&self, call: &Call) -> Reply {
        self.client().send(call).await
    }

    /// Waits until every node that runs has applied everything that was committed.
    pub async fn settle(&self) {
        let running = self.nodes.iter().filter(|node| node.handle.is_some()).count();
        eventually("every node to apply the newest revision", async || {
            let sync = self.rest().get("/gateways/default/sync").await.expect(200);
            let nodes = sync["nodes"].as_array().map_or(0, Vec::len);
            if sync["applied"] == true && nodes >= running { Ok(()) } else { Err(sync) }
        })
        .await;
    }

    /// Makes and deploys a provider for this upstream; its context is its name.
    pub async fn provider(&self, name: &str, upstream: &Upstream) -> Endpoint {
        self.provider_with(name, upstream, json!({})).await
    }

    /// The same with further members of the input.
    pub async fn provider_with(&self, name: &str, upstream: &Upstream, more: Value) -> Endpoint {
        let mut input = json!({
            "name": name, "template": upstream.vendor().name(), "context": format!("/{name}"),
            "upstream": {"url": upstream.url(), "credential": {"value": upstream.credential()}},
        });
        merge(&mut input, more);
        self.rest().post("/llm-providers", &input).await.expect(201);
        self.deploy(name).await;
        self.endpoint("llm-providers", name, upstream.vendor()).await
    }

    /// Makes and deploys a proxy over a provider; its context is its name.
    pub async fn proxy(&self, name: &str, provider: &Endpoint) -> Endpoint {
        self.proxy_with(name, provider.vendor, json!({"provider": provider.name})).await
    }

    /// The same over whatever `more` says.
    pub async fn proxy_with(&self, name: &str, vendor: Vendor, more: Value) -> Endpoint {
        let mut input = json!({"name": name, "context": format!("/{name}")});
        merge(&mut input, more);
        self.rest().post("/llm-proxies", &input).await.expect(201);
        self.deploy(name).await;
        self.endpoint("llm-proxies", name, vendor).await
    }

    /// Deploys the draft and waits until every node has it.
    pub async fn deploy(&self, endpoint: &str) -> Value {
        let input = json!({"endpoint": endpoint, "gateway": "default"});
        let deployment = self.rest().post("/deployments?wait=10s", &input).await.expect(200);
        assert_eq!(deployment["status"], "deployed", "{deployment:#}");
        deployment
    }

    /// Makes a key for these endpoints and waits until it works everywhere.
    pub async fn key(&self, name: &str, endpoints: &[&Endpoint]) -> Key {
        let names: Vec<&str> = endpoints.iter().map(|endpoint| endpoint.name.as_str()).collect();
        let made = self.rest().post("/api-keys", &json!({"name": name, "endpoints": names})).await.expect(201);
        self.settle().await;
        let text = |member: &str| made[member].as_str().unwrap_or_else(|| panic!("no {member}: {made}")).to_owned();
        Key { id: text("id"), secret: text("key") }
    }

    /// An endpoint as the REST API tells it.
    async fn endpoint(&self, noun: &str, name: &str, vendor: Vendor) -> Endpoint {
        let read = self.rest().get(&format!("/{noun}/{name}")).await.expect(200);
        let invoke_url = read["invokeUrls"][0]["url"].as_str().unwrap_or_else(|| panic!("no Invoke URL: {read:#}"));
        let context = read["context"].as_str().unwrap_or_default().to_owned();
        Endpoint { name: name.to_owned(), invoke_url: invoke_url.to_owned(), context, vendor }
    }

    /// Waits until the ledger has a row for each of `count` requests, and no more. Newest first.
    pub async fn usage_rows(&self, count: usize) -> Vec<Value> {
        eventually("one usage row per request", async || {
            let listed = self.rest().get("/requests?limit=200").await.expect(200);
            let rows = listed["data"].as_array().cloned().unwrap_or_default();
            // More than there were requests will never become right again.
            assert!(rows.len() <= count, "{} rows for {count} requests: {rows:#?}", rows.len());
            if rows.len() == count { Ok(rows) } else { Err(format!("{} of {count}", rows.len())) }
        })
        .await
    }

    /// Stops everything in order.
    pub async fn shutdown(mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].handle.is_some() {
                self.stop_node(index).await;
            }
        }
        if self.control_plane.is_some() {
            self.stop_control_plane().await;
        }
    }
}

/// Lays `more` over `input`, objects member by member.
fn merge(input: &mut Value, more: Value) {
    match (input, more) {
        (Value::Object(input), Value::Object(more)) => {
            for (name, value) in more {
                merge(input.entry(name).or_insert(Value::Null), value);
            }
        }
        (input, more) => *input = more,
    }
}
