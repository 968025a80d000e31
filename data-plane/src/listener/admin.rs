//! Health and metrics, on a listener of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::pipeline::Plane;
use crate::telemetry::Gauges;

/// A scraper that is slower than this is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until told to stop.
pub(crate) async fn run(listener: TcpListener, plane: Arc<Plane>, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot accept a connection on the admin listener");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = stop.cancelled() => break,
        };
        let (plane, stop) = (Arc::clone(&plane), stop.clone());
        tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let response = answer(&plane, &request);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = tokio::time::timeout(2 * PATIENCE, connection) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    tasks.close();
    tasks.wait().await;
}

fn answer(plane: &Plane, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
    }
    let revision = plane.runtime.load().as_ref().map(|runtime| runtime.revision());
    match (request.uri().path(), revision) {
        ("/healthz", _) => text(StatusCode::OK, "ok\n".to_owned()),
        ("/readyz", _) if plane.draining.load(Ordering::Relaxed) => {
            text(StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned())
        }
        ("/readyz", Some(revision)) => text(StatusCode::OK, format!("ready, revision {revision}\n")),
        ("/readyz", None) => text(StatusCode::SERVICE_UNAVAILABLE, "no configuration yet\n".to_owned()),
        ("/metrics", revision) => {
            let gauges = Gauges {
                revision,
                idle_upstream_connections: plane.upstreams.idle(),
                held_bytes: plane.budget.held(),
                held_bytes_limit: plane.budget.limit(),
            };
            text(StatusCode::OK, plane.metrics.render(gauges))
        }
        _ => text(StatusCode::NOT_FOUND, "/healthz, /readyz or /metrics\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
