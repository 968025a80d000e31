//! Usage on its way into the ledger: each batch is committed, then acknowledged, in order, on a stream of its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use proto::usage::{
    Attempt as WireAttempt, Books as WireBooks, Denial as WireDenial, Outcome as WireOutcome, UsageAck, UsageBatch,
    UsageRecord, usage_ingest_server::UsageIngest,
};
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use crate::{
    events::{Events, Topic},
    link,
    model::books::Books,
    model::usage::{Attempt, Batch, Denial, Outcome, Record, Retention},
    publisher::Publisher,
    store::{Store, gateway::Admitted, microseconds, now, request, usage},
};

const ACKS: usize = 8;
/// More than a node puts into one batch.
const LARGEST_BATCH: usize = 10_000;
/// More than a request ever makes.
const ATTEMPTS: usize = 32;

/// What is kept of usage, and for how long.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeping {
    /// For how long.
    pub retention: Retention,
    /// Requests in the log per second, at most; 0: all.
    pub log_per_second: u32,
}

/// How many records may still go into the log. What is beyond is counted in the sums and nowhere else.
#[derive(Debug)]
struct Rate {
    per_second: f64,
    left: Mutex<(Instant, f64)>,
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: Mutex::new((Instant::now(), per_second)) }
    }

    fn take(&self, wanted: usize) -> usize {
        if self.per_second == 0.0 {
            return wanted;
        }
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, saved) = *left;
        let now = Instant::now();
        // Ten seconds' worth: a node that was away for a moment brings its records at once.
        let may = (saved + now.duration_since(since).as_secs_f64() * self.per_second).min(10.0 * self.per_second);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and bounded above")]
        let taken = (may as usize).min(wanted);
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let rest = may - taken as f64;
        *left = (now, rest);
        taken
    }
}

/// The service that nodes report to.
#[derive(Clone, Debug)]
pub struct Intake(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    publisher: Publisher,
    events: Events,
    tasks: TaskTracker,
    stop: CancellationToken,
    retention: Retention,
    log: Rate,
}

impl Intake {
    /// Streams end when `stop` is cancelled; await them with [`Self::ended`].
    pub fn new(store: Store, publisher: Publisher, events: Events, keeping: Keeping, stop: CancellationToken) -> Self {
        let Keeping { retention, log_per_second } = keeping;
        let log = Rate::new(log_per_second);
        Self(Arc::new(Inner { store, publisher, events, tasks: TaskTracker::new(), stop, retention, log }))
    }

    /// Returns when the last stream has ended, after the listener stopped.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

#[tonic::async_trait]
impl UsageIngest for Intake {
    type ReportStream = ReceiverStream<Result<UsageAck, Status>>;

    async fn report(&self, request: Request<Streaming<UsageBatch>>) -> Result<Response<Self::ReportStream>, Status> {
        let admission = link::admit(&self.0.store, request.metadata()).await?;
        self.0.publisher.vouch(admission.token_id);
        let (outgoing, acks) = mpsc::channel(ACKS);
        let inner = self.0.clone();
        let batches = request.into_inner();
        self.0.tasks.spawn(async move {
            if let Err(status) = inner.receive(&admission, batches, &outgoing).await {
                let _ = timeout(Duration::from_secs(1), outgoing.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(acks)))
    }
}

impl Inner {
    /// What is kept of a batch that arrives now.
    fn keep(&self, records: usize) -> usage::Keep {
        usage::Keep { retention: self.retention, now_us: microseconds(now()), logged: self.log.take(records) }
    }

    async fn receive(
        &self,
        admission: &Admitted,
        mut batches: Streaming<UsageBatch>,
        acks: &mpsc::Sender<Result<UsageAck, Status>>,
    ) -> Result<(), Status> {
        let mut tokens = self.publisher.tokens();
        loop {
            let batch = tokio::select! {
                () = self.stop.cancelled() => return Err(Status::unavailable("the control plane is stopping")),
                changed = tokens.changed() => {
                    if changed.is_err() || !tokens.borrow_and_update().contains(&admission.token_id) {
                        return Err(Status::unauthenticated("the gateway token was revoked or has expired"));
                    }
                    continue;
                }
                batch = batches.message() => batch?,
            };
            let Some(batch) = batch else { return Ok(()) };
            let ack = UsageAck { boot: batch.boot.clone(), seq: batch.seq };
            let batch = batch_from_wire(admission, batch)?;
            // Not interrupted by stopping: a batch is committed whole and acknowledged, or neither.
            let ingested = usage::ingest(&self.store, &batch, &self.keep(batch.records.len()))
                .await
                .map_err(|error| link::unavailable(&error))?;
            if let usage::Ingested::New { missing } = ingested {
                if missing > 0 {
                    tracing::error!(
                        gateway.name = admission.gateway,
                        node.name = batch.node,
                        missing,
                        "batches of usage never arrived from a node; their records are lost"
                    );
                }
                match request::describe(&self.store, &batch).await {
                    Ok(rows) => {
                        for row in rows {
                            self.events.publish(admission.organization_id, Topic::Request, &row);
                        }
                    }
                    Err(error) => tracing::debug!(?error, "recorded requests could not be told to watchers"),
                }
            }
            acks.send(Ok(ack)).await.map_err(|_| Status::cancelled("the node left"))?;
        }
    }
}

fn batch_from_wire(admission: &Admitted, batch: UsageBatch) -> Result<Batch, Status> {
    let UsageBatch { node, boot, seq, records, books } = batch;
    let malformed = |what: &str| Status::invalid_argument(format!("a malformed batch: {what}"));
    let boot = Uuid::from_slice(&boot).map_err(|_| malformed("boot"))?;
    let seq = i64::try_from(seq).ok().filter(|seq| *seq > 0).ok_or_else(|| malformed("seq"))?;
    if records.len() > LARGEST_BATCH {
        return Err(malformed("too many records"));
    }
    let sent = records.len();
    // One record that cannot be read must not hold up all that come after it.
    let records: Vec<_> = records.into_iter().filter_map(record_from_wire).collect();
    let unreadable = sent - records.len();
    if unreadable > 0 {
        tracing::error!(
            gateway.name = admission.gateway,
            node.name = node,
            unreadable,
            "records of usage could not be read; they are lost"
        );
    }
    let (organization_id, gateway_id) = (admission.organization_id, admission.gateway_id);
    Ok(Batch {
        organization_id,
        gateway_id,
        node: text(&node).unwrap_or_default(),
        boot,
        seq,
        records,
        unreadable: i64::try_from(unreadable).unwrap_or(i64::MAX),
        books: books.map(books_from_wire),
    })
}

fn books_from_wire(books: WireBooks) -> Books {
    let WireBooks { started, settled, in_flight, unsettled, lost, records } = books;
    Books {
        started: number(started),
        settled: number(settled),
        in_flight: number(in_flight),
        unsettled: number(unsettled),
        lost: number(lost),
        records: number(records),
    }
}

fn denial_from_wire(denial: WireDenial) -> Denial {
    let WireDenial { rule, measured, allowed, window, frees_at_us } = denial;
    let at = |us| OffsetDateTime::from_unix_timestamp_nanos(i128::from(number(us)) * 1_000).ok();
    Denial {
        rule: text(&rule).unwrap_or_default(),
        measured: measured.map(number),
        allowed: allowed.map(number),
        window: text(&window),
        frees_at: frees_at_us.and_then(at),
    }
}

/// `None`: nobody knows whom it went to.
fn attempt_from_wire(attempt: WireAttempt) -> Option<Attempt> {
    let WireAttempt { provider_id, status, ending, duration_us } = attempt;
    Some(Attempt {
        provider_id: Uuid::from_slice(&provider_id).ok()?,
        status: (status != 0).then_some(i64::from(status)),
        ending: text(&ending),
        duration_us: number(duration_us),
    })
}

/// `None`: an id or the outcome cannot be read.
fn record_from_wire(record: UsageRecord) -> Option<Record> {
    let UsageRecord {
        id,
        started_at_us,
        endpoint_id,
        provider_id,
        api_key_id,
        admitted,
        outcome,
        refusal,
        status,
        upstream_status,
        requested_model,
        served_model,
        input_tokens,
        output_tokens,
        cached_input_tokens,
        cache_write_tokens,
        reasoning_tokens,
        duration_us,
        first_byte_us,
        streamed,
        request_bytes,
        response_bytes,
        method,
        path,
        revision,
        input_audio_tokens,
        output_audio_tokens,
        estimated,
        first_token_us,
        finish_reason,
        tool_calls,
        error_type,
        cost_nanos,
        price_version,
        unpriced,
        denial,
        attempts,
        unsettled,
    } = record;
    let outcome = match WireOutcome::try_from(outcome).ok()? {
        WireOutcome::Unspecified => return None,
        WireOutcome::Answered => Outcome::Answered,
        WireOutcome::Refused => Outcome::Refused,
        WireOutcome::VendorError => Outcome::VendorError,
        WireOutcome::UpstreamFailed => Outcome::UpstreamFailed,
        WireOutcome::UpstreamBroken => Outcome::UpstreamBroken,
        WireOutcome::ClientGone => Outcome::ClientGone,
        WireOutcome::Drained => Outcome::Drained,
    };
    Some(Record {
        id: Uuid::from_slice(&id).ok()?,
        started_at_us: number(started_at_us),
        endpoint_id: Uuid::from_slice(&endpoint_id).ok()?,
        provider_id: Uuid::from_slice(&provider_id).ok(),
        api_key_id: Uuid::from_slice(&api_key_id).ok()?,
        admitted,
        outcome,
        refusal: text(&refusal),
        status: (status != 0).then_some(i64::from(status)),
        upstream_status: (upstream_status != 0).then_some(i64::from(upstream_status)),
        requested_model: text(&requested_model),
        served_model: text(&served_model),
        input_tokens: input_tokens.map(number),
        output_tokens: output_tokens.map(number),
        cached_input_tokens: cached_input_tokens.map(number),
        cache_write_tokens: cache_write_tokens.map(number),
        reasoning_tokens: reasoning_tokens.map(number),
        duration_us: number(duration_us),
        first_byte_us: first_byte_us.map(number),
        streamed,
        request_bytes: number(request_bytes),
        response_bytes: number(response_bytes),
        method: text(&method).unwrap_or_default(),
        path: text(&path).unwrap_or_default(),
        revision: number(revision),
        cost_nanos: cost_nanos.map(number),
        price_version: text(&price_version),
        unpriced,
        denial: denial.map(denial_from_wire),
        attempts: attempts.into_iter().take(ATTEMPTS).filter_map(attempt_from_wire).collect(),
        unsettled,
        input_audio_tokens: input_audio_tokens.map(number),
        output_audio_tokens: output_audio_tokens.map(number),
        estimated,
        first_token_us: first_token_us.map(number),
        finish_reason: text(&finish_reason),
        tool_calls: tool_calls.map(number),
        error_type: text(&error_type),
    })
}

/// No count of ours comes near the end of 63 bits; what does is a mistake that must not overflow a sum.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX).min(1 << 53)
}

/// `None` for empty; without NUL, which Postgres does not store, and of bounded length.
fn text(value: &str) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    Some(value.chars().filter(|letter| *letter != '\0').take(256).collect())
}
