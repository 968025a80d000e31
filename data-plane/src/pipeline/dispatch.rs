//! Step 6: to the vendor and back to the head of its answer. An attempt that fails before it has a good head may be
//! followed by another, elsewhere; what the last one said is the answer.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, Request, StatusCode, response};
use tokio::time::{Instant, sleep};

use super::admit::Permit;
use super::attempts::Ending;
use super::choose::{Chooser, Spent};
use super::clock::{Clock, Late};
use super::listing::{self, Asked};
use super::parcel::Parcel;
use super::plan::{Leg, Plan};
use super::receive::Call;
use super::weigh;
use crate::error::Refusal;
use crate::runtime::provider::{Provider, Timeouts};
use crate::telemetry::meters::{Attempted, ProviderMeters};
use crate::upstream::health::Flight;
use crate::upstream::line::{Answer, Outbound};
use crate::upstream::{Attempt, Failure, FailureKind};

/// Of an answer that may say "your credential is bad", so much is read before it is passed on.
const PEEK: usize = 16 * 1024;
/// Of an answer that nobody will see, so much is read if it is there already: its connection can be used again.
const LEFTOVER: usize = 64 * 1024;
/// Before a vendor is asked the same again.
const BREATH: Duration = Duration::from_millis(50);

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

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
    /// To be told how the answer ends.
    pub(super) flight: Flight,
}

/// What one attempt brought.
struct Got {
    head: response::Parts,
    answer: Answer,
    peeked: Option<Bytes>,
    clock: Clock,
}

/// Why an attempt may be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// No connection: the vendor has seen nothing.
    Unsent,
    /// No head in time.
    Silent,
    /// Closed or garbled instead of a head.
    Broken,
    /// It says that it cannot.
    Failing,
    /// It says that it is too much, and until when.
    Busy(Option<Duration>),
    /// The stored credential is no good there.
    Credential,
}

/// Sends it.
pub(super) async fn dispatch(call: &mut Call, permit: Permit) -> Result<Reply, Refusal> {
    let (plane, endpoint) = (Arc::clone(&call.plane), Arc::clone(&permit.endpoint));
    let total = endpoint.timeouts.total.or(plane.deadlines.total);
    let deadline = total.map(|total| Instant::from_std(call.account.started()) + total);
    let mut plan = Plan::new(&plane.upstreams, &endpoint, || call.account.random());
    let mut parcel = Parcel::new(call, &permit, plan.may_go_on());
    plan.bar(permit.barred);
    let mut weight = None;
    if endpoint.guards_models || permit.key.models.is_some() || permit.needs.body {
        // Boxed, so that other requests do not pay for its size.
        weight = Box::pin(weigh::settle(call, &permit, &mut parcel, &mut plan, deadline)).await?;
    }
    let chooser = Chooser { permit: &permit, weight };
    let mut leg = chooser.first(call, &mut plan, &parcel).await?;
    parcel.prepare(call, &permit).await?;
    call.account.begins(leg.provider)?;
    loop {
        let ended = attempt(call, &permit, &mut parcel, &leg, deadline).await;
        let trouble = trouble(&ended);
        learn(&leg, &ended, trouble, &parcel);
        call.account.ended_attempt(leg.provider, ending(&ended));
        let in_time = deadline.is_none_or(|deadline| Instant::now() + BREATH < deadline);
        let next = match trouble {
            Some(trouble) if in_time && parcel.is_whole() && plan.may_go_on() => {
                let harmless = is_repeatable(trouble, &parcel, &call.head.method);
                chooser.next(call, &mut plan, &parcel, &leg, harmless, spent(trouble)).await
            }
            Some(_) | None => None,
        };
        let Some(next) = next else {
            parcel.let_go();
            let Got { mut head, mut answer, mut peeked, mut clock } = ended?;
            if parcel.lists() && head.status.is_success() {
                let asked = Asked { permit: &permit, target: leg.target(), flight: &leg.flight };
                // Boxed, so that other requests do not pay for its size.
                peeked = Box::pin(listing::cut(call, &asked, &mut head, &mut answer, &mut clock)).await?;
            }
            if answer.is_empty() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                give_back(&mut answer).await;
            }
            let Leg { provider, flight, .. } = leg;
            return Ok(Reply { head, answer, peeked, provider: Arc::clone(provider), permit, clock, flight });
        };
        call.account.goes_on();
        if let (Ok(got), true) = (ended, parcel.is_at_home()) {
            Box::pin(use_up(got.answer)).await;
        }
        leg = next;
        if leg.repeats {
            sleep(BREATH).await;
        }
    }
}

/// What one attempt came to, for the log and the caller.
fn ending(ended: &Result<Got, Refusal>) -> Ending {
    match ended {
        Ok(got) => Ending::Status(got.head.status),
        Err(refusal) => Ending::Failed(*refusal),
    }
}

/// `None`: this is the answer.
fn trouble(ended: &Result<Got, Refusal>) -> Option<Trouble> {
    match ended {
        Ok(got) => match got.head.status.as_u16() {
            429 => Some(Trouble::Busy(pause(&got.head.headers, SystemTime::now()))),
            // What vendors, and the networks before them, say when another machine might have done better.
            500 | 502..=504 | 520..=524 | 529 => Some(Trouble::Failing),
            _ => None,
        },
        Err(refusal) => match refusal {
            Refusal::UpstreamUnresolvable
            | Refusal::UpstreamForbidden
            | Refusal::UpstreamRefused
            | Refusal::UpstreamTls
            | Refusal::UpstreamConnectTimeout => Some(Trouble::Unsent),
            Refusal::UpstreamSilent => Some(Trouble::Silent),
            Refusal::UpstreamBroken => Some(Trouble::Broken),
            Refusal::UpstreamAuth => Some(Trouble::Credential),
            // The client's own, or the end of everything.
            _ => None,
        },
    }
}

/// What an attempt came to that ended so.
const fn spent(trouble: Trouble) -> Spent {
    match trouble {
        Trouble::Unsent => Spent::Nothing,
        Trouble::Failing | Trouble::Busy(_) | Trouble::Credential => Spent::Request,
        Trouble::Silent | Trouble::Broken => Spent::Doubt,
    }
}

/// Whether the same vendor may be asked the same again.
fn is_repeatable(trouble: Trouble, parcel: &Parcel, method: &http::Method) -> bool {
    match trouble {
        Trouble::Unsent => true,
        Trouble::Silent | Trouble::Broken | Trouble::Failing => parcel.is_harmless(method),
        Trouble::Busy(_) | Trouble::Credential => false,
    }
}

/// Tells the target's health, at once.
fn learn(leg: &Leg<'_>, ended: &Result<Got, Refusal>, trouble: Option<Trouble>, parcel: &Parcel) {
    match (trouble, ended) {
        (Some(Trouble::Busy(pause)), _) => leg.flight.was_busy(pause),
        (Some(Trouble::Silent), _) => leg.flight.was_silent(),
        (Some(Trouble::Unsent | Trouble::Broken | Trouble::Failing | Trouble::Credential), _) => leg.flight.failed(),
        (None, Ok(_)) => leg.flight.succeeded(),
        // It had all of the time, and the whole request.
        (None, Err(Refusal::DeadlineExceeded)) if leg.is_first() && parcel.is_received() => leg.flight.was_silent(),
        (None, Err(_)) => {}
    }
}

/// How long a vendor asks to be left alone.
fn pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: HeaderName| headers.get(name)?.to_str().ok();
    if let Some(milliseconds) = text(RETRY_AFTER_MS).and_then(|text| text.trim().parse().ok()) {
        return Some(Duration::from_millis(milliseconds));
    }
    let text = text(RETRY_AFTER)?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

/// Nobody will ask for a body: the connection goes back now.
async fn give_back(answer: &mut Answer) {
    poll_fn(|context| {
        answer.finish(context);
        Poll::Ready(())
    })
    .await;
}

/// Reads what is there of an answer that nobody will see; if that is all, its connection goes back.
async fn use_up(mut answer: Answer) {
    poll_fn(|context| {
        let mut read = 0;
        while read < LEFTOVER {
            match answer.poll_data(context) {
                Poll::Ready(Some(Ok(piece))) => read += piece.len(),
                Poll::Ready(Some(Err(_)) | None) | Poll::Pending => break,
            }
        }
        Poll::Ready(())
    })
    .await;
}

/// One attempt, to the head of the answer.
async fn attempt(
    call: &mut Call,
    permit: &Permit,
    parcel: &mut Parcel,
    leg: &Leg<'_>,
    deadline: Option<Instant>,
) -> Result<Got, Refusal> {
    let provider = leg.provider;
    call.account.attempted(provider);
    let node = &call.plane.deadlines;
    let timeouts = permit.endpoint.timeouts.or(provider.timeouts).or(Timeouts {
        connect: Some(node.connect),
        first_byte: Some(node.upstream_first_byte),
        idle: Some(node.upstream_idle),
        total: None,
    });
    let connect = timeouts.connect.unwrap_or(node.connect);
    let mut clock =
        Clock::start_until(call.timers(), timeouts.first_byte.unwrap_or(node.upstream_first_byte), deadline);
    let idle = timeouts.idle.unwrap_or(node.upstream_idle);
    let request = parcel.pack(call, permit, leg)?;
    let asked = parcel.asks(call, permit, provider);
    call.account.asked_for_usage(asked);
    let attempt = Attempt {
        provider,
        pool: leg.flight.pool(),
        settings: permit.runtime.settings(),
        connect,
        worker: call.worker,
    };
    let response = send(call, &attempt, request, &mut clock).await?;
    let (head, mut answer) = response.into_parts();
    call.account.headed(head.status);
    clock.arrived_then(idle);
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if call.websocket.is_some() {
            return Ok(Got { head, answer, peeked: None, clock });
        }
        // Nobody asked for it.
        return Err(Refusal::UpstreamBroken);
    }
    let peeked = check_credential(call, provider, &head, &mut answer, &mut clock).await?;
    Ok(Got { head, answer, peeked, clock })
}

async fn send(
    call: &mut Call,
    attempt: &Attempt<'_>,
    request: Request<Outbound>,
    clock: &mut Clock,
) -> Result<http::Response<Answer>, Refusal> {
    let plane = Arc::clone(&call.plane);
    let counted = ProviderMeters::attempt(plane.metrics.provider(attempt.provider));
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
        // As long as the body goes up, nobody can expect an answer; whether the client goes on with it is for the
        // body's own deadline to say, and nothing that the vendor is to blame for.
        if let Some(upload) = &upload
            && (upload.bytes() != uploaded || upload.is_awaited())
        {
            uploaded = upload.bytes();
            clock.restart();
        }
        clock.poll_late(context).map(|late| match late {
            Late::Deadline => Err(Refusal::DeadlineExceeded),
            Late::Patience => Err(Refusal::UpstreamSilent),
        })
    });
    match sent.await {
        Ok(Ok(response)) => {
            counted.ends(Attempted::Answered);
            Ok(response)
        }
        Ok(Err(failure)) => {
            let kind = failure.kind;
            let refusal = refusal(call, failure);
            // Where the client's request failed, nothing is known of the vendor.
            if refusal.is_upstream() {
                counted.ends(kind.into());
            }
            Err(refusal)
        }
        Err(refusal) => {
            if refusal == Refusal::UpstreamSilent {
                counted.ends(Attempted::Silent);
            }
            Err(refusal)
        }
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
        match next_piece(answer, clock).await? {
            Some(piece) => peeked.extend_from_slice(&piece),
            None => break,
        }
    }
    if memchr::memmem::find(&peeked, failure.body.as_bytes()).is_some() {
        call.account.caused("the vendor rejected the stored credential");
        return Err(Refusal::UpstreamAuth);
    }
    Ok((!peeked.is_empty()).then(|| peeked.into()))
}

/// Of an answer that is read before it is passed on; `None`: that was all.
pub(super) async fn next_piece(answer: &mut Answer, clock: &mut Clock) -> Result<Option<Bytes>, Refusal> {
    poll_fn(|context| match answer.poll_data(context) {
        Poll::Ready(piece) => {
            clock.arrived();
            Poll::Ready(piece.transpose().map_err(|_| Refusal::UpstreamBroken))
        }
        Poll::Pending => clock.poll_late(context).map(|late| match late {
            Late::Patience => Err(Refusal::UpstreamBroken),
            Late::Deadline => Err(Refusal::DeadlineExceeded),
        }),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_read_in_all_its_forms() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let read = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, http::HeaderValue::from_static(value));
            pause(&headers, now)
        };
        assert_eq!(read("retry-after", "7"), Some(Duration::from_secs(7)));
        assert_eq!(read("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)));
        for past in ["Sun, 06 Nov 1994 08:49:07 GMT", "soon", "-1", ""] {
            assert_eq!(read("retry-after", past), None, "{past}");
        }
    }
}
