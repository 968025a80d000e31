//! Step 6: to the vendor and back to the head of its answer. The request is built anew: path and query byte for byte
//! behind the context, a new map of headers, the provider's credential.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, StatusCode, Uri, response};
use http_body::Body as _;

use super::admit::Permit;
use super::clock::Clock;
use super::receive::Call;
use super::upload::{Inbound, Upload};
use super::{handshake, headers, query};
use crate::dialect::facts::Shape;
use crate::error::Refusal;
use crate::runtime::provider::{Provider, Timeouts};
use crate::upstream::line::{Answer, Outbound};
use crate::upstream::{Attempt, Failure, FailureKind};

/// Of an answer that may say "your credential is bad", so much is read before it is passed on.
const PEEK: usize = 16 * 1024;

/// The head of an answer, and what its body comes on.
pub(super) struct Reply {
    pub(super) head: response::Parts,
    pub(super) answer: Answer,
    /// Of the body, already read.
    pub(super) peeked: Option<Bytes>,
    pub(super) provider: Arc<Provider>,
    pub(super) permit: Permit,
    /// From now on: between two pieces.
    pub(super) clock: Clock,
}

/// Sends it.
pub(super) async fn dispatch(call: &mut Call, permit: Permit) -> Result<Reply, Refusal> {
    let provider = Arc::clone(permit.endpoint.target.first());
    call.account.attempted(&provider);
    let timeouts = permit.endpoint.timeouts.or(provider.timeouts).or(Timeouts {
        connect: Some(call.plane.deadlines.connect),
        first_byte: Some(call.plane.deadlines.upstream_first_byte),
        idle: Some(call.plane.deadlines.upstream_idle),
        total: None,
    });
    let request = build(call, &permit, &provider)?;
    let attempt = Attempt {
        provider: &provider,
        settings: permit.runtime.settings(),
        connect: timeouts.connect.unwrap_or(call.plane.deadlines.connect),
        worker: call.worker,
    };
    let mut clock = Clock::start(timeouts.first_byte.unwrap_or(call.plane.deadlines.upstream_first_byte));
    let response = send(call, &attempt, request, &mut clock).await?;
    let (head, mut answer) = response.into_parts();
    call.account.headed(head.status);
    clock.arrived_then(timeouts.idle.unwrap_or(call.plane.deadlines.upstream_idle));
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if call.websocket.is_some() {
            return Ok(Reply { head, answer, peeked: None, provider, permit, clock });
        }
        // Nobody asked for it.
        return Err(Refusal::UpstreamBroken);
    }
    let peeked = check_credential(call, &provider, &head, &mut answer, &mut clock).await?;
    if answer.is_empty() {
        // Nobody will ask for a body: the connection goes back now.
        poll_fn(|context| {
            answer.finish(context);
            Poll::Ready(())
        })
        .await;
    }
    Ok(Reply { head, answer, peeked, provider, permit, clock })
}

async fn send(
    call: &mut Call,
    attempt: &Attempt<'_>,
    request: Request<Outbound>,
    clock: &mut Clock,
) -> Result<http::Response<Answer>, Refusal> {
    let plane = Arc::clone(&call.plane);
    let upload = call.account.upload();
    let mut sending = pin!(plane.upstreams.send(attempt, request));
    let mut uploaded = 0;
    let sent = poll_fn(|context| {
        if let Poll::Ready(sent) = sending.as_mut().poll(context) {
            return Poll::Ready(Ok(sent));
        }
        if plane.ending.load(Ordering::Relaxed) {
            return Poll::Ready(Err(Refusal::Draining));
        }
        while clock.poll_late(context).is_ready() {
            // As long as the body goes up, nobody can expect an answer.
            let bytes = upload.as_ref().map_or(0, |upload| upload.bytes());
            if bytes == uploaded {
                return Poll::Ready(Err(Refusal::UpstreamSilent));
            }
            uploaded = bytes;
            clock.restart();
        }
        Poll::Pending
    });
    match sent.await? {
        Ok(response) => Ok(response),
        Err(failure) => Err(refusal(call, failure)),
    }
}

fn refusal(call: &mut Call, failure: Failure) -> Refusal {
    let Failure { kind, cause } = failure;
    // What the client did wrong explains the rest.
    if let Some(refusal) = call.account.upload().and_then(|upload| upload.refusal()) {
        return refusal;
    }
    call.account.caused(cause);
    match kind {
        FailureKind::Unresolvable => Refusal::UpstreamUnresolvable,
        FailureKind::Forbidden => Refusal::UpstreamForbidden,
        FailureKind::Refused => Refusal::UpstreamRefused,
        FailureKind::Tls => Refusal::UpstreamTls,
        FailureKind::ConnectTimeout => Refusal::UpstreamConnectTimeout,
        FailureKind::Broken => Refusal::UpstreamBroken,
    }
}

fn build(call: &mut Call, permit: &Permit, provider: &Provider) -> Result<Request<Outbound>, Refusal> {
    let endpoint = &permit.endpoint;
    let path = &call.head.uri.path()[permit.context..];
    let query = call.head.uri.query().and_then(|query| query::without(query, &endpoint.stripped_parameters));
    let uri = target(&provider.upstream.prefix, path, query.as_deref()).ok_or(Refusal::BadPath)?;
    let in_path = endpoint.template.model.in_path(path).map(Into::into);
    let reads_body = in_path.is_none() && !endpoint.template.model.body.is_empty() && is_json(&call.head.headers);
    call.account.asks_for(in_path);
    let body = call.body.take().filter(|body| !body.is_end_stream());
    let sized = body.as_ref().is_none_or(|body| body.size_hint().exact().is_some());
    let mut headers = headers::outbound(&call.head.headers, endpoint, provider, sized);
    if call.websocket.is_some() {
        handshake::ask(&mut headers, endpoint);
    }
    let body = match body {
        None => Outbound::Empty,
        Some(body) => {
            let upload = Arc::new(Upload::default());
            call.account.uploads(Arc::clone(&upload));
            let (limit, patience) = (call.plane.limits.body_bytes, call.plane.deadlines.body_idle);
            let reads_model = reads_body.then(|| Arc::clone(endpoint));
            Outbound::Streamed(Box::pin(Inbound::new(body, upload, limit, patience, reads_model)))
        }
    };
    let mut request = Request::new(body);
    *request.method_mut() = call.head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The request target: prefix, vendor path, query. `None` cannot be: each part was one before.
fn target(prefix: &str, path: &str, query: Option<&str>) -> Option<Uri> {
    let query_length = query.map_or(0, |query| query.len() + 1);
    let mut target = String::with_capacity(prefix.len() + path.len() + query_length + 1);
    target.push_str(prefix);
    target.push_str(path);
    if target.is_empty() {
        target.push('/');
    }
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::from_maybe_shared(Bytes::from(target)).ok().map(Uri::from)
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| Shape::of(content_type) == Shape::Document)
}

/// An answer that means "your stored credential is bad" is not the caller's fault and not for the caller. What had to
/// be read to find out is returned.
async fn check_credential(
    call: &mut Call,
    provider: &Provider,
    head: &response::Parts,
    answer: &mut Answer,
    clock: &mut Clock,
) -> Result<Option<Bytes>, Refusal> {
    let failure = &provider.template.auth_failure;
    if !failure.statuses.contains(&head.status.as_u16()) {
        return Ok(None);
    }
    if failure.body.is_empty() {
        call.account.caused("the vendor rejected the stored credential");
        return Err(Refusal::UpstreamAuth);
    }
    let mut peeked = Vec::new();
    while peeked.len() < PEEK {
        let piece = poll_fn(|context| match answer.poll_data(context) {
            Poll::Ready(piece) => Poll::Ready(Ok(piece)),
            Poll::Pending => clock.poll_late(context).map(|()| Err(Refusal::UpstreamBroken)),
        });
        match piece.await? {
            Some(Ok(piece)) => {
                clock.arrived();
                peeked.extend_from_slice(&piece);
            }
            Some(Err(_)) => return Err(Refusal::UpstreamBroken),
            None => break,
        }
    }
    if memchr::memmem::find(&peeked, failure.body.as_bytes()).is_some() {
        call.account.caused("the vendor rejected the stored credential");
        return Err(Refusal::UpstreamAuth);
    }
    Ok((!peeked.is_empty()).then(|| peeked.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_and_query_stay_byte_for_byte() {
        for (prefix, path, query, expected) in [
            ("", "", None, "/"),
            ("", "/", None, "/"),
            ("/v1", "", None, "/v1"),
            ("", "/v1/a%2Fb:c", Some("alt=sse&x=%20+"), "/v1/a%2Fb:c?alt=sse&x=%20+"),
            ("/p", "/x/", Some(""), "/p/x/?"),
            ("", "", Some("a"), "/?a"),
        ] {
            assert_eq!(target(prefix, path, query).unwrap().to_string(), expected);
        }
    }
}
