//! Usage on its way to the ledger: one record per authenticated request, handed over without waiting, numbered,
//! spooled, sent on a stream of its own and kept until the control plane has committed it.
//!
//! What is lost, and only this, is counted and said aloud: records beyond a full queue or a full spool, and those
//! that a disk gave back damaged.

mod queue;
#[cfg(test)]
pub(crate) use self::queue::tests::record as a_record;
#[cfg(test)]
mod simulation;
mod spool;
mod spooled;
mod starts;
mod wire;

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use proto::usage::UsageAck;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use uuid::Uuid;

use self::queue::{BATCH, Queue};
use self::spool::{Bounds, Number, Spool, Unreadable};
use self::spooled::Spooled;
pub(crate) use self::starts::Books;
use self::starts::Starts;
use crate::{
    link::{Link, LinkError, MAX_MESSAGE, backoff::Backoff},
    pipeline::account::{Entry, NotWritten, Record, Start},
};

/// The method of the service: called without its generated client, for batches go out as they were spooled.
const REPORT: &str = "/lockgate.usage.v1.UsageIngest/Report";
/// Batches on the wire that are not yet acknowledged.
const WINDOW: usize = 8;
/// An acknowledgement is a commit; one that takes this long is a broken stream.
const ACK: Duration = Duration::from_secs(30);
const OPEN: Duration = Duration::from_secs(10);
/// How long a stopping node tries to hand over what it has. The rest waits on disk.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two times that start entries are brought to the device: what a loss of power may forget.
const SYNC: Duration = Duration::from_secs(1);

/// What reporting needs.
#[derive(Debug)]
pub struct Options {
    /// The way to the control plane.
    pub link: Link,
    /// Name of the node.
    pub node: String,
    /// New at every start of the process; later ones sort after earlier ones (`UUIDv7`).
    pub boot: Uuid,
    /// Where batches wait; made when first needed.
    pub directory: PathBuf,
    /// Threads that serve requests.
    pub workers: usize,
    /// Nothing is sent whose start cannot be written down.
    pub strict: bool,
    /// Sees every record, off the threads that serve.
    pub watch: Option<Watch>,
}

type See = dyn Fn(&[Record]) + Send + Sync;

/// Somebody who looks at records before they are spooled. Must not block.
#[derive(Clone)]
pub struct Watch(Arc<See>);

impl Watch {
    /// Shows every batch to `see`.
    pub fn new(see: impl Fn(&[Record]) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Watch")
    }
}

/// Figures for metrics. Never reset within a process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records handed over.
    pub recorded: AtomicU64,
    /// Records of this process that the control plane has committed.
    pub committed: AtomicU64,
    /// Records that will never reach the ledger.
    pub lost: AtomicU64,
}

/// Takes records from requests. Cheap to clone; never waits.
#[derive(Clone, Debug)]
pub struct Reporter {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    starts: Arc<Starts>,
}

impl Reporter {
    /// Writes down that a request is about to be sent.
    pub fn begin(&self, start: &Start<'_>) -> Result<Entry, NotWritten> {
        self.starts.begin(start)
    }

    /// What was started, and what became of it.
    pub(crate) fn books(&self) -> Books {
        self.starts.books()
    }

    /// Hands one record over. Beyond a full queue (the disk stands still and thousands wait) it is lost and counted.
    pub fn record(&self, record: Record) {
        self.counters.recorded.fetch_add(1, Ordering::Relaxed);
        let start = record.start;
        if !self.queue.put(record) {
            self.starts.lose(start);
            lose(&self.counters, 1, "the queue before the spool is full");
        }
    }

    /// What was recorded, committed and lost.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// The tasks behind a [`Reporter`].
#[derive(Debug)]
pub struct Reporting {
    stop: CancellationToken,
    writer: JoinHandle<()>,
    sender: JoinHandle<()>,
    keeper: JoinHandle<()>,
    starts: Arc<Starts>,
}

impl Reporting {
    /// Writes down what was recorded, gives the control plane a moment to take it, and ends the tasks. Call it when no
    /// request runs any more: what is recorded afterwards is lost.
    pub async fn shutdown(self) {
        self.stop.cancel();
        for task in [self.writer, self.sender, self.keeper] {
            if task.await.is_err() {
                tracing::error!("reporting usage ended in a panic");
            }
        }
        let starts = self.starts;
        if tokio::task::spawn_blocking(move || starts.close()).await.is_err() {
            tracing::error!("closing the starts ended in a panic");
        }
    }
}

/// Opens the spool and starts to send. Returns at once with a working [`Reporter`], whatever the link or disk do.
pub async fn start(options: Options) -> (Reporter, Reporting) {
    start_within(options, Bounds::default()).await
}

async fn start_within(options: Options, bounds: Bounds) -> (Reporter, Reporting) {
    let Options { link, node, boot, directory, workers, strict, watch } = options;
    let queue = Arc::new(Queue::default());
    let counters = Arc::new(Counters::default());
    let opened = tokio::task::spawn_blocking(move || open(directory, node, boot, bounds, workers, strict)).await;
    let (spool, starts) = opened.expect("opening the spool reports its errors and does not panic");
    let reporter = Reporter { queue: queue.clone(), counters: counters.clone(), starts: starts.clone() };
    if spool.damaged() > 0 {
        lose(&counters, spool.damaged(), "a spooled batch is damaged");
    }
    let spool = Arc::new(Shared { spool: Mutex::new(spool), grown: Notify::new(), counters });
    let stop = CancellationToken::new();
    // The sender stops only after the writer has written the last record.
    let written = CancellationToken::new();
    let keeper = tokio::spawn(keep(starts.clone(), stop.clone()));
    let writer = tokio::spawn(write(queue, spool.clone(), watch, stop.clone(), written.clone()));
    let sender = tokio::spawn(Sender { link, spool }.run(written));
    (reporter, Reporting { stop, writer, sender, keeper, starts })
}

/// What earlier processes left goes into the spool: their batches as they are, what they left open as unsettled.
fn open(
    directory: PathBuf,
    node: String,
    boot: Uuid,
    bounds: Bounds,
    workers: usize,
    strict: bool,
) -> (Spool, Arc<Starts>) {
    let found = starts::find(&directory);
    let starts = Arc::new(Starts::open(directory.clone(), boot, workers, strict));
    let mut spool = Spool::open(directory, node, boot, bounds, starts.clone());
    // Killed between the two: its record is on disk, and is the better one.
    let told = if found.is_empty() { HashSet::new() } else { spool.ids() };
    for mut found in found {
        found.open.retain(|record| !told.contains(&record.id));
        let count = found.open.len() as u64;
        if count > 0 {
            tracing::warn!(requests = count, "a process of this node died while they were open; reported as unsettled");
        }
        starts.took_over(count);
        let kept = found.open.chunks(BATCH).all(|records| {
            let kept = spool.append(records.to_vec(), Vec::new());
            kept.is_ok_and(|kept| kept.on_disk)
        });
        // Found again at the next start, and counted once by the ledger all the same.
        if kept {
            found.remove();
        }
    }
    (spool, starts)
}

/// Brings start entries to the device once in a while.
async fn keep(starts: Arc<Starts>, stop: CancellationToken) {
    let mut works = true;
    while stop.run_until_cancelled(tokio::time::sleep(SYNC)).await.is_some() {
        let starts = starts.clone();
        let kept = tokio::task::spawn_blocking(move || starts.keep()).await;
        let kept = kept.expect("keeping starts reports its errors and does not panic");
        if let (Err(error), true) = (&kept, works) {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "starts of requests cannot be brought to the disk"
            );
        }
        works = kept.is_ok();
    }
}

struct Shared {
    spool: Mutex<Spool>,
    grown: Notify,
    counters: Arc<Counters>,
}

impl Shared {
    /// Runs on a blocking thread: the spool reads and writes files.
    async fn with<T: Send + 'static>(self: &Arc<Self>, work: impl FnOnce(&mut Spool) -> T + Send + 'static) -> T {
        let shared = self.clone();
        let done =
            tokio::task::spawn_blocking(move || work(&mut shared.spool.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.expect("the spool reports its errors and does not panic")
    }
}

/// Gathers records into batches and spools them, until stopped and empty.
async fn write(
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    watch: Option<Watch>,
    stop: CancellationToken,
    written: CancellationToken,
) {
    let _written = written.drop_guard();
    loop {
        let stopped = queue.gather(&stop).await;
        for records in queue.take() {
            let count = records.len() as u64;
            if let Some(Watch(see)) = &watch {
                see(&records);
            }
            let append = |spool: &mut Spool| {
                let settles = records.iter().filter_map(|record| record.start).collect();
                spool.append(records.into_iter().map(wire::usage_record).collect(), settles)
            };
            if shared.with(append).await.is_err() {
                lose(&shared.counters, count, "the spool is full");
            }
            shared.grown.notify_one();
        }
        if stopped {
            return;
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the control plane ended the stream: {0}")]
    Ended(String),
    #[error("the control plane did not answer in time")]
    Silent,
}

struct Sender {
    link: Link,
    spool: Arc<Shared>,
}

impl Sender {
    async fn run(self, written: CancellationToken) {
        let farewell = async {
            written.cancelled().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::pin!(farewell);
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let ended = tokio::select! {
                ended = self.send(&written) => ended,
                () = &mut farewell => return,
            };
            let Err(error) = ended else { return };
            if written.is_cancelled() {
                return;
            }
            let pause = backoff.since(started);
            tracing::debug!(retry_ms = pause.as_millis(), "usage waits: {error}");
            tokio::select! {
                () = written.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One stream; `Ok` when everything is written, sent and acknowledged.
    async fn send(&self, written: &CancellationToken) -> Result<(), SendError> {
        // Nothing to say, nothing to dial.
        while self.spool.with(|spool| spool.len()).await == 0 {
            tokio::select! {
                () = self.spool.grown.notified() => {}
                () = written.cancelled() => {
                    if self.spool.with(|spool| spool.len()).await == 0 {
                        return Ok(());
                    }
                }
            }
        }
        let (batches, mut acks) = self.open().await?;
        // Batches sent on this stream and not acknowledged: the first ones of the spool.
        let mut in_flight = 0;
        loop {
            while in_flight < WINDOW {
                match self.spool.with(move |spool| spool.get(in_flight)).await {
                    None => break,
                    Some(Ok(batch)) => {
                        batches.send(batch).await.map_err(|_| SendError::Ended("end of stream".to_owned()))?;
                        in_flight += 1;
                    }
                    Some(Err(Unreadable { records })) => {
                        lose(&self.spool.counters, records, "a spooled batch could not be read");
                    }
                }
            }
            if in_flight == 0 {
                tokio::select! {
                    () = self.spool.grown.notified() => {}
                    () = written.cancelled() => if self.spool.with(|spool| spool.len()).await == 0 { return Ok(()) },
                    ended = acks.message() => return Err(ended_error(ended)),
                }
                continue;
            }
            let ack = tokio::select! {
                ack = timeout(ACK, acks.message()) => ack.map_err(|_| SendError::Silent)?,
                () = self.spool.grown.notified(), if in_flight < WINDOW => continue,
            };
            match ack {
                Ok(Some(UsageAck { boot, seq })) => {
                    let boot = Uuid::from_slice(&boot).map_err(|_| SendError::Ended("malformed ack".to_owned()))?;
                    in_flight = in_flight.saturating_sub(self.acknowledge(Number { boot, seq }).await);
                }
                ended => return Err(ended_error(ended)),
            }
        }
    }

    /// How many of the batches in flight this settles.
    async fn acknowledge(&self, number: Number) -> usize {
        let settled = self.spool.with(move |spool| spool.acknowledge(number)).await;
        self.spool.counters.committed.fetch_add(settled.records, Ordering::Relaxed);
        settled.batches
    }

    async fn open(&self) -> Result<(mpsc::Sender<Bytes>, Streaming<UsageAck>), SendError> {
        let channel = self.link.connect().await?;
        let mut client =
            Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE);
        let (batches, outgoing) = mpsc::channel(WINDOW);
        let request = self.link.request(ReceiverStream::new(outgoing));
        let report = async {
            client.ready().await.map_err(|error| SendError::Ended(error.to_string()))?;
            let answer = client.streaming(request, PathAndQuery::from_static(REPORT), Spooled).await;
            answer.map_err(|status| SendError::Ended(status.to_string()))
        };
        let acks = timeout(OPEN, report).await.map_err(|_| SendError::Silent)??.into_inner();
        Ok((batches, acks))
    }
}

fn ended_error(ended: Result<Option<UsageAck>, tonic::Status>) -> SendError {
    match ended {
        Ok(_) => SendError::Ended("end of stream".to_owned()),
        Err(status) => SendError::Ended(format!("{:?}: {}", status.code(), status.message())),
    }
}

fn lose(counters: &Counters, records: u64, why: &str) {
    let lost = counters.lost.fetch_add(records, Ordering::Relaxed) + records;
    // Once per doubling: a flood of losses must not become a flood of lines.
    if lost.next_power_of_two() > (lost - records).next_power_of_two() || lost == records {
        tracing::error!(lost, "usage records are lost: {why}");
    }
}
