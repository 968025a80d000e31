//! The composition root of everything but the link: binds, wires, runs, stops. What is served comes from a slot that
//! someone else fills.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::limit::board::Board;
use crate::limit::meters::Meters;
use crate::limit::{Budget, KeyCounts};
use crate::listener::Listener;
use crate::listener::admin::{self, Surroundings};
use crate::pipeline::Plane;
use crate::pipeline::account::Sink;
use crate::request_log::{self, Writing};
use crate::runtime::Runtime;
use crate::telemetry::{Metrics, process};
use crate::tls::{self, Tls, TlsError};
use crate::upstream::Upstreams;

/// For requests, where nobody tells how much memory there is.
const MEMORY: u64 = 1 << 30;
/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// Why the gateway cannot run.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates are configured that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The thread that writes the request log cannot be started.
    #[error("cannot start the request log")]
    Log(#[source] std::io::Error),
}

/// A running gateway: listeners and pools.
#[derive(Debug)]
pub struct Gateway {
    /// Where requests come in.
    pub address: SocketAddr,
    /// Where health and metrics are; `None`: nowhere.
    pub admin: Option<SocketAddr>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    rest: CancellationToken,
    surroundings: Arc<OnceLock<Surroundings>>,
    others: Vec<JoinHandle<()>>,
    log: Option<Writing>,
}

/// Whoever connects waits in the kernel's queue until it serves.
pub(crate) struct Bound {
    tls: Option<Arc<Tls>>,
    listener: Listener,
    admin: Option<TcpListener>,
}

impl Bound {
    /// Takes the addresses and reads the certificates.
    pub(crate) async fn bind(config: &Config) -> Result<Self, GatewayError> {
        let tls = Tls::load(&config.tls)?.map(Arc::new);
        let bind = |address| move |source| GatewayError::Bind { address, source };
        let listener =
            Listener::bind(config.gateway.listen, config.gateway.workers()).map_err(bind(config.gateway.listen))?;
        let admin = match config.admin.listen {
            Some(address) => Some(TcpListener::bind(address).await.map_err(bind(address))?),
            None => None,
        };
        Ok(Self { tls, listener, admin })
    }

    /// Serves what is in `runtime` (nothing: every request is answered 503) and hands one record per authenticated
    /// request to `sink`. Limits are shared with other nodes by way of `board`; `None`: they are this node's own.
    pub(crate) fn serve(
        self,
        config: &Config,
        runtime: Arc<ArcSwapOption<Runtime>>,
        sink: Sink,
        board: Option<Arc<Board>>,
    ) -> Result<Gateway, GatewayError> {
        let Self { tls, listener, admin } = self;
        let address = listener.address();
        let admin_address = admin.as_ref().and_then(|admin| admin.local_addr().ok());
        let protected = config.gateway.protected.iter().copied().chain([address]).chain(admin_address).collect();
        let meters = Meters::new(board);
        let mut plane = Plane { tls: tls.clone(), meters, ..plane(config, runtime, sink, protected) };
        let mut log = None;
        if config.log.requests {
            let started = request_log::start(config.log.line(), config.log.output.clone(), config.gateway.workers());
            let (lines, writing) = started.map_err(GatewayError::Log)?;
            plane.log = Some(lines);
            log = Some(writing);
        }
        let plane = Arc::new(plane);
        let (stop, rest) = (CancellationToken::new(), CancellationToken::new());
        let serving = tokio::spawn(listener.run(Arc::clone(&plane), stop.clone()));
        let surroundings = Arc::new(OnceLock::new());
        let mut others = vec![tokio::spawn(sweep(Arc::clone(&plane), rest.clone()))];
        if let Some(tls) = tls {
            let teller = Arc::clone(&plane);
            let tell = move |served| teller.metrics.tls_reloaded(served);
            others.push(tokio::spawn(tls::watch(tls, tell, rest.clone())));
        }
        if let Some(admin) = admin {
            others.push(tokio::spawn(admin::run(admin, plane, Arc::clone(&surroundings), rest.clone())));
        }
        Ok(Gateway { address, admin: admin_address, stop, serving, rest, surroundings, others, log })
    }
}

impl Gateway {
    /// Binds everything and serves what is in `runtime`.
    pub async fn start(
        config: &Config,
        runtime: Arc<ArcSwapOption<Runtime>>,
        sink: Sink,
    ) -> Result<Self, GatewayError> {
        Bound::bind(config).await?.serve(config, runtime, sink, None)
    }

    /// Shows on the admin listener how the node's link and its reporting are doing. To be called once.
    pub(crate) fn surroundings(&self, surroundings: Surroundings) {
        let _ = self.surroundings.set(surroundings);
    }

    /// Stops accepting, lets what is open finish within the drain time, ends the rest, and joins every task.
    pub async fn shutdown(self) {
        let Self { address: _, admin: _, stop, serving, rest, surroundings: _, others, log } = self;
        stop.cancel();
        if serving.await.is_err() {
            tracing::error!("serving requests ended in a panic");
        }
        if let Some(log) = log {
            log.shutdown().await;
        }
        // Health and metrics are there to the end.
        rest.cancel();
        for task in others {
            if task.await.is_err() {
                tracing::error!("a task of the gateway ended in a panic");
            }
        }
    }
}

/// What all requests share. `protected` are never dialled.
pub(crate) fn plane(
    config: &Config,
    runtime: Arc<ArcSwapOption<Runtime>>,
    sink: Sink,
    protected: Vec<SocketAddr>,
) -> Plane {
    let (limits, deadlines) = (config.limits.clone(), config.deadlines.clone());
    let memory = match limits.memory_bytes {
        0 => process::memory_bytes().map_or(MEMORY, |memory| memory / 2),
        bytes => bytes,
    };
    let workers = config.gateway.workers();
    let upstreams = Upstreams::new(
        protected,
        deadlines.upstream_keep_alive,
        limits.idle_upstream_connections,
        workers,
        config.breaker,
        config.retries,
    )
    .guarding(&config.link.address);
    Plane {
        runtime,
        upstreams,
        sink,
        metrics: Metrics::default(),
        budget: Budget::new(memory),
        key_counts: KeyCounts::default(),
        timers: (0..workers.get()).map(|_| Arc::default()).collect(),
        meters: Meters::default(),
        tls: None,
        limits,
        deadlines,
        traced: !config.telemetry.endpoint.is_empty(),
        log: None,
        draining: AtomicBool::new(false),
        ending: AtomicBool::new(false),
    }
}

fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

async fn sweep(plane: Arc<Plane>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(SWEEP) => {
                plane.upstreams.sweep(Instant::now());
                plane.key_counts.sweep();
                plane.meters.sweep(plane.meters.at(Instant::now(), unix_ms()));
                plane.metrics.sweep(plane.runtime.load().as_deref());
            }
            () = stop.cancelled() => return,
        }
    }
}
