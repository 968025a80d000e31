//! A gateway, a vendor and a client. The test speaks both outer sides itself, in bytes, so it knows the order.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use data_plane::config::Config;
use data_plane::gateway::Gateway;
use data_plane::pipeline::account::{Record, Sink};
use data_plane::runtime::{Configuration, Runtime};
use prost::Message;
use proto::config::{self, Entry, Kind, endpoint, key_location, template};
use proto::token::{self, TokenKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use uuid::Uuid;

/// Nothing in these tests takes this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

pub const SECRET: &str = "sk-vendor-credential";

/// A configuration in the making.
#[derive(Default)]
pub struct Draft {
    entries: BTreeMap<(i32, u128), Entry>,
}

pub const SETTINGS: u128 = 1;
pub const TEMPLATE: u128 = 2;
pub const VENDOR_SECRET: u128 = 3;
pub const KEY: u128 = 4;
pub const PROVIDER: u128 = 5;
pub const PROXY: u128 = 6;

pub fn bytes(id: u128) -> bytes::Bytes {
    Uuid::from_u128(id).as_bytes().to_vec().into()
}

impl Draft {
    /// One provider `/openai` at this URL, one proxy `/team/proxy` over it, one key that opens both.
    pub fn new(url: &str) -> Self {
        Self::default()
            .settings(&["127.0.0.0/8"])
            .put(Kind::Template, TEMPLATE, &template(config::Dialect::Openai))
            .put(Kind::Secret, VENDOR_SECRET, &secret())
            .put(Kind::Endpoint, PROVIDER, &provider("/openai", url))
            .put(Kind::Endpoint, PROXY, &proxy("/team/proxy"))
            .put(Kind::ApiKey, KEY, &api_key(&key(1), &[PROVIDER, PROXY]))
    }

    pub fn settings(self, networks: &[&str]) -> Self {
        let settings = config::Settings {
            gateway: "default".to_owned(),
            upstream_networks: networks.iter().map(|network| (*network).to_owned()).collect(),
            base_urls: vec!["https://gw.example".to_owned()],
        };
        self.put(Kind::Settings, SETTINGS, &settings)
    }

    pub fn put(mut self, kind: Kind, id: u128, message: &impl Message) -> Self {
        let entry = Entry { kind: kind as i32, id: bytes(id), revision: 7, body: message.encode_to_vec().into() };
        self.entries.insert((kind as i32, id), entry);
        self
    }

    pub fn compile(&self) -> Arc<Runtime> {
        let mut configuration = Configuration::at(7);
        for entry in self.entries.values() {
            configuration.put(entry.clone()).expect("ids have 16 bytes");
        }
        let compiled = Runtime::compile(&configuration, &Configuration::default());
        assert_eq!(compiled.rejected, [], "the test's configuration is sound");
        Arc::new(compiled.runtime)
    }
}

pub fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}

/// As the built-in templates say it.
pub fn template(dialect: config::Dialect) -> config::Template {
    let base = config::Template {
        name: format!("{dialect:?}").to_lowercase(),
        version: 1,
        dialect: dialect as i32,
        credential_header: "authorization".to_owned(),
        credential_prefix: "Bearer ".to_owned(),
        auth_failure_status: vec![401],
        credential_names: texts(["authorization"]),
        usage: Some(template::Usage {
            input: texts(["/usage/prompt_tokens", "/usage/input_tokens", "/response/usage/input_tokens"]),
            output: texts(["/usage/completion_tokens", "/usage/output_tokens", "/response/usage/output_tokens"]),
            ..template::Usage::default()
        }),
        model: Some(template::Model {
            request_body: "/model".to_owned(),
            response_body: texts(["/model"]),
            ..template::Model::default()
        }),
        ..config::Template::default()
    };
    match dialect {
        config::Dialect::Gemini => config::Template {
            credential_header: "x-goog-api-key".to_owned(),
            credential_prefix: String::new(),
            auth_failure_status: vec![400, 401, 403],
            auth_failure_body: "API_KEY_INVALID".to_owned(),
            credential_names: texts(["x-goog-api-key", "key", "authorization"]),
            usage: Some(template::Usage {
                input: texts(["/usageMetadata/promptTokenCount"]),
                output: texts(["/usageMetadata/candidatesTokenCount"]),
                reasoning: texts(["/usageMetadata/thoughtsTokenCount"]),
                output_excludes_reasoning: true,
                ..template::Usage::default()
            }),
            model: Some(template::Model {
                request_path_before: "/models/".to_owned(),
                request_path_after: texts([":", "/"]),
                response_body: texts(["/modelVersion"]),
                ..template::Model::default()
            }),
            ..base
        },
        _ => base,
    }
}

pub fn secret() -> config::Secret {
    config::Secret { value: SECRET.as_bytes().into(), version: 1 }
}

pub fn header_location(name: &str, prefix: &str) -> config::KeyLocation {
    config::KeyLocation { r#in: key_location::In::Header as i32, name: name.to_owned(), prefix: prefix.to_owned() }
}

pub fn provider(context: &str, url: &str) -> config::Endpoint {
    config::Endpoint {
        name: context.trim_start_matches('/').replace('/', "-"),
        context: context.to_owned(),
        template_id: bytes(TEMPLATE),
        key_locations: vec![
            header_location("x-api-key", ""),
            header_location("authorization", "Bearer "),
            config::KeyLocation {
                r#in: key_location::In::Query as i32,
                name: "api_key".to_owned(),
                prefix: String::new(),
            },
        ],
        target: Some(endpoint::Target::Upstream(config::Upstream {
            url: url.to_owned(),
            secret_id: bytes(VENDOR_SECRET),
            extra_ca_pem: String::new(),
        })),
        ..config::Endpoint::default()
    }
}

pub fn proxy(context: &str) -> config::Endpoint {
    config::Endpoint {
        target: Some(endpoint::Target::Route(config::Route {
            targets: vec![config::RouteTarget {
                provider_id: bytes(PROVIDER),
                weight: 1,
                priority: 0,
                aliases: vec![],
            }],
            ..config::Route::default()
        })),
        ..provider(context, "")
    }
}

/// A valid key, another for every number.
pub fn key(number: u8) -> String {
    let mut entropy = [number; token::ENTROPY];
    for (index, byte) in entropy.iter_mut().enumerate() {
        *byte = u8::try_from((index * 31 + usize::from(number)) % 240).unwrap();
    }
    token::mint(TokenKind::ApiKey, None, &entropy).unwrap()
}

pub fn api_key(key: &str, endpoints: &[u128]) -> config::ApiKey {
    config::ApiKey {
        credentials: vec![config::api_key::Credential { digest: token::digest(key).to_vec().into(), expires_at_ms: 0 }],
        endpoint_ids: endpoints.iter().map(|id| bytes(*id)).collect(),
        ..config::ApiKey::default()
    }
}

/// A running gateway, and what it accounts for.
pub struct Stand {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    running: Option<Gateway>,
    pub runtime: Arc<ArcSwapOption<Runtime>>,
    records: mpsc::UnboundedReceiver<Record>,
}

impl Stand {
    pub async fn start(draft: &Draft) -> Self {
        Self::with(Some(draft), |_| {}).await
    }

    pub async fn with(draft: Option<&Draft>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.gateway.listen = "127.0.0.1:0".parse().unwrap();
        // Connections to vendors belong to a worker: with one, which of them is used does not depend on the machine.
        config.gateway.workers = 1;
        config.admin.listen = Some("127.0.0.1:0".parse().unwrap());
        config.deadlines.drain = Duration::from_secs(5);
        change(&mut config);
        let runtime = Arc::new(ArcSwapOption::new(draft.map(Draft::compile)));
        let (sender, records) = mpsc::unbounded_channel();
        let sink = Sink::new(move |record| drop(sender.send(record)));
        let gateway = Gateway::start(&config, Arc::clone(&runtime), sink).await.unwrap();
        Self { address: gateway.address, admin: gateway.admin.unwrap(), running: Some(gateway), runtime, records }
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::connect(self.address).await
    }

    /// The next record.
    pub async fn record(&mut self) -> Record {
        within("a record", self.records.recv()).await.unwrap()
    }

    /// Stops the gateway; its records can still be read.
    pub async fn stop(&mut self) {
        if let Some(gateway) = self.running.take() {
            gateway.shutdown().await;
        }
    }

    /// Every record has been taken by the test.
    pub fn no_more_records(&mut self) {
        if let Ok(record) = self.records.try_recv() {
            panic!("one record too many: {record:?}");
        }
    }

    /// One request on a connection of its own.
    pub async fn ask(&self, request: impl AsRef<str>) -> Answer {
        let mut client = self.client().await;
        client.send(request.as_ref()).await;
        client.answer().await
    }
}

/// `GET` with the key, after the context of the provider.
pub fn get(path: &str) -> String {
    format!("GET /openai{path} HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n\r\n", key(1))
}

/// `POST` of a JSON body with the key, after the context of the provider.
pub fn post(path: &str, body: &str) -> String {
    format!(
        "POST /openai{path} HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        key(1),
        body.len()
    )
}

/// One end of a connection, in bytes.
pub struct Client<S> {
    stream: S,
    buffer: Vec<u8>,
}

pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// The value of a header, which must not stand there twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().skip(1).filter_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    });
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice in {head}");
    value
}

impl Client<TcpStream> {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::around(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn around(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Bytes that the other side may refuse to take.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    async fn more(&mut self) -> usize {
        within("more bytes", self.stream.read_buf(&mut self.buffer)).await.unwrap_or(0)
    }

    /// Everything up to and including a text.
    pub async fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = find(&self.buffer, text.as_bytes()) {
                let taken: Vec<u8> = self.buffer.drain(..at + text.len()).collect();
                return String::from_utf8(taken).unwrap();
            }
            let more = self.more().await;
            assert_ne!(more, 0, "the end instead of {text:?}: {}", String::from_utf8_lossy(&self.buffer));
        }
    }

    /// So many bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert_ne!(self.more().await, 0, "the end: {}", String::from_utf8_lossy(&self.buffer));
        }
        self.buffer.drain(..length).collect()
    }

    /// What is there until the other side closes.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await > 0 {}
        std::mem::take(&mut self.buffer)
    }

    pub async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// A whole message: head, and a body by length or in chunks.
    pub async fn message(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let body = if let Some(length) = header(&head, "content-length") {
            self.exactly(length.parse().unwrap()).await
        } else if header(&head, "transfer-encoding").is_some() {
            let mut body = Vec::new();
            loop {
                let size = self.until("\r\n").await;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                body.extend(self.exactly(size).await);
                assert_eq!(self.exactly(2).await, b"\r\n");
                if size == 0 {
                    break body;
                }
            }
        } else {
            Vec::new()
        };
        (head, body)
    }

    pub async fn answer(&mut self) -> Answer {
        let (head, body) = self.message().await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body }
    }
}

fn find(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text)
}

/// A vendor that does what the test says.
pub struct Vendor {
    listener: TcpListener,
}

impl Vendor {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// One with small receive buffers.
    pub fn narrow() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { listener: socket.listen(64).unwrap() }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The next connection of the gateway.
    pub async fn accept(&self) -> Client<TcpStream> {
        Client::around(self.accept_raw().await)
    }

    pub async fn accept_raw(&self) -> TcpStream {
        within("a connection of the gateway", self.listener.accept()).await.unwrap().0
    }

    /// Nobody has connected.
    pub async fn is_alone(&self) -> bool {
        timeout(Duration::from_millis(100), self.listener.accept()).await.is_err()
    }

    /// Takes one request on a new connection and answers it with these bytes. Gives back what came.
    pub async fn once(&self, answer: impl AsRef<str>) -> (String, Vec<u8>) {
        let mut connection = self.accept().await;
        let request = connection.message().await;
        connection.send(answer.as_ref()).await;
        request
    }
}

/// An answer with a JSON body.
pub fn ok(body: &str) -> String {
    answer("200 OK", "", body)
}

/// `headers` end in CR LF each.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

pub const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n";

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Whether the other side closes within this time, whatever it still says.
    pub async fn rest_within(&mut self, patience: Duration) -> bool {
        timeout(patience, async { while self.stream.read_buf(&mut self.buffer).await.is_ok_and(|read| read > 0) {} })
            .await
            .is_ok()
    }
}

impl Client<TcpStream> {
    /// Says no more, and still listens.
    pub async fn shut(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Closing sends a reset from now on.
    pub fn reset(&mut self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Nothing has come that was not taken.
    pub async fn nothing_more(&mut self) {
        let more = timeout(Duration::from_millis(100), self.stream.read_buf(&mut self.buffer)).await;
        assert!(more.is_err() && self.buffer.is_empty(), "{}", String::from_utf8_lossy(&self.buffer));
    }

    /// Whether the other side takes all of it in this time.
    pub async fn try_send_within(&mut self, bytes: &[u8], patience: Duration) -> bool {
        matches!(timeout(patience, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Takes what comes until nothing has come for a while; how much.
    pub async fn take_while_there(&mut self) -> usize {
        let mut taken = std::mem::take(&mut self.buffer).len();
        while let Ok(Ok(read)) = timeout(Duration::from_millis(500), self.stream.read_buf(&mut self.buffer)).await {
            assert!(read > 0, "the other side has left");
            taken += read;
            self.buffer.clear();
        }
        taken
    }
}

impl Vendor {
    /// The next connection, whenever it comes.
    pub async fn accept_or_wait(&self) -> Client<TcpStream> {
        Client::around(self.listener.accept().await.unwrap().0)
    }
}

impl Client<TcpStream> {
    /// A whole message; `None`: the other side has left.
    pub async fn try_message(&mut self) -> Option<(String, Vec<u8>)> {
        loop {
            let end = find(&self.buffer, b"\r\n\r\n");
            let length = end.and_then(|end| {
                let head = std::str::from_utf8(&self.buffer[..end]).unwrap();
                Some(end + 4 + header(head, "content-length")?.parse::<usize>().unwrap())
            });
            if length.is_some_and(|length| self.buffer.len() >= length) {
                return Some(self.message().await);
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}

impl Stand {
    /// A record that is already there.
    pub fn taken_record(&mut self) -> Option<Record> {
        self.records.try_recv().ok()
    }
}

/// A client's connection with a small receive buffer.
pub async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    socket.connect(address).await.unwrap()
}
