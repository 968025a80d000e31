//! Health and metrics, on a listener of their own. Whoever reaches it is answered, and learns nothing secret.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::follow::Status;
use crate::limit::board::{Board, Counters};
use crate::pipeline::Plane;
use crate::report::Reporter;
use crate::request_log::RequestLog;
use crate::runtime::Runtime;
use crate::runtime::endpoint::Endpoint;
use crate::telemetry::otlp::Otlp;
use crate::telemetry::{Gauges, LinkGauges, SharedLimits, Spend, UsageGauges};

/// A scraper that is slower than this is gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// What surrounds a gateway that is a node's.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) link: watch::Receiver<Status>,
    pub(crate) usage: Reporter,
    pub(crate) spend: Arc<Spend>,
    pub(crate) otlp: Option<Arc<Otlp>>,
}

/// Answers until told to stop.
pub(crate) async fn run(
    listener: TcpListener,
    plane: Arc<Plane>,
    surroundings: Arc<OnceLock<Surroundings>>,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepting = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            accepted = accepting => match accepted {
                (permit, Ok((stream, _))) => (permit, stream),
                (_, Err(error)) => {
                    tracing::warn!(error = %error, "cannot accept a connection on the admin listener");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (plane, surroundings, stop) = (Arc::clone(&plane), Arc::clone(&surroundings), stop.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(&plane, surroundings.get(), &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = tokio::time::timeout(2 * PATIENCE, connection) => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }
    tasks.close();
    tasks.wait().await;
}

fn answer(plane: &Plane, surroundings: Option<&Surroundings>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let (ready, said) = readiness(plane, surroundings);
            text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, said)
        }
        "/metrics" => text(StatusCode::OK, {
            let spend = surroundings.map(|surroundings| &*surroundings.spend);
            let otlp = surroundings.and_then(|surroundings| surroundings.otlp.as_deref());
            plane.metrics.render(&gauges(plane, surroundings), spend, otlp)
        }),
        _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz or /metrics\n".to_owned()),
    }
}

/// Ready: a configuration is loaded, and a request that came now would be decided by it. The link is told and does not
/// count: a node serves on without it.
fn readiness(plane: &Plane, surroundings: Option<&Surroundings>) -> (bool, String) {
    let runtime = plane.runtime.load();
    let status = surroundings.map(|surroundings| surroundings.link.borrow().clone());
    let mut said = match runtime.as_ref() {
        _ if plane.draining.load(Ordering::Relaxed) => "stopping\n".to_owned(),
        Some(runtime) => format!("ready, revision {}\n", runtime.revision()),
        None => "no configuration yet\n".to_owned(),
    };
    let ready = said.starts_with("ready");
    if let Some(status) = status {
        let applied = status.applied_at.filter(|_| runtime.is_some());
        if let Some(applied) = applied {
            // Writing to a String cannot fail.
            let _ = writeln!(said, "configuration applied {} s ago", age(applied).as_secs());
        }
        // The reason is the log's to tell: it names addresses.
        let _ = match (status.connected, status.contact_at) {
            (true, _) => writeln!(said, "link to the control plane: connected"),
            (false, Some(at)) => {
                writeln!(said, "link to the control plane: lost {} s ago, see the log", age(at).as_secs())
            }
            (false, None) => writeln!(said, "link to the control plane: not connected yet, see the log"),
        };
    }
    (ready, said)
}

fn gauges(plane: &Plane, surroundings: Option<&Surroundings>) -> Gauges {
    let runtime = plane.runtime.load();
    let runtime: Option<&Runtime> = runtime.as_deref();
    let overview = plane.upstreams.overview();
    // Of providers that are still in the configuration: nobody takes the connections of others any more.
    let named = runtime.into_iter().flat_map(Runtime::endpoints);
    let seen = |it: &Arc<Endpoint>| overview.get(&it.id).map(|(idle, breaker)| (it.name.clone(), *idle, *breaker));
    Gauges {
        ready: runtime.is_some() && !plane.draining.load(Ordering::Relaxed),
        revision: runtime.map(Runtime::revision),
        upstreams: named.filter_map(seen).collect(),
        retries_denied: plane.upstreams.allowance.denied(),
        held_bytes: plane.budget.held(),
        held_bytes_limit: plane.budget.limit(),
        limits_shadowed: plane.meters.shadowed(),
        limits: plane.meters.board().map(|board| shared(board)),
        log_lines_dropped: plane.log.as_ref().map_or(0, RequestLog::dropped),
        link: surroundings.map(|surroundings| link(&surroundings.link.borrow())),
        usage: surroundings.map(|surroundings| usage(&surroundings.usage)),
    }
}

fn shared(board: &Board) -> SharedLimits {
    let Counters { waited, unanswered, shared } = &board.counters;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (waited, unanswered, shared) = (read(waited), read(unanswered), read(shared));
    SharedLimits { reachable: board.is_reachable(), shared, waited, unanswered }
}

fn link(status: &Status) -> LinkGauges {
    let contact_age = if status.connected { Some(Duration::ZERO) } else { status.contact_at.map(age) };
    LinkGauges {
        connected: status.connected,
        contact_age,
        configuration_age: status.applied_at.map(age),
        rejected: status.rejected,
        persisted: status.persisted,
    }
}

fn usage(reporter: &Reporter) -> UsageGauges {
    let counters = reporter.counters();
    // In this order: what is committed meanwhile was recorded before.
    let (committed, lost) = (counters.committed.load(Ordering::Relaxed), counters.lost.load(Ordering::Relaxed));
    let recorded = counters.recorded.load(Ordering::Relaxed);
    UsageGauges { recorded, committed, lost, books: reporter.books() }
}

fn age(at: Instant) -> Duration {
    Instant::now().saturating_duration_since(at)
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
