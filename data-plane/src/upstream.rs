//! The way to the vendors: pooled HTTP/1.1 connections, each driven by the request that uses it. No task stands
//! between the two, so a request that is dropped takes its connection with it at once, and no piece of a stream
//! crosses threads.
//!
//! The client never chooses where to: the destination is a function of the configuration alone. Redirects are passed
//! on, never followed; proxy settings of the environment are not read.

pub(crate) mod address;
pub(crate) mod allowance;
pub(crate) mod balance;
pub(crate) mod breaker;
pub(crate) mod connect;
pub(crate) mod guarded;
pub(crate) mod health;
pub(crate) mod line;
#[cfg(test)]
pub(crate) mod memory;
pub(crate) mod pool;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{Method, Request, Response};
use uuid::Uuid;

use self::address::Policy;
use self::allowance::Allowance;
use self::breaker::State;
use self::guarded::Guarded;
use self::health::{Health, NodeClock};
use self::line::{Answer, Framing, Line, Outbound, SendError};
use self::pool::Pool;
use crate::config;
use crate::runtime::provider::{Destination, Provider, Scheme};
use crate::runtime::settings::Settings;
use crate::telemetry::meters::{Attempted, Connected};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// For the log alone: may name addresses.
    pub(crate) cause: Cow<'static, str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The name has no address.
    Unresolvable,
    /// No address that may be dialled.
    Forbidden,
    /// Nobody takes the connection.
    Refused,
    /// TLS failed.
    Tls,
    /// The connection did not stand in time.
    ConnectTimeout,
    /// The connection broke before a head came.
    Broken,
}

impl From<FailureKind> for Attempted {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Unresolvable => Self::Unresolvable,
            FailureKind::Forbidden => Self::Forbidden,
            FailureKind::Refused => Self::Refused,
            FailureKind::Tls => Self::Tls,
            FailureKind::ConnectTimeout => Self::ConnectTimeout,
            FailureKind::Broken => Self::Broken,
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, cause: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, cause: cause.into() }
    }
}

/// All connections to all vendors.
pub(crate) struct Upstreams {
    pools: ArcSwap<HashMap<Destination, Arc<Pool>>>,
    public_roots: Arc<rustls::ClientConfig>,
    protected: Vec<SocketAddr>,
    keep_alive: Duration,
    idle_limit: usize,
    workers: NonZeroUsize,
    network: connect::Network,
    breaker: config::Breaker,
    clock: NodeClock,
    guarded: Option<Guarded>,
    /// For attempts after a request's first.
    pub(crate) allowance: Allowance,
}

/// One request to one vendor.
pub(crate) struct Attempt<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) settings: &'a Settings,
    pub(crate) connect: Duration,
    /// Whose connections are used, and where a new one is opened.
    pub(crate) worker: usize,
}

impl Upstreams {
    /// `protected` are never dialled. `idle_limit`: of each destination, all workers together.
    pub(crate) fn new(
        protected: Vec<SocketAddr>,
        keep_alive: Duration,
        idle_limit: usize,
        workers: NonZeroUsize,
        breaker: config::Breaker,
        retries: config::Retries,
    ) -> Self {
        Self {
            pools: ArcSwap::default(),
            public_roots: connect::tls_config(&[]),
            protected,
            keep_alive,
            idle_limit,
            workers,
            network: connect::Network::default(),
            breaker,
            clock: NodeClock::start(),
            guarded: None,
            allowance: Allowance::new(retries),
        }
    }

    /// Never dials the place that this `name:port` leads to either.
    pub(crate) fn guarding(mut self, address: &str) -> Self {
        self.guarded = Guarded::of(address);
        self
    }

    /// Dials within a test from now on.
    #[cfg(test)]
    pub(crate) fn through(mut self, network: memory::Network) -> Self {
        self.network = connect::Network::Memory(network);
        self
    }

    /// Sends a request and waits for the head of the answer; the caller sets the deadline for that.
    pub(crate) async fn send(
        &self,
        attempt: &Attempt<'_>,
        mut request: Request<Outbound>,
    ) -> Result<Response<Answer>, Failure> {
        let pool = Arc::clone(attempt.pool);
        while let Some(mut line) = self.checkout(attempt, &pool).await {
            let again = replay(&request);
            match line.send(request).await {
                Ok(response) => return Answer::around(response, line, pool, attempt.worker).map_err(misframed),
                // The connection had gone stale and nothing of the request has left: the next one takes it.
                Err(SendError::Unsent(unsent)) => request = *unsent,
                Err(SendError::Failed(error)) => match again {
                    // Closed instead of answered, on a connection that was idle: the vendor may repeat a request
                    // without a body and without effects.
                    Some(again) if is_hang_up(&error) => request = again,
                    Some(_) | None => return Err(broken(&error)),
                },
            }
        }
        // Boxed, because most requests find a connection.
        let mut line = Box::pin(self.open(attempt, &pool)).await?;
        match line.send(request).await {
            Ok(response) => Answer::around(response, line, pool, attempt.worker).map_err(misframed),
            Err(SendError::Unsent(_)) => Err(Failure::new(FailureKind::Broken, "closed before the request was sent")),
            Err(SendError::Failed(error)) => Err(broken(&error)),
        }
    }

    /// An idle connection that still stands, to an address that may still be dialled.
    async fn checkout(&self, attempt: &Attempt<'_>, pool: &Arc<Pool>) -> Option<Box<Line>> {
        let now = Instant::now();
        let policy = self.policy(attempt);
        loop {
            let mut line = pool.take(attempt.worker, now)?;
            if !line.peer().is_some_and(|peer| policy.allows(attempt.provider.upstream.scheme, peer)) {
                continue;
            }
            if poll_fn(|context| Poll::Ready(line.is_usable(context))).await {
                return Some(line);
            }
        }
    }

    fn policy<'a>(&'a self, attempt: &Attempt<'a>) -> Policy<'a> {
        Policy { networks: &attempt.settings.upstream_networks, protected: &self.protected }
    }

    async fn open(&self, attempt: &Attempt<'_>, pool: &Pool) -> Result<Box<Line>, Failure> {
        let mut policy = self.policy(attempt);
        let protected;
        if let Some(guarded) = self.guarded.as_ref().filter(|guarded| guarded.port == attempt.provider.upstream.port) {
            let looked_up = tokio::time::timeout(attempt.connect, guarded.addresses()).await;
            let late =
                |_| Failure::new(FailureKind::ConnectTimeout, "the control plane's name was not resolved in time");
            protected = [&self.protected, &**looked_up.map_err(late)?].concat();
            policy.protected = &protected;
        }
        let connecting =
            connect::connect(&self.network, &attempt.provider.upstream, pool.tls(), policy, attempt.connect);
        let stream = connecting.await?;
        let counted = attempt.provider.meters.found().cloned().map(Connected::new);
        Line::open(stream, counted).await.map_err(|error| broken(&error))
    }

    /// The connections to a provider's vendor, and what is known of it.
    pub(crate) fn pool(&self, provider: &Provider) -> Arc<Pool> {
        let destination = &provider.destination;
        if let Some(pool) = self.pools.load().get(destination) {
            return Arc::clone(pool);
        }
        let tls = match (provider.upstream.scheme, &*provider.upstream.extra_roots) {
            (Scheme::Http, _) => None,
            (Scheme::Https, []) => Some(Arc::clone(&self.public_roots)),
            (Scheme::Https, roots) => Some(connect::tls_config(roots)),
        };
        let health = Health::new(self.breaker, self.clock);
        let new = Arc::new(Pool::new(tls, self.keep_alive, self.idle_limit, self.workers, health));
        // Two requests may race here; both must end up with the pool that stays.
        self.pools.rcu(|pools| {
            let mut pools = HashMap::clone(pools);
            pools.entry(*destination).or_insert_with(|| Arc::clone(&new));
            pools
        });
        self.pools.load().get(destination).map_or(new, Arc::clone)
    }

    /// Closes connections that have been idle too long, and forgets pools that nobody uses any more.
    pub(crate) fn sweep(&self, now: Instant) {
        let pools = self.pools.load();
        let unused: Vec<_> =
            pools.iter().filter(|(_, pool)| pool.sweep(now)).map(|(destination, _)| *destination).collect();
        if !unused.is_empty() {
            self.pools.rcu(|pools| {
                let mut pools = HashMap::clone(pools);
                pools.retain(|destination, _| !unused.contains(destination));
                pools
            });
        }
    }

    /// Of each provider: how many connections wait for a request, and how its breaker stands; where an older form of
    /// it is still in use, the worse of both.
    pub(crate) fn overview(&self) -> BTreeMap<Uuid, (usize, State)> {
        let mut overview = BTreeMap::new();
        for (destination, pool) in self.pools.load().iter() {
            let (idle, state) = overview.entry(destination.provider).or_insert((0, State::Closed));
            *idle += pool.idle();
            *state = (*state).max(pool.health().state());
        }
        overview
    }
}

/// Whether the other side closed, rather than said something wrong.
fn is_hang_up(error: &hyper::Error) -> bool {
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    error.is_incomplete_message()
        || error.is_closed()
        || matches!(io, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected))
}

fn misframed(_: Framing) -> Failure {
    Failure::new(FailureKind::Broken, "the body is framed in another way than chunked")
}

fn broken(error: &hyper::Error) -> Failure {
    Failure::new(FailureKind::Broken, connect::chain(error))
}

/// A copy of a request that can be sent twice without harm.
fn replay(request: &Request<Outbound>) -> Option<Request<Outbound>> {
    let harmless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !harmless || !matches!(request.body(), Outbound::Empty) {
        return None;
    }
    let mut copy = Request::new(Outbound::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}
