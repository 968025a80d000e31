//! Step 4: whether this caller may call this endpoint now. What is reserved here is given back when the permit goes;
//! either everything is reserved or nothing.

use std::sync::Arc;

use http_body::Body as _;

use super::authenticate::Caller;
use super::paths;
use super::receive::Call;
use super::route::Routed;
use crate::error::Refusal;
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
    // Last: nobody waits for memory, and who is refused for another reason takes none.
    let held = call.plane.budget.reserve(limit::REQUEST).ok_or(Refusal::Overloaded)?;
    call.account.admitted();
    Ok(Permit { runtime, endpoint, context, body_bytes, key, barred, _held: held, _in_flight: in_flight })
}
