//! The listener that nodes dial: TCP, TLS with a leaf of the link's own authority, HTTP/2, gRPC. It decides who may
//! come in; what is said then is [`crate::stream`]'s, [`crate::intake`]'s
//! and [`crate::lease`]'s.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use proto::{
    config::config_sync_server::ConfigSyncServer, quota::quota_lease_server::QuotaLeaseServer,
    usage::usage_ingest_server::UsageIngestServer,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Status,
    metadata::MetadataMap,
    transport::{Server, server::Connected},
};

use crate::{
    events::Events,
    intake::{Intake, Keeping},
    lease::Leases,
    model::error::Error,
    publisher::Publisher,
    receipts::{Receipts, Recorder},
    seal::Keyring,
    sensitive::Sensitive,
    store::{
        Store,
        gateway::{self, Admitted},
    },
    stream::ConfigStream,
};

/// Both ways, explicitly: parts of a reset are at most 512 KiB, batches of usage a few hundred.
const MAX_MESSAGE: usize = 4 << 20;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at a time; the rest wait in the backlog.
const HANDSHAKES: usize = 256;
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nodes have to hear that this control plane stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Everything behind the listener: what publishes, what streams, what takes usage in.
#[derive(Debug)]
pub struct Link {
    publisher: Publisher,
    receipts: Receipts,
    recorder: Recorder,
    store: Store,
    events: Events,
    keeping: Keeping,
}

impl Link {
    /// Serves nothing until [`Self::run`].
    pub fn new(store: &Store, keyring: &Arc<Keyring>, events: &Events, keeping: Keeping) -> Self {
        let publisher = Publisher::new(store.clone(), keyring.clone(), events.clone());
        let (receipts, recorder) = Receipts::new(store.clone(), events.clone());
        Self { publisher, receipts, recorder, store: store.clone(), events: events.clone(), keeping }
    }

    /// Serves until stopped; then ends every stream, writes down the last receipts and returns.
    pub async fn run(self, listener: TcpListener, tls: rustls::ServerConfig, stop: CancellationToken) {
        let Self { publisher, receipts, recorder, store, events, keeping } = self;
        let streams = ConfigStream::new(store.clone(), publisher.clone(), receipts, stop.clone());
        let leases = Leases::new(store.clone(), publisher.clone(), stop.clone());
        let intake = Intake::new(store, publisher.clone(), events, keeping, stop.clone());
        let granting = leases.clone().run();
        let serving = async {
            serve(listener, tls, (streams.clone(), intake.clone(), leases.clone()), &stop).await;
            tokio::join!(streams.ended(), intake.ended(), leases.ended());
            // With the last stream goes the last end of the recorder's queue.
            drop(streams);
        };
        tokio::join!(serving, granting, publisher.run(stop.clone()), recorder.run(stop.clone()));
    }
}

async fn serve(
    listener: TcpListener,
    tls: rustls::ServerConfig,
    (streams, intake, leases): (ConfigStream, Intake, Leases),
    stop: &CancellationToken,
) {
    let (accepted, incoming) = mpsc::channel::<io::Result<Accepted>>(16);
    let accepting = accept(listener, TlsAcceptor::from(Arc::new(tls)), accepted, stop.clone());
    let streams =
        ConfigSyncServer::new(streams).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let intake =
        UsageIngestServer::new(intake).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let leases =
        QuotaLeaseServer::new(leases).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .max_concurrent_streams(16)
        .add_service(streams)
        .add_service(intake)
        .add_service(leases)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.clone().cancelled_owned());
    let bounded = async {
        tokio::pin!(serving);
        tokio::select! {
            served = &mut serving => return Some(served),
            () = stop.cancelled() => {}
        }
        timeout(FAREWELL, serving).await.ok()
    };
    let ((), served) = tokio::join!(accepting, bounded);
    if let Some(Err(error)) = served {
        tracing::error!(error = &error as &dyn std::error::Error, "serving the link failed");
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    accepted: mpsc::Sender<io::Result<Accepted>>,
    stop: CancellationToken,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let tasks = TaskTracker::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            connection = listener.accept() => match connection {
                Ok(connection) => connection,
                Err(error) => {
                    // Out of descriptors, most likely: taking a breath lets some go.
                    tracing::warn!(error = &error as &dyn std::error::Error, "a node's connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Ok(permit) = handshakes.clone().acquire_owned().await else { break };
        let (acceptor, accepted, stop) = (acceptor.clone(), accepted.clone(), stop.clone());
        tasks.spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            let handshake = timeout(HANDSHAKE, acceptor.accept(stream));
            let handshaken = tokio::select! {
                () = stop.cancelled() => return,
                handshaken = handshake => handshaken,
            };
            match handshaken {
                Ok(Ok(stream)) => {
                    // Refused only when the server is gone, and then so is this connection.
                    let _ = accepted.send(Ok(Accepted { stream, peer })).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%peer, error = &error as &dyn std::error::Error, "no tls with a node");
                }
                Err(_) => tracing::debug!(%peer, "a node's tls handshake took too long"),
            }
        });
    }
    drop(accepted);
    tasks.close();
    tasks.wait().await;
}

/// The gateway token of a request, looked up. An unreachable store is never "unauthenticated".
pub async fn admit(store: &Store, metadata: &MetadataMap) -> Result<Admitted, Status> {
    let token = metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(|| Status::unauthenticated("a gateway token is required"))?;
    match gateway::admit(store, &Sensitive::new(token.to_owned())).await {
        Ok(Some(admitted)) => Ok(admitted),
        Ok(None) => Err(Status::unauthenticated("the gateway token is unknown, revoked or expired")),
        Err(error) => Err(unavailable(&error)),
    }
}

/// The store failed: the node keeps what it has and comes back.
pub fn unavailable(error: &Error) -> Status {
    tracing::warn!(?error, "a node could not be served");
    Status::unavailable("the control plane's store does not answer")
}

/// A connection after its handshake.
struct Accepted {
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
}

impl Connected for Accepted {
    type ConnectInfo = SocketAddr;

    fn connect_info(&self) -> SocketAddr {
        self.peer
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
