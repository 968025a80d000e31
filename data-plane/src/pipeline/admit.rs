//! Step 4: whether this caller may call this endpoint now. What is reserved here is given back when the permit goes;
//! either everything is reserved or nothing.

use std::sync::Arc;

use http_body::Body as _;

use super::authenticate::Caller;
use super::denial::Denial;
use super::parcel::is_json;
use super::paths;
use super::plan::Plan;
use super::receive::Call;
use super::route::Routed;
use super::weigh::Weight;
use crate::error::Refusal;
use crate::limit::reservation::{Ask, Load, Refused, Side};
use crate::limit::rule::{Needs, Owner, Rule};
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
    /// What the rules of both have yet to know of the request.
    pub(super) needs: Needs,
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
    let needs = key.needs.and(endpoint.needs);
    Ok(Permit { runtime, endpoint, context, body_bytes, key, barred, needs, _held: held, _in_flight: in_flight })
}

/// Takes from those rules of both that need nothing of the body.
fn reserve(call: &mut Call, endpoint: &Endpoint, key: &ApiKey, context: usize) -> Result<(), Refusal> {
    // A token of text has about four bytes. A body that does not say its size is told by what it comes to.
    let body = call.body.as_ref().filter(|body| !body.is_end_stream() && is_json(&call.head.headers));
    let input = body.map(|body| body.size_hint().exact().unwrap_or_default() / 4);
    acquire(call, [&*key.limits, &*endpoint.limits], context, input, None)
        .map_err(|refused| refuse(call, refused, None))
}

/// Takes from those rules of both that had to wait for the body. Targets without a price are left out where money is
/// counted.
pub(super) fn reserve_weighed(
    call: &mut Call,
    permit: &Permit,
    plan: &mut Plan<'_>,
    weight: &Weight,
) -> Result<(), Refusal> {
    let targets = permit.endpoint.target.targets();
    let rules = [&*permit.key.limits, &*permit.endpoint.limits];
    let path = &call.head.uri.path()[permit.context..];
    let is_open = |plan: &Plan<'_>, at: usize| !plan.is_barred(at) && !targets[at].provider.disabled;
    let price = |at: usize, input, output| {
        let model = weight.model(at)?;
        targets[at].provider.prices.worst_case(model, input, output).ok()
    };
    let mut names: Vec<&str> = weight.asked.as_deref().into_iter().collect();
    names.extend((0..targets.len()).filter(|at| is_open(plan, *at)).filter_map(|at| weight.sent.get(at)?.as_deref()));
    let wants_price = |rule: &&Rule| {
        rule.wants_price() && rule.covers(path) && rule.speaks_of(names.iter().copied()) && weight.input.is_some()
    };
    if let Some(rule) = rules.into_iter().flatten().find(wants_price) {
        let open = (0..targets.len()).filter(|at| is_open(plan, *at));
        let (priced, unpriced): (Vec<_>, Vec<_>) = open.partition(|at| price(*at, 1, 1).is_some());
        if let (true, Some(at)) = (priced.is_empty(), unpriced.first()) {
            let (model, provider) = (weight.model(*at), &targets[*at].provider.name);
            let asked = format!("{} of llm-provider {provider}", model.unwrap_or("a request that names no model"));
            let denial = Denial::new(told(rule.owner, &rule.name), &asked, "what has a price");
            call.account.denied(denial);
            call.account.returns();
            return Err(Refusal::UnpricedModel);
        }
        plan.bar(unpriced.into_iter().fold(0, |targets, at| targets | 1 << at));
    }
    let dearest = |input, output| {
        (0..targets.len()).filter(|at| is_open(plan, *at)).filter_map(|at| price(at, input, output)).max()
    };
    let Weight { input, most_input, output, .. } = *weight;
    let load = Load { models: &names, most_input, output, price: &dearest };
    let taken = acquire(call, rules, permit.context, input, Some(&load));
    taken.map_err(|refused| refuse(call, refused, Some((&permit.endpoint, weight))))
}

/// Takes from all of these rules or from none. What the request came to is settled when its account closes.
fn acquire(
    call: &mut Call,
    rules: [&[Rule]; 2],
    context: usize,
    input: Option<u64>,
    load: Option<&Load<'_>>,
) -> Result<(), Refused> {
    let plane = Arc::clone(&call.plane);
    let now = plane.meters.at(call.account.started(), call.now_ms);
    let ask = Ask { path: call.head.uri.path().get(context..).unwrap_or_default(), input, load, now };
    let reservation = call.account.reservation();
    rules.into_iter().try_for_each(|rules| reservation.acquire(rules, &ask, &plane.meters))
}

/// Gives back whatever was taken, and says why.
fn refuse(call: &mut Call, refused: Refused, weighed: Option<(&Endpoint, &Weight)>) -> Refusal {
    call.account.returns();
    match refused {
        Refused::Exceeded(exceeded) => {
            call.account.exceeds(exceeded);
            Refusal::LimitExceeded
        }
        Refused::Unbounded(owner, rule, side) => {
            if let Some((endpoint, weight)) = weighed {
                let (asked, allowed) = unbounded(endpoint, weight, side);
                call.account.denied(Denial::new(told(owner, &rule), &asked, &allowed));
            }
            Refusal::UnboundedRequest
        }
    }
}

/// What was asked for, and what would have been allowed.
fn unbounded(endpoint: &Endpoint, weight: &Weight, side: Side) -> (String, String) {
    let bounds = endpoint.template.demand.bounds().collect::<Vec<_>>().join(" or ");
    match (side, &weight.elsewhere) {
        (Side::Input, Some(elsewhere)) => {
            (format!("input from outside of the body, {elsewhere}"), "text in the body".to_owned())
        }
        _ if !weight.read => (
            format!("a request in which {bounds} cannot be read, or in two ways"),
            "plain JSON, each member once".to_owned(),
        ),
        (Side::Input | Side::Output, _) => ("output without a bound".to_owned(), format!("set {bounds}")),
    }
}

fn told(owner: Owner, rule: &str) -> String {
    let owner = match owner {
        Owner::ApiKey(_) => "this api-key",
        Owner::Endpoint(_) => "this endpoint",
    };
    format!("limit {rule} of {owner}")
}
