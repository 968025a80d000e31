//! One stream per node: hello, then updates one way and acknowledgements the other.
//!
//! It decides what a node is sent next and when to give it up. Only the newest configuration matters: there is no
//! queue, at most one update is under way (two when something is taken away), and a slow node skips what lies between.

mod outbox;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use proto::{
    config::{Ack, Hello, NodeMessage, Rejection, Update, config_sync_server::ConfigSync, node_message},
    state::StateHash,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use self::outbox::Outbox;
use crate::{
    link,
    model::node::{NodeStatus, Rejected},
    publisher::{Plan, Published, Publisher, Standing},
    receipts::Receipts,
    snapshot,
    store::{
        Store,
        gateway::Admitted,
        microseconds,
        node::{self, Arrival, News, Receipt},
        now,
    },
};

const PROTOCOL: u32 = 1;
const HELLO: Duration = Duration::from_secs(10);
/// From the last part on its way to its acknowledgement.
const ACK: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Resets under way at a time: each holds a few parts in memory. The other nodes serve what they have meanwhile.
const RESETS: usize = 64;
/// Parts between this task and the socket.
const PARTS: usize = 2;
const LONGEST_NAME: usize = 253;

/// The service that nodes stream from.
#[derive(Clone, Debug)]
pub struct ConfigStream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    publisher: Publisher,
    receipts: Receipts,
    resets: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl ConfigStream {
    /// Streams end when `stop` is cancelled; await them with [`Self::ended`].
    pub fn new(store: Store, publisher: Publisher, receipts: Receipts, stop: CancellationToken) -> Self {
        let resets = Arc::new(Semaphore::new(RESETS));
        Self(Arc::new(Inner { store, publisher, receipts, resets, tasks: TaskTracker::new(), stop }))
    }

    /// Returns when the last stream has ended, after the listener stopped.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

#[tonic::async_trait]
impl ConfigSync for ConfigStream {
    type StreamStream = ReceiverStream<Result<Update, Status>>;

    async fn stream(&self, request: Request<Streaming<NodeMessage>>) -> Result<Response<Self::StreamStream>, Status> {
        let admission = link::admit(&self.0.store, request.metadata()).await?;
        self.0.publisher.vouch(admission.token_id);
        let (outgoing, updates) = mpsc::channel(PARTS);
        let opening = Opening { link: self.0.clone(), admission, inbound: request.into_inner(), outgoing };
        self.0.tasks.spawn(opening.run());
        Ok(Response::new(ReceiverStream::new(updates)))
    }
}

/// A stream before its hello.
struct Opening {
    link: Arc<Inner>,
    admission: Admitted,
    inbound: Streaming<NodeMessage>,
    outgoing: mpsc::Sender<Result<Update, Status>>,
}

impl Opening {
    async fn run(self) {
        let outgoing = self.outgoing.clone();
        let stop = self.link.stop.clone();
        let opened = tokio::select! {
            () = stop.cancelled() => Err(stopping()),
            opened = self.open() => opened,
        };
        let ended = match opened {
            Ok(session) => session.run(&stop).await,
            Err(status) => Err(status),
        };
        if let Err(status) = ended {
            // Given up after a moment: whoever does not read its updates does not read this either.
            let _ = timeout(Duration::from_secs(1), outgoing.send(Err(status))).await;
        }
    }

    async fn open(self) -> Result<Session, Status> {
        let Self { link, admission, mut inbound, outgoing } = self;
        let first =
            timeout(HELLO, inbound.message()).await.map_err(|_| Status::deadline_exceeded("no hello came"))??;
        let Some(NodeMessage { kind: Some(node_message::Kind::Hello(hello)) }) = first else {
            return Err(Status::invalid_argument("the first message must be a hello"));
        };
        let Hello { node: name, boot, version, cursor, state_hash, pinned: _, protocol } = hello;
        if protocol != PROTOCOL {
            return Err(Status::failed_precondition(format!("protocol {protocol} is not spoken here, {PROTOCOL} is")));
        }
        let boot = Uuid::from_slice(&boot).map_err(|_| Status::invalid_argument("boot is no uuid"))?;
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(Status::invalid_argument("the node's name is empty, too long or not text"));
        }
        let standing = cursor.and_then(|cursor| {
            let lineage = Uuid::from_slice(&cursor.lineage).ok()?;
            Some(Standing { lineage, revision: cursor.revision, hash: StateHash::from_bytes(&state_hash)? })
        });
        let ours = standing.filter(|standing| standing.lineage == link.store.lineage());
        let connection = Uuid::now_v7();
        let arrival = Arrival {
            organization_id: admission.organization_id,
            gateway_id: admission.gateway_id,
            token_id: admission.token_id,
            name: &name,
            boot,
            version: version.get(..64).unwrap_or(&version),
            connection,
            revision: ours.and_then(|standing| i64::try_from(standing.revision).ok()).unwrap_or(0),
        };
        let node = node::arrive(&link.store, &arrival, now()).await.map_err(|error| link::unavailable(&error))?;
        tracing::info!(gateway.name = admission.gateway, node.name = name, version, "a node follows");
        let feed = link.publisher.subscribe(admission.organization_id, admission.gateway_id);
        let tokens = link.publisher.tokens();
        let session = Session {
            link,
            admission,
            node,
            name,
            connection,
            inbound,
            outgoing,
            feed,
            tokens,
            standing,
            greeted: false,
            outbox: None,
            unacked: VecDeque::new(),
            deadline: None,
            reset_permit: None,
        };
        session.receipt(News::Status(NodeStatus::Connected));
        Ok(session)
    }
}

struct Session {
    link: Arc<Inner>,
    admission: Admitted,
    node: crate::model::id::NodeId,
    name: String,
    connection: Uuid,
    inbound: Streaming<NodeMessage>,
    outgoing: mpsc::Sender<Result<Update, Status>>,
    feed: watch::Receiver<Option<Arc<Published>>>,
    tokens: watch::Receiver<Arc<std::collections::BTreeSet<Uuid>>>,
    /// Where the node will stand once it has taken all that was sent; `None`: it needs a reset.
    standing: Option<Standing>,
    /// The first update was sent: even one that changes nothing, for its acknowledgement says what the node rejects.
    greeted: bool,
    outbox: Option<Outbox>,
    unacked: VecDeque<Standing>,
    /// For the acknowledgement of what is under way.
    deadline: Option<Instant>,
    reset_permit: Option<OwnedSemaphorePermit>,
}

impl Session {
    async fn run(mut self, stop: &CancellationToken) -> Result<(), Status> {
        let ended = self.follow(stop).await;
        let status = match &ended {
            Err(status) if status.code() == tonic::Code::DeadlineExceeded => NodeStatus::Stale,
            _ => NodeStatus::Disconnected,
        };
        self.receipt(News::Status(status));
        let why = ended.as_ref().err().map_or("the node left", Status::message);
        tracing::info!(
            gateway.name = self.admission.gateway,
            node.name = self.name,
            status = status.as_str(),
            "a node's stream ended: {why}"
        );
        ended
    }

    async fn follow(&mut self, stop: &CancellationToken) -> Result<(), Status> {
        let outgoing = self.outgoing.clone();
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        heartbeat.reset();
        loop {
            let waits_for_reset = self.prepare().await;
            let forever = Instant::now() + Duration::from_hours(1);
            let deadline = self.deadline.unwrap_or(forever);
            tokio::select! {
                () = stop.cancelled() => return Err(stopping()),
                changed = self.tokens.changed() => {
                    let live = changed.is_ok() && self.tokens.borrow_and_update().contains(&self.admission.token_id);
                    if !live {
                        return Err(Status::unauthenticated("the gateway token was revoked or has expired"));
                    }
                }
                message = self.inbound.message() => match message? {
                    Some(message) => self.hear(message)?,
                    None => return Ok(()),
                },
                permit = outgoing.reserve(), if self.outbox.is_some() => {
                    let permit = permit.map_err(|_| Status::cancelled("the node left"))?;
                    if let Some(outbox) = &mut self.outbox {
                        let part = outbox.next();
                        let last = part.last;
                        permit.send(Ok(part));
                        self.deadline = Some(Instant::now() + ACK);
                        if last {
                            self.outbox = None;
                        }
                    }
                }
                changed = self.feed.changed() => if changed.is_err() { return Err(stopping()) },
                () = tokio::time::sleep(waits_for_reset.unwrap_or(ACK)), if waits_for_reset.is_some() => {}
                () = tokio::time::sleep_until(deadline), if self.deadline.is_some() => {
                    return Err(Status::deadline_exceeded("the node did not acknowledge in time"));
                }
                _ = heartbeat.tick() => self.receipt(News::Seen),
            }
        }
    }

    /// Starts the next update if one is due. Returns a pause where too many resets are under way.
    async fn prepare(&mut self) -> Option<Duration> {
        if self.outbox.is_some() {
            return None;
        }
        let published = self.feed.borrow_and_update().clone()?;
        let outbox = match published.plan(self.standing.as_ref()) {
            Plan::Nothing if self.greeted => return None,
            Plan::Nothing => self.delta(published, crate::publisher::Delta::default())?,
            Plan::Delta(delta) => self.delta(published, delta)?,
            Plan::Reset(reason) => match self.reset(published, reason) {
                Ok(outbox) => outbox?,
                Err(pause) => return Some(pause),
            },
            Plan::Unknown => {
                if !self.unacked.is_empty() {
                    return None;
                }
                let since = self.standing.map_or(0, |standing| standing.revision);
                match self.link.publisher.changed_since(&published, since).await {
                    Ok(Some(delta)) => self.delta(published, delta)?,
                    Ok(None) => match self.reset(published, "the node is too far behind") {
                        Ok(outbox) => outbox?,
                        Err(pause) => return Some(pause),
                    },
                    Err(error) => {
                        tracing::warn!(?error, "the change log could not be read");
                        return Some(Duration::from_secs(1));
                    }
                }
            }
        };
        self.greeted = true;
        self.standing = Some(outbox.to());
        self.unacked.push_back(outbox.to());
        self.deadline = Some(Instant::now() + ACK);
        self.outbox = Some(outbox);
        None
    }

    fn delta(&self, published: Arc<Published>, delta: crate::publisher::Delta) -> Option<Outbox> {
        let room = if delta.urgent { 2 } else { 1 };
        let standing = self.standing.as_ref()?;
        (self.unacked.len() < room).then(|| Outbox::delta(published, standing, delta))
    }

    fn reset(&mut self, published: Arc<Published>, reason: &str) -> Result<Option<Outbox>, Duration> {
        if !self.unacked.is_empty() {
            return Ok(None);
        }
        if self.reset_permit.is_none() {
            match self.link.resets.clone().try_acquire_owned() {
                Ok(permit) => self.reset_permit = Some(permit),
                Err(_) => return Err(Duration::from_millis(50 + u64::from(self.connection.as_bytes()[15]))),
            }
        }
        tracing::info!(
            gateway.name = self.admission.gateway,
            node.name = self.name,
            reason,
            "a node gets the whole configuration"
        );
        Ok(Some(Outbox::reset(published)))
    }

    fn hear(&mut self, message: NodeMessage) -> Result<(), Status> {
        match message.kind {
            Some(node_message::Kind::Ack(ack)) => self.acknowledged(ack),
            Some(node_message::Kind::Reset(reset)) => {
                tracing::warn!(
                    gateway.name = self.admission.gateway,
                    node.name = self.name,
                    "a node asks for the whole configuration: {:.200}",
                    reset.reason
                );
                self.start_over();
                Ok(())
            }
            Some(node_message::Kind::Draining(_)) => {
                self.receipt(News::Status(NodeStatus::Draining));
                Ok(())
            }
            Some(node_message::Kind::Hello(_)) => Err(Status::invalid_argument("a second hello")),
            // From a newer node.
            None => Ok(()),
        }
    }

    fn start_over(&mut self) {
        self.standing = None;
        self.outbox = None;
        self.unacked.clear();
        self.deadline = None;
    }

    fn acknowledged(&mut self, ack: Ack) -> Result<(), Status> {
        let Ack { cursor, state_hash, rejected, apply_us, persisted } = ack;
        let malformed = || Status::invalid_argument("a malformed acknowledgement");
        let cursor = cursor.ok_or_else(malformed)?;
        let lineage = Uuid::from_slice(&cursor.lineage).map_err(|_| malformed())?;
        let hash = StateHash::from_bytes(&state_hash).ok_or_else(malformed)?;
        let stands = Standing { lineage, revision: cursor.revision, hash };
        let Some(expected) = self.unacked.front().copied() else {
            // Of an update that this stream gave up when the node asked for a reset.
            return Ok(());
        };
        if stands != expected {
            if self.standing.is_some_and(|standing| standing.revision < stands.revision) || lineage != expected.lineage
            {
                return Err(Status::invalid_argument("an acknowledgement of what was never sent"));
            }
            tracing::warn!(
                gateway.name = self.admission.gateway,
                node.name = self.name,
                "a node's state differs from what it was sent"
            );
            self.start_over();
            return Ok(());
        }
        self.unacked.pop_front();
        if self.unacked.is_empty() && self.outbox.is_none() {
            self.deadline = None;
            self.reset_permit = None;
        }
        let at = now();
        let revision = i64::try_from(stands.revision).map_err(|_| malformed())?;
        let rejected = rejected.into_iter().filter_map(|rejection| rejected_from_wire(rejection, microseconds(at)));
        tracing::debug!(
            gateway.name = self.admission.gateway,
            node.name = self.name,
            revision,
            apply_us,
            "a node serves a revision"
        );
        self.receipt(News::Applied { revision, rejected: rejected.collect(), persisted });
        Ok(())
    }

    fn receipt(&self, news: News) {
        self.link.receipts.record(Receipt {
            node: self.node,
            organization_id: self.admission.organization_id,
            gateway_id: self.admission.gateway_id,
            gateway_name: self.admission.gateway.clone(),
            name: self.name.clone(),
            connection: self.connection,
            at: now(),
            news,
        });
    }
}

fn stopping() -> Status {
    Status::unavailable("the control plane is stopping")
}

fn rejected_from_wire(rejection: Rejection, since_us: i64) -> Option<Rejected> {
    let Rejection { kind, id, revision, pointer, code, message } = rejection;
    Some(Rejected {
        kind: snapshot::kind_from_wire(kind).map_or("unknown", crate::store::change::Kind::as_str).to_owned(),
        id: Uuid::from_slice(&id).ok()?,
        revision: i64::try_from(revision).ok()?,
        pointer,
        code,
        message,
        since_us,
    })
}
