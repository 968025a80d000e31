//! Limits that hold over all nodes: one stream on which this node says what it uses and wants of each, and hears what
//! it may use. What that means for a count is [`crate::limit::lease`]'s; who is asked, when and how often is decided here.
//!
//! Only limits that requests have met are spoken of. Without a stream every limit goes by what was heard last.

mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use proto::quota::quota_lease_client::QuotaLeaseClient;
use proto::quota::{LeaseGrant, LeaseRequest};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use uuid::Uuid;

use crate::limit::board::Board;
use crate::limit::lease::Answers;
use crate::limit::meter::{Meter, Now, RENEWAL};
use crate::link::backoff::Backoff;
use crate::link::{Link, LinkError, MAX_MESSAGE};

const OPEN: Duration = Duration::from_secs(10);
/// Nothing was heard for so long, though something was said every [`RENEWAL`].
const SILENCE: Duration = Duration::from_secs(8);
/// Who asks for something waits so long for the answer before others are asked for.
const ANSWER: Duration = Duration::from_millis(250);
/// How long a stopping node tries to give back what it holds.
const FAREWELL: Duration = Duration::from_millis(500);
/// Limits in one message.
const MOST: usize = 2048;
const MESSAGES: usize = 16;

/// What sharing limits needs.
#[derive(Debug)]
pub struct Options {
    /// The way to the control plane.
    pub link: Link,
    /// Name of the node.
    pub node: String,
    /// New at every start of the process; later ones sort after earlier ones (`UUIDv7`).
    pub boot: Uuid,
    /// Where requests say what they need.
    pub board: Arc<Board>,
}

/// The task that speaks to the control plane.
#[derive(Debug)]
pub struct Leasing {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Leasing {
    /// Gives back what is held and ends the task. Call it when no request runs any more.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if self.task.await.is_err() {
            tracing::error!("sharing limits ended in a panic");
        }
    }
}

/// Starts to share limits with other nodes.
pub fn start(options: Options) -> Leasing {
    let stop = CancellationToken::new();
    let Options { link, node, boot, board } = options;
    let session = Session { link, node, boot, board, meters: HashMap::new(), seq: 0, sent: VecDeque::new() };
    let task = tokio::spawn(session.run(stop.clone()));
    Leasing { stop, task }
}

/// Why one stream ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the control plane ended the stream: {0}")]
    Ended(String),
    #[error("the control plane did not answer in time")]
    Silent,
    #[error("another control plane grants shares")]
    Follows,
}

struct Session {
    link: Link,
    node: String,
    boot: Uuid,
    board: Arc<Board>,
    /// Of which the control plane is told, by the digest of their rules.
    meters: HashMap<[u8; 16], Arc<Meter>>,
    /// Of the newest message of this stream.
    seq: u64,
    /// When messages were sent that are not answered yet, or were answered last.
    sent: VecDeque<(u64, Instant)>,
}

impl Session {
    async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            let started = Instant::now();
            let ended = self.speak(&stop).await;
            self.board.reaches(false);
            let Err(error) = ended else { return };
            let pause = backoff.since(started);
            tracing::debug!(retry_ms = pause.as_millis(), "limits go by what was heard last: {error}");
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One stream; `Ok` when stopped.
    async fn speak(&mut self, stop: &CancellationToken) -> Result<(), SessionError> {
        let opened = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            opened = self.open() => opened,
        };
        let (messages, mut grants) = opened?;
        (self.seq, self.sent) = (0, VecDeque::new());
        for meter in self.meters.values() {
            meter.with_lease(crate::limit::lease::Lease::reconnect);
        }
        let mut tick = interval(RENEWAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut heard, mut asked): (Instant, Option<Instant>) = (Instant::now(), None);
        loop {
            let board = Arc::clone(&self.board);
            tokio::select! {
                () = stop.cancelled() => {
                    self.farewell(messages, grants).await;
                    return Ok(());
                }
                grant = grants.message() => {
                    match grant {
                        Ok(Some(grant)) => {
                            (heard, asked) = (Instant::now(), None);
                            self.hear(grant)?;
                            self.board.reaches(true);
                        }
                        Ok(None) => return Err(SessionError::Ended("end of stream".to_owned())),
                        Err(status) => {
                            let text = format!("{:?}: {}", status.code(), status.message());
                            return Err(SessionError::Ended(text));
                        }
                    }
                }
                () = board.news(), if asked.is_none() => {
                    let listed = self.board.take();
                    if !listed.is_empty() {
                        self.enrol(&listed);
                        self.tell(&messages, listed.iter(), false).await?;
                        asked = Some(Instant::now());
                    }
                }
                // What came meanwhile goes out with the next message.
                () = tokio::time::sleep(ANSWER), if asked.is_some() => {
                    asked = None;
                    self.board.nudge();
                }
                _ = tick.tick() => {
                    if heard.elapsed() > SILENCE {
                        return Err(SessionError::Silent);
                    }
                    self.enrol(&self.board.take());
                    let all: Vec<_> = self.meters.values().cloned().collect();
                    self.tell(&messages, all.iter(), false).await?;
                    self.forget();
                }
            }
        }
    }

    async fn open(&self) -> Result<(mpsc::Sender<LeaseRequest>, Streaming<LeaseGrant>), SessionError> {
        let channel = self.link.connect().await?;
        let mut client = QuotaLeaseClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE);
        let (messages, outgoing) = mpsc::channel(MESSAGES);
        let request = self.link.request(ReceiverStream::new(outgoing));
        let answer = timeout(OPEN, client.stream(request)).await.map_err(|_| SessionError::Silent)?;
        let grants = answer.map_err(|status| SessionError::Ended(status.to_string()))?.into_inner();
        Ok((messages, grants))
    }

    /// From now on they are spoken of.
    fn enrol(&mut self, meters: &[Arc<Meter>]) {
        for meter in meters {
            if let Some(digest) = meter.with_lease(|lease| wire::digest(&lease.identity)) {
                self.meters.entry(digest).or_insert_with(|| Arc::clone(meter));
            }
        }
        self.board.counters.shared.store(self.meters.len() as u64, Ordering::Relaxed);
    }

    /// Those of which nothing is held and nothing wanted are not spoken of any more.
    fn forget(&mut self) {
        self.meters.retain(|_, meter| meter.with_lease(|lease| !lease.is_over()).unwrap_or_default());
        self.board.counters.shared.store(self.meters.len() as u64, Ordering::Relaxed);
    }

    /// Says how things stand with these; an empty message says that the node is there.
    async fn tell(
        &mut self,
        messages: &mpsc::Sender<LeaseRequest>,
        meters: impl Iterator<Item = &Arc<Meter>>,
        goodbye: bool,
    ) -> Result<(), SessionError> {
        let mut meters = meters.peekable();
        loop {
            self.seq += 1;
            let now = self.now();
            let mut message = LeaseRequest {
                node: self.node.clone(),
                boot: self.boot.as_bytes().to_vec().into(),
                seq: self.seq,
                ..LeaseRequest::default()
            };
            for meter in meters.by_ref() {
                if let Some((identity, told)) = meter.tell(self.seq, goodbye, now) {
                    wire::put(&mut message, &identity, told);
                }
                if message.shares.len() + message.purses.len() >= MOST {
                    break;
                }
            }
            let last = meters.peek().is_none();
            message.goodbye = goodbye && last;
            self.sent.push_back((self.seq, Instant::now()));
            let sent = messages.send(message).await;
            sent.map_err(|_| SessionError::Ended("the stream closed".to_owned()))?;
            if last {
                return Ok(());
            }
        }
    }

    fn hear(&mut self, grant: LeaseGrant) -> Result<(), SessionError> {
        let LeaseGrant { seq, leads, listens, shares, purses } = grant;
        while self.sent.front().is_some_and(|(sent, _)| *sent < seq) {
            self.sent.pop_front();
        }
        let Some(sent) = self.sent.front().filter(|(sent, _)| *sent == seq).map(|(_, at)| *at) else {
            return Err(SessionError::Ended(format!("it answers message {seq}, which was not sent")));
        };
        let now = self.now();
        let to = Answers { seq, sent: self.board.at(sent, 0).since, listens };
        for share in shares {
            let Some((digest, grant)) = wire::share(share) else { continue };
            if let Some(meter) = self.meters.get(&digest)
                && meter.hear_share(grant, to, now)
            {
                // Only what it answers is believed of a node.
                self.board.list(meter);
            }
        }
        for purse in purses {
            let (digest, grant) = wire::part(purse)?;
            if let Some(meter) = self.meters.get(&digest) {
                meter.hear_part(grant, to, now);
            }
        }
        let shares =
            || self.meters.values().any(|meter| meter.with_lease(|lease| lease.is_share()).unwrap_or_default());
        if !leads && shares() {
            return Err(SessionError::Follows);
        }
        Ok(())
    }

    /// Gives back what is held, and waits a moment until that was heard.
    async fn farewell(&mut self, messages: mpsc::Sender<LeaseRequest>, mut grants: Streaming<LeaseGrant>) {
        let all: Vec<_> = self.meters.values().cloned().collect();
        let ended = async {
            self.tell(&messages, all.iter(), true).await?;
            drop(messages);
            while let Ok(Some(_)) = grants.message().await {}
            Ok::<_, SessionError>(())
        };
        // Being late only means that others wait until what this node held has run out.
        let _ = timeout(FAREWELL, ended).await;
    }

    fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.board.at(Instant::now(), u64::try_from(unix.as_millis()).unwrap_or(u64::MAX))
    }
}
