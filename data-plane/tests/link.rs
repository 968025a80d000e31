//! Following and reporting over real TLS, against a control plane that a test plays by hand.
// A failed `unwrap` is a failed test, and says where.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use data_plane::{
    follow::{self, Follower, Status},
    link::{GatewayToken, Link, SERVER_NAME},
    pipeline::account::{Outcome, Record},
    report,
    runtime::Runtime,
};
use http::Method;
use prost::Message as _;
use proto::{
    config::{
        Cursor, Entry, Kind, NodeMessage, Settings, Update,
        config_sync_server::{ConfigSync, ConfigSyncServer},
        node_message,
    },
    state::StateHash,
    token::{self, TokenKind},
    usage::{
        UsageAck, UsageBatch,
        usage_ingest_server::{UsageIngest, UsageIngestServer},
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Mutex, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Streaming, transport::Server};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a node opened: what it says, and where to answer.
struct Opened<I, O> {
    said: Streaming<I>,
    answers: mpsc::Sender<Result<O, tonic::Status>>,
}

impl<I, O> Opened<I, O> {
    async fn next(&mut self) -> I {
        timeout(PATIENCE, self.said.message()).await.unwrap().unwrap().unwrap()
    }

    async fn answer(&self, answer: O) {
        self.answers.send(Ok(answer)).await.unwrap();
    }
}

type Follows = Opened<NodeMessage, Update>;
type Reports = Opened<UsageBatch, UsageAck>;

/// Plays the control plane: hands every stream to the test.
struct Plane {
    follows: Mutex<mpsc::Receiver<Follows>>,
    reports: Mutex<mpsc::Receiver<Reports>>,
    address: SocketAddr,
    fingerprint: String,
    stop: CancellationToken,
}

struct Service<T>(mpsc::Sender<T>);

#[tonic::async_trait]
impl ConfigSync for Service<Follows> {
    type StreamStream = ReceiverStream<Result<Update, tonic::Status>>;

    async fn stream(
        &self,
        request: Request<Streaming<NodeMessage>>,
    ) -> Result<Response<Self::StreamStream>, tonic::Status> {
        let (answers, stream) = mpsc::channel(8);
        self.0.send(Opened { said: request.into_inner(), answers }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

#[tonic::async_trait]
impl UsageIngest for Service<Reports> {
    type ReportStream = ReceiverStream<Result<UsageAck, tonic::Status>>;

    async fn report(
        &self,
        request: Request<Streaming<UsageBatch>>,
    ) -> Result<Response<Self::ReportStream>, tonic::Status> {
        let (answers, stream) = mpsc::channel(8);
        self.0.send(Opened { said: request.into_inner(), answers }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// TLS as `tonic` takes it.
struct Io(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl tokio::io::AsyncRead for Io {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Io {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}

impl Plane {
    async fn start() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let chain = vec![leaf.der().clone(), authority.der().clone()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connected, incoming) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let accepting = stop.clone();
        tokio::spawn(async move {
            let acceptor = TlsAcceptor::from(Arc::new(tls));
            loop {
                let accepted = tokio::select! {
                    () = accepting.cancelled() => return,
                    accepted = listener.accept() => accepted.unwrap().0,
                };
                if let Ok(stream) = acceptor.accept(accepted).await {
                    let _ = connected.send(Ok::<_, std::io::Error>(Io(stream))).await;
                }
            }
        });
        let ((follow, follows), (report, reports)) = (mpsc::channel(8), mpsc::channel(8));
        let serving = Server::builder()
            .add_service(ConfigSyncServer::new(Service(follow)))
            .add_service(UsageIngestServer::new(Service(report)))
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.clone().cancelled_owned());
        tokio::spawn(serving);
        let fingerprint = token::fingerprint(authority.der());
        Self { follows: Mutex::new(follows), reports: Mutex::new(reports), address, fingerprint, stop }
    }

    fn token(fingerprint: &str) -> GatewayToken {
        let entropy = std::array::from_fn(|index| u8::try_from(index).unwrap());
        GatewayToken::parse(&token::mint(TokenKind::Gateway, Some(fingerprint), &entropy).unwrap()).unwrap()
    }

    fn link(&self) -> Link {
        Link::new(&self.address.to_string(), &Self::token(&self.fingerprint)).unwrap()
    }

    async fn node(&self, directory: &std::path::Path) -> (Follower, Arc<ArcSwapOption<Runtime>>) {
        self.node_with(directory, Self::token(&self.fingerprint)).await
    }

    async fn node_with(
        &self,
        directory: &std::path::Path,
        token: GatewayToken,
    ) -> (Follower, Arc<ArcSwapOption<Runtime>>) {
        let runtime = Arc::new(ArcSwapOption::empty());
        let link = Link::new(&self.address.to_string(), &token).unwrap();
        let (node, boot, directory) = ("node".to_owned(), Uuid::now_v7(), directory.to_owned());
        let options = follow::Options { link, token, node, boot, directory };
        (follow::start(options, Arc::clone(&runtime)).await, runtime)
    }

    async fn followed(&self) -> Follows {
        timeout(PATIENCE, self.follows.lock().await.recv()).await.unwrap().unwrap()
    }

    async fn reported(&self) -> Reports {
        timeout(PATIENCE, self.reports.lock().await.recv()).await.unwrap().unwrap()
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn cursor(revision: u64) -> Cursor {
    Cursor { lineage: vec![7; 16].into(), revision }
}

fn settings(name: &str) -> Entry {
    let body = Settings { gateway: name.to_owned(), ..Settings::default() }.encode_to_vec();
    Entry { kind: Kind::Settings.into(), id: vec![1; 16].into(), revision: 1, body: body.into() }
}

/// One part that puts the settings.
fn update(from: Option<u64>, to: u64, name: &str) -> Update {
    let entry = settings(name);
    let mut hash = StateHash::default();
    hash.add(entry.kind, &entry.id, &entry.body);
    Update {
        from: from.map(cursor),
        to: Some(cursor(to)),
        reset: from.is_none(),
        put: vec![entry],
        last: true,
        state_hash: hash.to_bytes().to_vec().into(),
        ..Update::default()
    }
}

async fn until(follower: &Follower, what: impl FnMut(&Status) -> bool) -> Status {
    let mut status = follower.status();
    timeout(PATIENCE, status.wait_for(what)).await.unwrap().unwrap().clone()
}

fn revision(runtime: &ArcSwapOption<Runtime>) -> Option<u64> {
    runtime.load().as_ref().map(|runtime| runtime.revision())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_update_is_answered_with_a_plea_for_everything() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().unwrap());
    let (follower, runtime) = plane.node(directory.path()).await;
    let mut stream = plane.followed().await;
    let Some(node_message::Kind::Hello(hello)) = stream.next().await.kind else { panic!("no hello") };
    assert_eq!((hello.cursor, hello.protocol), (None, 1));
    assert_eq!(revision(&runtime), None, "without a configuration a node is not ready");
    stream.answer(update(None, 5, "a")).await;
    let Some(node_message::Kind::Ack(ack)) = stream.next().await.kind else { panic!("no ack") };
    assert_eq!((ack.cursor, ack.persisted), (Some(cursor(5)), true));
    assert_eq!(ack.state_hash, update(None, 5, "a").state_hash);

    let mut damaged = update(Some(5), 6, "b");
    damaged.put[0].body = settings("c").body;
    stream.answer(damaged).await;
    let plea = stream.next().await.kind;
    assert!(matches!(plea, Some(node_message::Kind::Reset(_))), "{plea:?}");
    assert_eq!(revision(&runtime), Some(5), "what was served is served on");
    // Nothing counts now but a reset.
    stream.answer(update(Some(5), 6, "b")).await;
    stream.answer(update(None, 7, "d")).await;
    let Some(node_message::Kind::Ack(ack)) = stream.next().await.kind else { panic!("no ack") };
    assert_eq!(ack.cursor, Some(cursor(7)));
    assert_eq!(revision(&runtime), Some(7));

    follower.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_dialled_again_from_where_the_node_stands() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().unwrap());
    let (follower, runtime) = plane.node(directory.path()).await;
    let mut stream = plane.followed().await;
    stream.next().await;
    stream.answer(update(None, 5, "a")).await;
    stream.next().await;
    drop(stream);
    let mut stream = plane.followed().await;
    let Some(node_message::Kind::Hello(hello)) = stream.next().await.kind else { panic!("no hello") };
    assert_eq!(hello.cursor, Some(cursor(5)));
    assert_eq!(hello.state_hash, update(None, 5, "a").state_hash);
    assert_eq!(revision(&runtime), Some(5));
    until(&follower, |status| status.connected).await;
    let shutdown = tokio::spawn(follower.shutdown());
    let farewell = stream.next().await.kind;
    assert!(matches!(farewell, Some(node_message::Kind::Draining(_))), "{farewell:?}");
    drop(stream);
    shutdown.await.unwrap();

    // Another process on the same disk serves before anyone answers it.
    plane.stop.cancel();
    let (follower, runtime) = plane.node(directory.path()).await;
    assert_eq!(revision(&runtime), Some(5));
    follower.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_with_another_authority_is_not_followed() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().unwrap());
    let (follower, runtime) = plane.node_with(directory.path(), Plane::token(&token::fingerprint(b"other"))).await;
    let status = until(&follower, |status| status.problem.is_some()).await;
    assert!(!status.connected, "{status:?}");
    assert_eq!(revision(&runtime), None);
    assert!(plane.follows.lock().await.try_recv().is_err(), "the token was not even shown");
    follower.shutdown().await;
}

fn record() -> Record {
    Record {
        id: Uuid::now_v7(),
        started_at_us: 1,
        endpoint_id: Uuid::from_u128(1),
        provider_id: None,
        api_key_id: Uuid::from_u128(2),
        admitted: true,
        outcome: Outcome::Answered,
        refusal: None,
        status: Some(200),
        upstream_status: None,
        requested_model: None,
        served_model: None,
        input_tokens: None,
        output_tokens: None,
        cached_input_tokens: None,
        cache_write_tokens: None,
        reasoning_tokens: None,
        input_audio_tokens: None,
        output_audio_tokens: None,
        estimated: false,
        finish_reason: None,
        tool_calls: None,
        error_type: None,
        first_token_us: None,
        duration_us: 1,
        first_byte_us: None,
        streamed: false,
        request_bytes: 0,
        response_bytes: 0,
        method: Method::POST,
        path: "/".into(),
        revision: 1,
        cost_nanos: None,
        price_version: None,
        unpriced: false,
        start: None,
        denial: None,
        exceeded: None,
        trace: None,
        attempts: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_sent_under_its_number_until_it_is_acknowledged_by_whatever_process() {
    let (plane, directory) = (Plane::start().await, tempfile::tempdir().unwrap());
    let start = async || {
        let (link, node, directory) = (plane.link(), "node".to_owned(), directory.path().to_owned());
        report::start(report::Options {
            link,
            node,
            boot: Uuid::now_v7(),
            directory,
            workers: 1,
            strict: false,
            watch: None,
        })
        .await
    };
    let (reporter, reporting) = start().await;
    reporter.record(record());
    let mut stream = plane.reported().await;
    let first = stream.next().await;
    assert_eq!((first.seq, first.records.len()), (1, 1));
    // Lost before the acknowledgement: the same again.
    drop(stream);
    let mut stream = plane.reported().await;
    assert_eq!(stream.next().await, first);
    drop(stream);
    let mut unanswered = plane.reported().await;
    let stopping = tokio::spawn(reporting.shutdown());
    assert_eq!(unanswered.next().await, first);
    stopping.await.unwrap();
    drop(unanswered);

    // The next process sends what the last one left, then its own.
    let (reporter, reporting) = start().await;
    reporter.record(record());
    let mut stream = plane.reported().await;
    assert_eq!(stream.next().await, first);
    stream.answer(UsageAck { boot: first.boot.clone(), seq: first.seq }).await;
    let second = stream.next().await;
    assert_eq!((second.seq, second.boot == first.boot), (1, false));
    stream.answer(UsageAck { boot: second.boot.clone(), seq: second.seq }).await;
    reporting.shutdown().await;
    let counters = reporter.counters();
    let read = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((read(&counters.recorded), read(&counters.committed), read(&counters.lost)), (1, 1, 0));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left to send");
}
