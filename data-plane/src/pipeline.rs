//! The life of a request, top to bottom: eight steps, one file each. What a step needs is made only by the step before
//! it, so none can be left out; whatever the ending, the `Call` accounts for it when it goes.

pub mod account;

mod admit;
mod attempts;
mod authenticate;
mod bill;
mod choose;
mod clock;
mod denial;
mod dispatch;
mod estimate;
mod frames;
mod guard;
mod handshake;
mod headers;
mod lack;
mod links;
mod listing;
mod models;
mod parcel;
mod paths;
mod plan;
mod query;
mod receive;
mod relay;
mod route;
mod start;
pub mod trace;
mod tunnel;
mod upload;
mod weigh;
mod whole;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use self::account::Sink;
pub(crate) use self::clock::Timers;
pub use self::denial::Denial;
use self::receive::Call;
pub(crate) use self::relay::{AnswerBody, Unread};
pub(crate) use self::tunnel::Tunnel;
use crate::config::{Deadlines, Limits};
use crate::error::Refusal;
use crate::limit::meters::Meters;
use crate::limit::{Budget, KeyCounts};
use crate::presence::{Presence, Stage};
use crate::request_log::RequestLog;
use crate::runtime::Runtime;
use crate::telemetry::Metrics;
use crate::tls::Tls;
use crate::upstream::Upstreams;

/// What all requests of a node share.
pub(crate) struct Plane {
    /// What is served; `None`: nothing yet.
    pub(crate) runtime: Arc<ArcSwapOption<Runtime>>,
    pub(crate) upstreams: Upstreams,
    pub(crate) sink: Sink,
    pub(crate) metrics: Metrics,
    /// What all requests may hold.
    pub(crate) budget: Budget,
    pub(crate) key_counts: KeyCounts,
    /// Of each worker.
    pub(crate) timers: Box<[Arc<Timers>]>,
    /// What the configured rules have counted.
    pub(crate) meters: Meters,
    pub(crate) limits: Limits,
    pub(crate) deadlines: Deadlines,
    /// `None`: clients speak plain HTTP.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Somebody is told which traces requests belong to.
    pub(crate) traced: bool,
    /// `None`: requests are not logged.
    pub(crate) log: Option<RequestLog>,
    /// The node takes no more requests.
    pub(crate) draining: AtomicBool,
    /// The drain time is over: what is still open ends now.
    pub(crate) ending: AtomicBool,
}

/// One request, from its head to the head of its answer; the body of the answer carries the rest.
pub(crate) async fn serve(
    plane: Arc<Plane>,
    presence: Arc<Presence>,
    request: Request<Incoming>,
) -> Response<AnswerBody> {
    let http1 = request.version() != Version::HTTP_2;
    let mut call = Call::begin(plane, &presence, request);
    let answered = answer(&mut call).await;
    let upgrade = call.websocket.is_some();
    let mut response = match answered {
        Ok(reply) if reply.head.status == StatusCode::SWITCHING_PROTOCOLS => {
            // Boxed, so that other requests do not pay for its size.
            Box::pin(tunnel::open(call, reply)).await
        }
        Ok(reply) => relay::relay(call, reply),
        Err(refusal) => relay::refuse(call, refusal),
    };
    if upgrade && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What the client may already have said in another protocol is never read as a request.
        let names_upgrade = response.headers().contains_key(UPGRADE);
        let close = HeaderValue::from_static(if names_upgrade { "close, upgrade" } else { "close" });
        response.headers_mut().insert(CONNECTION, close);
    } else if http1 && !upgrade && presence.stage() >= Stage::Draining {
        // The next request goes to another node.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn answer(call: &mut Call) -> Result<dispatch::Reply, Refusal> {
    let received = receive::receive(call)?;
    let routed = route::route(call, received)?;
    let caller = authenticate::authenticate(call, &routed)?;
    let permit = admit::admit(call, routed, caller).await?;
    tunnel::allow(call, &permit)?;
    guard::guard(call, &permit)?;
    dispatch::dispatch(call, permit).await
}
