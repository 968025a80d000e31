//! Plays the control plane for one node: gives it a configuration of any size over the real link, and takes its usage.
//! Making a hundred thousand keys through the REST API would take longer than everything else together; what the node
//! does with them is the same.

pub(crate) mod configuration;

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use data_plane::link::SERVER_NAME;
use proto::{
    config::{
        NodeMessage, Update,
        config_sync_server::{ConfigSync, ConfigSyncServer},
        node_message,
    },
    token::{self, TokenKind},
    usage::{
        UsageAck, UsageBatch,
        usage_ingest_server::{UsageIngest, UsageIngestServer},
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use self::configuration::Size;
use crate::process;

/// Serves until its input is closed. Says its address and the gateway token that opens it.
pub(crate) async fn serve(upstream: SocketAddr, size: Size) -> anyhow::Result<()> {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![SERVER_NAME.to_owned()])?.signed_by(&key, &authority)?;
    let chain = vec![leaf.der().clone(), authority.der().clone()];
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into())?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let fingerprint = token::fingerprint(authority.der());
    // It opens nothing but this process.
    let token = token::mint(TokenKind::Gateway, Some(&fingerprint), &configuration::entropy(usize::MAX))
        .ok_or_else(|| anyhow::anyhow!("no token from this entropy"))?;
    println!("{} {token}", listener.local_addr()?);
    let (connected, incoming) = mpsc::channel(8);
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            if let Ok(stream) = acceptor.accept(stream).await {
                let _ = connected.send(Ok::<_, std::io::Error>(Io(stream))).await;
            }
        }
    });
    Server::builder()
        .add_service(ConfigSyncServer::new(Follow { upstream, size }))
        .add_service(UsageIngestServer::new(Ingest))
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), process::until_left_alone())
        .await?;
    Ok(())
}

struct Follow {
    upstream: SocketAddr,
    size: Size,
}

#[tonic::async_trait]
impl ConfigSync for Follow {
    type StreamStream = ReceiverStream<Result<Update, Status>>;

    async fn stream(&self, request: Request<Streaming<NodeMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        let mut said = request.into_inner();
        let Some(NodeMessage { kind: Some(node_message::Kind::Hello(hello)) }) = said.message().await? else {
            return Err(Status::invalid_argument("a stream begins with a hello"));
        };
        let (answers, stream) = mpsc::channel(4);
        let (upstream, size) = (self.upstream, self.size);
        // A node that comes back has it all: there is one configuration, and it never changes.
        if hello.cursor.as_ref() != Some(&configuration::cursor()) {
            let answers = answers.clone();
            tokio::task::spawn_blocking(move || {
                configuration::parts(upstream, size, |part| answers.blocking_send(Ok(part)).is_ok());
            });
        }
        tokio::spawn(async move {
            // Held so that the stream stays open.
            let _answers = answers;
            while let Ok(Some(message)) = said.message().await {
                match message.kind {
                    Some(node_message::Kind::Ack(ack)) if !ack.rejected.is_empty() => {
                        eprintln!("feeder: the node rejects {} resources: {:?}", ack.rejected.len(), ack.rejected[0]);
                    }
                    Some(node_message::Kind::Reset(reset)) => {
                        eprintln!("feeder: the node wants a reset: {}", reset.reason);
                    }
                    _ => {}
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// Takes usage as the ledger does, without the ledger.
struct Ingest;

#[tonic::async_trait]
impl UsageIngest for Ingest {
    type ReportStream = ReceiverStream<Result<UsageAck, Status>>;

    async fn report(&self, request: Request<Streaming<UsageBatch>>) -> Result<Response<Self::ReportStream>, Status> {
        let (acks, stream) = mpsc::channel(8);
        let mut batches = request.into_inner();
        tokio::spawn(async move {
            while let Ok(Some(UsageBatch { boot, seq, .. })) = batches.message().await {
                if acks.send(Ok(UsageAck { boot, seq })).await.is_err() {
                    break;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// TLS as `tonic` takes it.
struct Io(TlsStream<TcpStream>);

impl tonic::transport::server::Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
