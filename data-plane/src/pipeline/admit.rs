//! Step 4: whether this caller may call this endpoint now. What is reserved here is given back when the permit goes;
//! either everything is reserved or nothing.

use std::sync::Arc;

use http_body::Body as _;

use super::authenticate::Caller;
use super::parcel::is_json;
use super::paths;
use super::receive::Call;
use super::route::Routed;
use crate::error::Refusal;
use crate::limit::reservation::{Ask, Reservation};
use crate::limit::{self, Held, InFlight};
use crate::runtime::Runtime;
use crate::runtime::api_key::ApiKey;
use crate::runtime::endpoint::Endpoint;

/// Leave to send something to a vendor: only this step makes one, and `dispatch` takes it.
pub(super) struct Permit {
    pub(super) runtime: Arc<Runtime>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) context: usize,
    /// Bytes of the body, at most.
    pub(super) body_bytes: u64,
    pub(super) key: Arc<ApiKey>,
    /// A bit for each target whose rules do not let the request pass.
    pub(super) barred: u64,
    /// Of the process's budget.
    _held: Held,
    /// `None`: keys are not counted.
    _in_flight: Option<InFlight>,
}

/// Decides.
pub(super) fn admit(call: &mut Call, routed: Routed, caller: Caller) -> Result<Permit, Refusal> {
    let Routed { runtime, endpoint, context } = routed;
    let Caller { key } = caller;
    if !key.opens(endpoint.id) {
        return Err(Refusal::OutOfScope);
    }
    // A proxy is closed with the last of its providers.
    if endpoint.disabled || endpoint.target.is_disabled() {
        return Err(Refusal::EndpointDisabled);
    }
    let barred = if endpoint.guards_paths { paths::judge(call, &endpoint, context)? } else { 0 };
    // One that does not say its size is measured as it comes.
    let announced = call.body.as_ref().and_then(|body| body.size_hint().exact());
    let body_bytes = call.plane.limits.body(endpoint.max_body_bytes);
    if announced.is_some_and(|length| length > body_bytes) {
        return Err(Refusal::BodyTooLarge);
    }
    let limit = call.plane.limits.key_requests;
    let in_flight = match limit {
        0 => None,
        limit => {
            let count = key.in_flight.get(|| call.plane.key_counts.of(key.id));
            Some(InFlight::enter(count, limit).ok_or(Refusal::TooManyRequests)?)
        }
    };
    // Nobody waits for memory.
    let held = call.plane.budget.reserve(limit::REQUEST).ok_or(Refusal::Overloaded)?;
    if !key.limits.is_empty() || !endpoint.limits.is_empty() {
        reserve(call, &endpoint, &key, context)?;
    }
    call.account.admitted();
    Ok(Permit { runtime, endpoint, context, body_bytes, key, barred, _held: held, _in_flight: in_flight })
}

/// Takes from the rules of both, all or nothing. What the request came to is settled when its account closes.
fn reserve(call: &mut Call, endpoint: &Endpoint, key: &ApiKey, context: usize) -> Result<(), Refusal> {
    let plane = Arc::clone(&call.plane);
    // A token of text has about four bytes. A body that does not say its size is told by what it comes to.
    let body = call.body.as_ref().filter(|body| !body.is_end_stream() && is_json(&call.head.headers));
    let input = body.map(|body| body.size_hint().exact().unwrap_or_default() / 4);
    let now = plane.meters.at(call.account.started(), call.now_ms);
    let ask = Ask { path: call.head.uri.path().get(context..).unwrap_or_default(), input, now };
    let mut reservation = Reservation::default();
    let taken = reservation
        .acquire(&key.limits, &ask, &plane.meters)
        .and_then(|()| reservation.acquire(&endpoint.limits, &ask, &plane.meters));
    match taken {
        Ok(()) => {
            call.account.reserved(reservation);
            Ok(())
        }
        Err(exceeded) => {
            call.account.exceeds(exceeded);
            Err(Refusal::LimitExceeded)
        }
    }
}
