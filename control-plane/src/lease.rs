//! Limits that hold over all nodes, on a stream of their own: shares of what flows, and parts of budgets that are
//! committed before they are told. How a limit is divided is [`shares`]', how much of a budget goes out at a time
//! [`escrow`]'s; who divides, where there are several control planes, [`leader`]'s.

pub mod escrow;
mod leader;
mod rules;
pub mod shares;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::quota::{
    LeaseGrant, LeaseRequest, Purse, PurseGrant, Rule as WireRule, Share, ShareGrant, quota_lease_server::QuotaLease,
};
use proto::rule::digest;
use time::OffsetDateTime;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use self::escrow::{Claim, integer, unsigned};
use self::rules::{Change, Heard, Rules, Spoken};
use self::shares::{Award, Told, VALID};
use crate::link;
use crate::model::error::Error;
use crate::model::limit::CalendarPeriod;
use crate::publisher::{Published, Publisher};
use crate::snapshot;
use crate::store::gateway::Admitted;
use crate::store::quota::{self, Holding, Place};
use crate::store::{Store, now};

const GRANTS: usize = 16;
/// Changes on their way to a node; what is beyond is told with its next message.
const CHANGES: usize = 1024;
/// More than a node puts into one message.
const LARGEST: usize = 4096;
/// A node speaks every two seconds; one that does not is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two looks for what is over.
const SWEEP: Duration = Duration::from_mins(1);
/// Budgets of periods that ended this long ago are forgotten.
const KEPT_MS: i64 = 3 * 86_400_000;

/// The service that nodes share limits by.
#[derive(Clone, Debug)]
pub struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    publisher: Publisher,
    rules: Rules,
    /// Budgets could not be granted when that was tried last.
    failing: AtomicBool,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Leases {
    /// Streams end when `stop` is cancelled; await them with [`Self::ended`].
    pub fn new(store: Store, publisher: Publisher, stop: CancellationToken) -> Self {
        let (rules, failing, tasks) = (Rules::default(), AtomicBool::new(false), TaskTracker::new());
        Self(Arc::new(Inner { store, publisher, rules, failing, tasks, stop }))
    }

    /// Takes its turn at granting shares, and forgets what is over. Runs until stopped.
    pub async fn run(self) {
        let Inner { store, rules, stop, .. } = &*self.0;
        tokio::join!(leader::run(store.clone(), rules.clone(), stop.clone()), async {
            while stop.run_until_cancelled(tokio::time::sleep(SWEEP)).await.is_some() {
                rules.sweep();
                let before = unix_ms(now()).saturating_sub(KEPT_MS);
                if let Err(error) = quota::forget(store, before).await {
                    tracing::warn!(?error, "budgets of periods that are over could not be forgotten");
                }
                let counters = rules.counters();
                let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
                tracing::debug!(
                    shares = read(&counters.shares),
                    budgets = read(&counters.budgets),
                    exhausted = read(&counters.exhausted),
                    "limits were granted to nodes"
                );
            }
        });
    }

    /// Returns when the last stream has ended, after the listener stopped.
    pub async fn ended(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

#[tonic::async_trait]
impl QuotaLease for Leases {
    type StreamStream = ReceiverStream<Result<LeaseGrant, Status>>;

    async fn stream(&self, request: Request<Streaming<LeaseRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let admission = link::admit(&self.0.store, request.metadata()).await?;
        self.0.publisher.vouch(admission.token_id);
        let (outgoing, grants) = mpsc::channel(GRANTS);
        let inner = self.0.clone();
        let requests = request.into_inner();
        self.0.tasks.spawn(async move {
            if let Err(status) = inner.serve(&admission, requests, &outgoing).await {
                let _ = timeout(Duration::from_secs(1), outgoing.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(grants)))
    }
}

/// One stream, once its node has said who it is.
struct Session {
    organization_id: Uuid,
    /// With its gateway: names are unique within one.
    node: String,
    boot: Uuid,
    id: Uuid,
    /// Of the newest message that was heard.
    seq: u64,
}

impl Inner {
    async fn serve(
        &self,
        admission: &Admitted,
        mut requests: Streaming<LeaseRequest>,
        grants: &mpsc::Sender<Result<LeaseGrant, Status>>,
    ) -> Result<(), Status> {
        let feed = self.publisher.subscribe(admission.organization_id, admission.gateway_id);
        let mut tokens = self.publisher.tokens();
        let (pushes, mut changes) = mpsc::channel(CHANGES);
        let mut session: Option<Session> = None;
        let ended = loop {
            let message = tokio::select! {
                () = self.stop.cancelled() => break Err(Status::unavailable("the control plane is stopping")),
                changed = tokens.changed() => {
                    if changed.is_err() || !tokens.borrow_and_update().contains(&admission.token_id) {
                        break Err(Status::unauthenticated("the gateway token was revoked or has expired"));
                    }
                    continue;
                }
                Some(change) = changes.recv() => {
                    let mut shares = vec![award_to_wire(&change)];
                    while let Ok(change) = changes.try_recv() {
                        shares.push(award_to_wire(&change));
                    }
                    let seq = session.as_ref().map_or(0, |session| session.seq);
                    let grant = LeaseGrant { seq, leads: true, shares, ..LeaseGrant::default() };
                    if grants.send(Ok(grant)).await.is_err() {
                        break Ok(());
                    }
                    continue;
                }
                message = timeout(SILENCE, requests.message()) => match message {
                    Ok(Ok(Some(message))) => message,
                    Ok(Ok(None)) => break Ok(()),
                    Ok(Err(status)) => break Err(status),
                    Err(_) => break Err(Status::deadline_exceeded("the node does not speak")),
                },
            };
            let known = match &mut session {
                Some(session) => session,
                None => match introduce(admission, &message) {
                    Ok(made) => {
                        self.rules.connect(made.boot, made.id, pushes.clone());
                        session.insert(made)
                    }
                    Err(status) => break Err(status),
                },
            };
            known.seq = message.seq;
            let published = feed.borrow().clone();
            match self.hear(known, message, published.as_deref(), (grants, &mut changes)).await {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        if let Some(Session { boot, id, .. }) = session {
            self.rules.disconnect(boot, id);
        }
        ended
    }

    /// Answers one message; whether it was the last.
    async fn hear(
        &self,
        session: &Session,
        message: LeaseRequest,
        published: Option<&Published>,
        (grants, changes): (&mpsc::Sender<Result<LeaseGrant, Status>>, &mut mpsc::Receiver<Change>),
    ) -> Result<bool, Status> {
        let LeaseRequest { node: _, boot: _, seq, shares, purses, goodbye } = message;
        if shares.len() + purses.len() > LARGEST {
            return Err(Status::invalid_argument("too many rules in one message"));
        }
        let gone = |_| Status::cancelled("the node left");
        // What is not in the configuration here is not shared: the node is ahead, or behind.
        let limit = |rule: &WireRule| snapshot::limit(&published?.snapshot, rule);
        let mut spoken: Vec<Spoken> = shares.into_iter().filter_map(|share| said(share, &limit)).collect();
        for spoken in &mut spoken {
            spoken.release |= goodbye;
        }
        let who = (session.organization_id, &*session.node);
        let heard = self.rules.hear(who, (session.boot, session.id), &spoken);
        let leads = heard.is_some();
        let Heard { listens, answers } = heard.unwrap_or_default();
        let shares = answers.into_iter().map(|(rule, award)| match award {
            Some(award) => award_to_wire(&Change { rule, award }),
            None => ShareGrant { rule: rule.to_vec().into(), released: true, ..ShareGrant::default() },
        });
        let mut shares: Vec<ShareGrant> = shares.collect();
        // What was to be told by itself comes in its order.
        shares.extend(std::iter::from_fn(|| changes.try_recv().ok()).map(|change| award_to_wire(&change)));
        shares.sort_by_key(|share| share.version);
        let mut grant = LeaseGrant { seq, leads, listens, shares, purses: Vec::new() };
        let wanted: Vec<(Purse, u64)> =
            purses.into_iter().filter_map(|purse| limit(purse.rule.as_ref()?).map(|limit| (purse, limit))).collect();
        if !wanted.is_empty() {
            // Shares do not wait for the store.
            if !grant.shares.is_empty() {
                grants.send(Ok(grant)).await.map_err(gone)?;
                grant = LeaseGrant { seq, leads, listens, ..LeaseGrant::default() };
            }
            match self.draw(session, wanted).await {
                Ok(purses) => {
                    grant.purses = purses;
                    self.failing.store(false, Ordering::Relaxed);
                }
                // Said once: every node asks several times in a second.
                Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                    tracing::error!(?error, "budgets cannot be granted; nodes spend what they hold");
                }
                Err(error) => tracing::debug!(?error, "budgets cannot be granted"),
            }
        }
        grants.send(Ok(grant)).await.map_err(gone)?;
        Ok(goodbye)
    }

    /// Commits, and only then says what was granted.
    async fn draw(&self, session: &Session, mut wanted: Vec<(Purse, u64)>) -> Result<Vec<PurseGrant>, Error> {
        // In one order, so that two nodes at once cannot wait for each other.
        wanted.sort_by_cached_key(|(purse, _)| purse.rule.as_ref().map(digest));
        let at = now();
        let mut transaction = self.store.engine().begin().await?;
        let mut answers = Vec::with_capacity(wanted.len());
        for (purse, limit) in wanted {
            let Purse { rule: Some(rule), period, version, spent, need, ahead, release } = purse else { continue };
            let Some(calendar) = calendar(rule.calendar) else { continue };
            let ends_ms = calendar.end_ms(at);
            let (limit, rule) = (integer(limit), digest(&rule));
            let place = Place { organization_id: session.organization_id, rule, period_ms: ends_ms };
            // What was spent of a period that is over is nothing to this one.
            let current = u64::try_from(ends_ms).is_ok_and(|ends| ends == period);
            let spent = if current { integer(spent) } else { 0 };
            let mut exhausted = false;
            let decide = |granted: i64, holding: Holding| {
                let claim = Claim { spent, need, ahead, release: release.then_some((current, version)) };
                let (decided, all) = claim.decide(limit, granted, holding);
                exhausted = all;
                decided
            };
            let standing =
                quota::draw(&mut transaction, place, (session.boot, &session.node), (limit, spent), decide).await?;
            let counters = self.rules.counters();
            counters.budgets.fetch_add(1, Ordering::Relaxed);
            counters.exhausted.fetch_add(u64::from(exhausted), Ordering::Relaxed);
            answers.push(PurseGrant {
                rule: rule.to_vec().into(),
                period: unsigned(ends_ms),
                ends_in_ms: unsigned(ends_ms - unix_ms(at)),
                version: unsigned(standing.holding.version),
                held: unsigned(standing.holding.granted),
                elsewhere: unsigned(standing.granted - standing.holding.granted),
                exhausted,
            });
        }
        transaction.commit().await?;
        Ok(answers)
    }
}

fn introduce(admission: &Admitted, message: &LeaseRequest) -> Result<Session, Status> {
    let LeaseRequest { node, boot, seq, .. } = message;
    let boot = Uuid::from_slice(boot).map_err(|_| Status::invalid_argument("boot is no uuid"))?;
    if node.is_empty() || node.len() > 256 || node.chars().any(char::is_control) {
        return Err(Status::invalid_argument("the node's name is empty, too long or not text"));
    }
    let node = format!("{}/{node}", admission.gateway_id);
    let id = Uuid::now_v7();
    Ok(Session { organization_id: admission.organization_id, node, boot, id, seq: *seq })
}

/// `None`: it is of no rule that flows and that we know.
fn said(share: Share, limit: &impl Fn(&WireRule) -> Option<u64>) -> Option<Spoken> {
    let Share { rule, version, held, fallback, fill, in_flight, want, release } = share;
    let rule = rule.filter(|rule| rule.calendar == 0)?;
    let told = Told { version, held, fallback, fill, in_flight, want };
    let window = Duration::from_millis(rule.window_ms);
    Some(Spoken { rule: digest(&rule), window, limit: limit(&rule)?, told, release })
}

fn award_to_wire(change: &Change) -> ShareGrant {
    let Change { rule, award: Award { version, share, fallback, base, fill, pending } } = *change;
    let valid_ms = u32::try_from(VALID.as_millis()).unwrap_or(u32::MAX);
    let rule = rule.to_vec().into();
    ShareGrant { rule, version, share, fallback, valid_ms, base, fill, pending, released: false }
}

fn calendar(number: u32) -> Option<CalendarPeriod> {
    match number {
        1 => Some(CalendarPeriod::Day),
        2 => Some(CalendarPeriod::Month),
        _ => None,
    }
}

fn unix_ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
