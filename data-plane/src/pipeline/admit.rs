//! Step 4: whether this caller may call this endpoint now. Rates, budgets and access rules come here; what they reserve
//! is given back when the permit goes.

use std::sync::Arc;

use http_body::Body as _;

use super::authenticate::Caller;
use super::receive::Call;
use super::route::Routed;
use crate::error::Refusal;
use crate::runtime::Runtime;
use crate::runtime::endpoint::Endpoint;

/// Leave to send something to a vendor: only this step makes one, and `dispatch` takes it.
pub(super) struct Permit {
    pub(super) runtime: Arc<Runtime>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) context: usize,
}

/// Decides.
pub(super) fn admit(call: &mut Call, routed: Routed, caller: Caller) -> Result<Permit, Refusal> {
    let Routed { runtime, endpoint, context } = routed;
    let Caller { key } = caller;
    if !key.opens(endpoint.id) {
        return Err(Refusal::OutOfScope);
    }
    // A proxy is closed with its provider: both must allow.
    if endpoint.disabled || endpoint.target.first().disabled {
        return Err(Refusal::EndpointDisabled);
    }
    // One that does not say its size is measured as it comes.
    let announced = call.body.as_ref().and_then(|body| body.size_hint().exact());
    if announced.is_some_and(|length| length > call.plane.limits.body_bytes) {
        return Err(Refusal::BodyTooLarge);
    }
    call.account.admitted();
    Ok(Permit { runtime, endpoint, context })
}
