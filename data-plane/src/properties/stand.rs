//! A gateway between two ends of memory.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prost::Message;
use proto::config::{self, Entry, Kind, endpoint, key_location};
use proto::token::{self, TokenKind};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::config::Config;
use crate::listener;
use crate::pipeline::Plane;
use crate::pipeline::account::{Record, Sink};
use crate::presence::Register;
use crate::runtime::{Configuration, Runtime};
use crate::upstream::memory::{Dialled, Network};

/// A running gateway.
pub(super) struct Stand {
    pub(super) plane: Arc<Plane>,
    register: Arc<Register>,
    /// Connections of clients.
    pub(super) clients: TaskTracker,
    pub(super) records: UnboundedReceiver<Record>,
    pub(super) dialled: UnboundedReceiver<Dialled>,
}

impl Stand {
    pub(super) fn new(runtime: Runtime, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.log.requests = false;
        change(&mut config);
        let (sender, records) = mpsc::unbounded_channel();
        let (dialling, dialled) = mpsc::unbounded_channel();
        let sink = Sink::new(move |record| drop(sender.send(record)));
        let mut plane = crate::gateway::plane(&config, Arc::new(ArcSwapOption::from_pointee(runtime)), sink, vec![]);
        plane.upstreams = plane.upstreams.through(Network(dialling));
        let register = Arc::new(Register::new(7));
        Self { plane: Arc::new(plane), register, clients: TaskTracker::new(), records, dialled }
    }

    /// The same for a client that speaks HTTP/2.
    pub(super) fn connect_second(&self, buffer: usize) -> DuplexStream {
        let (near, far) = duplex(buffer);
        let (presence, plane) = (Register::arrive(&self.register, 0, None), Arc::clone(&self.plane));
        let streams = self.clients.clone();
        self.clients.spawn(async move {
            listener::serve_http2(far, &presence, plane, streams).await;
            presence.leave();
        });
        near
    }

    /// A client's end of a new connection that holds so many bytes in each direction.
    pub(super) fn connect(&self, buffer: usize) -> DuplexStream {
        let (near, far) = duplex(buffer);
        let (presence, plane) = (Register::arrive(&self.register, 0, None), Arc::clone(&self.plane));
        self.clients.spawn(async move {
            listener::serve_http1(far, &presence, plane).await;
            presence.leave();
        });
        near
    }
}

/// Id of a resource.
pub(super) fn id(id: u128) -> bytes::Bytes {
    Uuid::from_u128(id).as_bytes().to_vec().into()
}

/// A key that exists for every number.
pub(super) fn key(number: u8) -> String {
    let mut entropy = [number; token::ENTROPY];
    for (index, byte) in entropy.iter_mut().enumerate() {
        *byte = u8::try_from((index * 31 + usize::from(number)) % 240).unwrap();
    }
    token::mint(TokenKind::ApiKey, None, &entropy).unwrap()
}

/// What vendor `number` is paid with.
pub(super) fn credential(number: u8) -> String {
    format!("sk-vendor-{number}")
}

/// Three providers, `/one`, `/team/two` and `/four`, at addresses of their own; a proxy `/three` over the first, and one
/// over all of them, `/several`. Key 1 opens the first and the proxies, key 2 the second.
pub(super) fn runtime() -> Runtime {
    let template = config::Template {
        name: "openai".to_owned(),
        version: 1,
        dialect: config::Dialect::Openai as i32,
        credential_header: "authorization".to_owned(),
        credential_prefix: "Bearer ".to_owned(),
        auth_failure_status: vec![401],
        credential_names: vec!["authorization".to_owned(), "x-secret-name".to_owned()],
        ..config::Template::default()
    };
    let settings = config::Settings {
        gateway: "default".to_owned(),
        upstream_networks: vec!["10.0.0.0/8".to_owned()],
        ..config::Settings::default()
    };
    let location = |r#in: key_location::In, name: &str, prefix: &str| config::KeyLocation {
        r#in: r#in as i32,
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    };
    let endpoint = |context: &str, target| config::Endpoint {
        name: context.trim_start_matches('/').replace('/', "-"),
        context: context.to_owned(),
        template_id: id(2),
        key_locations: vec![
            location(key_location::In::Header, "x-api-key", ""),
            location(key_location::In::Header, "authorization", "Bearer "),
            location(key_location::In::Query, "api_key", ""),
        ],
        target: Some(target),
        ..config::Endpoint::default()
    };
    let provider = |context: &str, number: u8, prefix: &str| {
        endpoint(
            context,
            endpoint::Target::Upstream(config::Upstream {
                url: format!("http://10.0.0.{number}{prefix}"),
                secret_id: id(20 + u128::from(number)),
                extra_ca_pem: String::new(),
            }),
        )
    };
    let secret = |number| config::Secret { value: credential(number).into_bytes().into(), version: 1 };
    let api_key = |number: u8, endpoints: &[u128]| config::ApiKey {
        credentials: vec![config::api_key::Credential {
            digest: token::digest(&key(number)).to_vec().into(),
            expires_at_ms: 0,
        }],
        endpoint_ids: endpoints.iter().map(|endpoint| id(*endpoint)).collect(),
        ..config::ApiKey::default()
    };
    let route = config::Route {
        targets: vec![config::RouteTarget { provider_id: id(11), ..config::RouteTarget::default() }],
        ..config::Route::default()
    };
    let several = config::Route {
        targets: [11, 12, 14]
            .into_iter()
            .enumerate()
            .map(|(at, provider)| config::RouteTarget {
                provider_id: id(provider),
                // The first and the second are of one priority.
                priority: u32::try_from(at / 2).unwrap(),
                ..config::RouteTarget::default()
            })
            .collect(),
        ..config::Route::default()
    };
    let mut configuration = Configuration::at(7);
    let mut put = |kind: Kind, number: u128, body: Vec<u8>| {
        let entry = Entry { kind: kind as i32, id: id(number), revision: 7, body: body.into() };
        configuration.put(entry).expect("ids have 16 bytes");
    };
    put(Kind::Settings, 1, settings.encode_to_vec());
    put(Kind::Template, 2, template.encode_to_vec());
    put(Kind::Secret, 21, secret(1).encode_to_vec());
    put(Kind::Secret, 22, secret(2).encode_to_vec());
    put(Kind::Secret, 24, secret(4).encode_to_vec());
    put(Kind::Endpoint, 11, provider("/one", 1, "").encode_to_vec());
    put(Kind::Endpoint, 12, provider("/team/two", 2, "/base").encode_to_vec());
    put(Kind::Endpoint, 13, endpoint("/three", endpoint::Target::Route(route)).encode_to_vec());
    put(Kind::Endpoint, 14, provider("/four", 4, "").encode_to_vec());
    put(Kind::Endpoint, 15, endpoint("/several", endpoint::Target::Route(several)).encode_to_vec());
    put(Kind::ApiKey, 31, api_key(1, &[11, 13, 15]).encode_to_vec());
    put(Kind::ApiKey, 32, api_key(2, &[12]).encode_to_vec());
    let compiled = Runtime::compile(&configuration, &Configuration::default());
    assert_eq!(compiled.rejected, [], "the test's configuration is sound");
    compiled.runtime
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_passes_without_a_socket() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let mut stand = Stand::new(runtime(), |_| {});
    let mut client = stand.connect(1024);
    let request = format!("GET /team/two/v1?x HTTP/1.1\r\nHost: gw\r\nX-API-Key: {}\r\n\r\n", key(2));
    client.write_all(request.as_bytes()).await.unwrap();
    let Dialled { address, mut stream } = stand.dialled.recv().await.unwrap();
    assert_eq!(address.to_string(), "10.0.0.2:80");
    let mut bytes = [0; 21];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"GET /base/v1?x HTTP/1");
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
    stand.records.recv().await.unwrap();
    drop(client);
    stand.clients.close();
    stand.clients.wait().await;
}
