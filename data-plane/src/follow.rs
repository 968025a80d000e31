//! Follows the control plane: one stream over which configuration comes and acknowledgements go.
//!
//! It decides when to dial, what to ask for and when an update is served; it does not know what a configuration means
//! (that is [`crate::runtime`]). A node starts from its last known good configuration *before* it dials, and nothing
//! that happens on the link can take away what it serves.

mod applier;
mod last_good;
mod replica;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use proto::config::{NodeMessage, Reset, Update, config_sync_client::ConfigSyncClient, node_message};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Streaming};
use uuid::Uuid;

pub use self::replica::Position;
use self::{
    applier::{Applier, ApplyError},
    last_good::LastGood,
    replica::{Assembly, Change, Fault},
};
use crate::{
    link::{GatewayToken, Link, LinkError, MAX_MESSAGE, backoff::Backoff},
    runtime::Runtime,
};

/// The control plane answers a stream at once; this is for one that accepts and then says nothing.
const OPEN: Duration = Duration::from_secs(10);
/// How long a stopping node waits for the control plane to take its last word.
const FAREWELL: Duration = Duration::from_millis(500);

/// What following needs.
#[derive(Debug)]
pub struct Options {
    /// The way to the control plane.
    pub link: Link,
    /// Seals the file on disk.
    pub token: GatewayToken,
    /// Name of the node, unique within its gateway; a restart keeps it.
    pub node: String,
    /// New at every start of the process.
    pub boot: Uuid,
    /// Where the last known good configuration lies; made when it is first written.
    pub directory: PathBuf,
}

/// How the link is doing, for readiness, metrics and people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The stream is open.
    pub connected: bool,
    /// What is served; `None`: nothing yet, the node is not ready.
    pub position: Option<Position>,
    /// The last acknowledgement named resources that are served in an older form or not at all.
    pub rejected: usize,
    /// `false`: the last update is served but not on disk.
    pub persisted: bool,
    /// When what is served was applied by this process; `None`: nothing was.
    pub applied_at: Option<Instant>,
    /// When the control plane was heard last; `None`: never. While connected, the link's own pings prove contact.
    pub contact_at: Option<Instant>,
    /// Why the last stream ended; `None` while all is well.
    pub problem: Option<String>,
}

/// The task that follows. Dropping it leaves the task running; stop it with [`Self::shutdown`].
#[derive(Debug)]
pub struct Follower {
    status: watch::Receiver<Status>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Follower {
    /// Changes whenever anything in it does.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Says goodbye to the control plane and ends the task. What is served stays served.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("following the control plane ended in a panic");
        }
    }
}

/// Why one stream ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the control plane does not take the gateway token: {0}")]
    Token(String),
    #[error("the control plane ended the stream: {0}")]
    Ended(String),
    #[error("the control plane did not open the stream in time")]
    Silent,
    #[error("a reset could not be applied")]
    Reset(#[source] Fault),
    #[error("an update could not be served")]
    Apply(#[source] ApplyError),
    #[error("the task that applies updates is gone")]
    Applier,
}

/// A node's configuration as it was left on disk, before anyone has been asked for a newer one.
pub(crate) struct Restored {
    link: Link,
    node: String,
    boot: Uuid,
    /// `None`: reading it panicked.
    applier: Option<(Applier, Option<Position>)>,
}

/// Puts the last known good configuration, if there is one, into `runtime`, the pointer that requests read; `None` in it
/// means that this node is not ready.
pub(crate) async fn restore(options: Options, runtime: Arc<ArcSwapOption<Runtime>>) -> Restored {
    let Options { link, token, node, boot, directory } = options;
    let applier = Applier::new(LastGood::new(directory, token), runtime);
    let restored = tokio::task::spawn_blocking(move || {
        let mut applier = applier;
        let position = applier.restore();
        (applier, position)
    })
    .await;
    Restored { link, node, boot, applier: restored.ok() }
}

impl Restored {
    /// Follows the control plane until stopped.
    pub(crate) fn follow(self) -> Follower {
        let Self { link, node, boot, applier } = self;
        let (sender, status) = watch::channel(Status { persisted: true, ..Status::default() });
        let stop = CancellationToken::new();
        let following = stop.clone();
        let task = tokio::spawn(async move {
            let Some((applier, position)) = applier else {
                tracing::error!("reading the last known good configuration panicked; this node cannot follow");
                return;
            };
            if let Some(position) = position {
                tracing::info!(revision = position.revision, "serving the last known good configuration");
            } else {
                tracing::info!("no last known good configuration; not ready until the control plane answers");
            }
            sender.send_modify(|status| {
                status.position = position;
                status.applied_at = position.map(|_| Instant::now());
            });
            let mut session = Session { link, node, boot, applier: Some(applier), status: sender };
            session.run(&following).await;
        });
        Follower { status, stop, task }
    }
}

/// Serves the last known good configuration, if there is one, and then follows the control plane until stopped.
pub async fn start(options: Options, runtime: Arc<ArcSwapOption<Runtime>>) -> Follower {
    restore(options, runtime).await.follow()
}

struct Session {
    link: Link,
    node: String,
    boot: Uuid,
    /// Away only while a blocking thread has it.
    applier: Option<Applier>,
    status: watch::Sender<Status>,
}

impl Session {
    async fn run(&mut self, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            let started = Instant::now();
            let ended = self.follow(stop).await;
            self.status.send_modify(|status| {
                if status.connected {
                    status.contact_at = Some(Instant::now());
                }
                status.connected = false;
            });
            let Err(error) = ended else { return };
            let pause = backoff.since(started);
            let problem = chain(&error);
            tracing::warn!(address = self.link.address(), retry_ms = pause.as_millis(), "not following: {problem}");
            self.status.send_modify(|status| status.problem = Some(problem));
            if matches!(error, SessionError::Applier) {
                return;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One stream from dialling to its end; `Ok` when stopped.
    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), SessionError> {
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = self.open() => opened,
        };
        let (outgoing, mut updates) = opened?;
        self.status.send_modify(|status| {
            status.connected = true;
            status.contact_at = Some(Instant::now());
            status.problem = None;
        });
        tracing::info!(address = self.link.address(), "following the control plane");
        let mut assembly = Assembly::default();
        // After a fault nothing but a reset counts.
        let mut waiting_for_reset = false;
        loop {
            let update = tokio::select! {
                () = stop.cancelled() => {
                    farewell(outgoing, updates).await;
                    return Ok(());
                }
                update = updates.message() => update.map_err(|status| session_error(&status))?,
            };
            let Some(update) = update else { return Err(SessionError::Ended("end of stream".to_owned())) };
            if waiting_for_reset && !update.reset {
                continue;
            }
            let resets = update.reset;
            let fault = match assembly.take(update) {
                Ok(None) => continue,
                Ok(Some(change)) => match self.apply(change).await? {
                    Ok(message) => {
                        waiting_for_reset = false;
                        send(&outgoing, message).await?;
                        continue;
                    }
                    Err(fault) => fault,
                },
                Err(fault) => fault,
            };
            if resets {
                return Err(SessionError::Reset(fault));
            }
            tracing::warn!("asking the control plane for everything: {fault}");
            waiting_for_reset = true;
            let reset = Reset { reason: fault.to_string() };
            send(&outgoing, node_message::Kind::Reset(reset)).await?;
        }
    }

    async fn open(&mut self) -> Result<(mpsc::Sender<NodeMessage>, Streaming<Update>), SessionError> {
        let hello = self.applier.as_ref().ok_or(SessionError::Applier)?.hello(&self.node, self.boot);
        let channel = self.link.connect().await?;
        let mut client = ConfigSyncClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let (outgoing, messages) = mpsc::channel(8);
        send(&outgoing, node_message::Kind::Hello(hello)).await?;
        let request = self.link.request(ReceiverStream::new(messages));
        let answer = timeout(OPEN, client.stream(request)).await.map_err(|_| SessionError::Silent)?;
        let updates = answer.map_err(|status| session_error(&status))?.into_inner();
        Ok((outgoing, updates))
    }

    /// Applies on a blocking thread. Never abandoned half-way: what is served and what is remembered change together.
    async fn apply(&mut self, change: Change) -> Result<Result<node_message::Kind, Fault>, SessionError> {
        let mut applier = self.applier.take().ok_or(SessionError::Applier)?;
        let applied = tokio::task::spawn_blocking(move || {
            let applied = applier.apply(change);
            (applier, applied)
        });
        let (applier, applied) = applied.await.map_err(|_| SessionError::Applier)?;
        let position = applier.position();
        self.applier = Some(applier);
        match applied {
            Ok(ack) => {
                self.status.send_modify(|status| {
                    status.position = position;
                    status.applied_at = Some(Instant::now());
                    status.rejected = ack.rejected.len();
                    status.persisted = ack.persisted;
                });
                Ok(Ok(node_message::Kind::Ack(ack)))
            }
            Err(ApplyError::Fault(fault)) => Ok(Err(fault)),
            Err(error @ ApplyError::Panicked) => Err(SessionError::Apply(error)),
        }
    }
}

async fn send(outgoing: &mpsc::Sender<NodeMessage>, kind: node_message::Kind) -> Result<(), SessionError> {
    let message = NodeMessage { kind: Some(kind) };
    outgoing.send(message).await.map_err(|_| SessionError::Ended("the stream closed".to_owned()))
}

/// Tells the control plane that this node stops, and gives it a moment to hear it.
async fn farewell(outgoing: mpsc::Sender<NodeMessage>, mut updates: Streaming<Update>) {
    let draining = node_message::Kind::Draining(proto::config::Draining {});
    if send(&outgoing, draining).await.is_err() {
        return;
    }
    drop(outgoing);
    let ended = async { while let Ok(Some(_)) = updates.message().await {} };
    // Being late only means that the control plane calls this node disconnected rather than draining.
    let _ = timeout(FAREWELL, ended).await;
}

fn session_error(status: &tonic::Status) -> SessionError {
    match status.code() {
        Code::Unauthenticated => SessionError::Token(status.message().to_owned()),
        code => SessionError::Ended(format!("{code:?}: {}", status.message())),
    }
}

/// The error and its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        source = error.source();
    }
    text
}
