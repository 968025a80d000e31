//! Step 4: whether this caller may call this endpoint now. What is reserved here is given back when the permit goes;
//! either everything is reserved or nothing.

use std::sync::Arc;

use http_body::Body as _;

use super::authenticate::Caller;
use super::denial::Denial;
use super::lack;
use super::parcel::{Parcel, is_json};
use super::paths;
use super::plan::{Leg, Plan};
use super::receive::Call;
use super::route::Routed;
use super::weigh::Weight;
use crate::error::Refusal;
use crate::limit::lease::Reach;
use crate::limit::reservation::{Ask, Load, Refused, Reservation, Side};
use crate::limit::rule::{Needs, Owner, Rule};
use crate::limit::{self, Held, InFlight};
use crate::runtime::Runtime;
use crate::runtime::api_key::ApiKey;
use crate::runtime::endpoint::{Endpoint, Target};

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
pub(super) async fn admit(call: &mut Call, routed: Routed, caller: Caller) -> Result<Permit, Refusal> {
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
        reserve(call, &endpoint, &key, context).await?;
    }
    call.account.admitted();
    let needs = key.needs.and(endpoint.needs);
    Ok(Permit { runtime, endpoint, context, body_bytes, key, barred, needs, _held: held, _in_flight: in_flight })
}

/// Takes from those rules of both that need nothing of the body.
async fn reserve(call: &mut Call, endpoint: &Endpoint, key: &ApiKey, context: usize) -> Result<(), Refusal> {
    // A token of text has about four bytes. A body that does not say its size is told by what it comes to.
    let body = call.body.as_ref().filter(|body| !body.is_end_stream() && is_json(&call.head.headers));
    let input = body.map(|body| body.size_hint().exact().unwrap_or_default() / 4);
    let taken = acquire(call, [&*key.limits, &*endpoint.limits], context, input, None).await;
    taken.map_err(|refused| refuse(call, refused, None))
}

/// Takes from those rules of both that had to wait for the body. Where money is counted, targets without a price are
/// left out as long as another has one.
pub(super) async fn reserve_weighed(
    call: &mut Call,
    permit: &Permit,
    plan: &mut Plan<'_>,
    weight: &Weight,
) -> Result<(), Refusal> {
    let targets = permit.endpoint.target.targets();
    let rules = [&*permit.key.limits, &*permit.endpoint.limits];
    let path = &call.head.uri.path()[permit.context..];
    let is_open = |plan: &Plan<'_>, at: usize| !plan.is_barred(at) && !targets[at].provider.disabled;
    let open = |plan: &Plan<'_>| (0..targets.len()).find(|at| is_open(plan, *at)).unwrap_or_default();
    let price = |at: usize, input, output| weight.price(at, &targets[at].provider, input, output);
    let mut names: Vec<&str> = weight.asked.as_deref().into_iter().collect();
    names.extend((0..targets.len()).filter(|at| is_open(plan, *at)).filter_map(|at| weight.sent.get(at)?.as_deref()));
    let wants_price = |rule: &Rule| {
        rule.wants_price() && rule.covers(path) && rule.speaks_of(names.iter().copied()) && weight.input.is_some()
    };
    if targets.len() > 1 && rules.into_iter().flatten().any(wants_price) {
        let open = (0..targets.len()).filter(|at| is_open(plan, *at));
        let (priced, unpriced): (Vec<_>, Vec<_>) = open.partition(|at| price(*at, 1, 1).is_some());
        if !priced.is_empty() {
            plan.bar(unpriced.into_iter().fold(0, |targets, at| targets | 1 << at));
        }
    }
    let dearest = |input, output| {
        (0..targets.len()).filter(|at| is_open(plan, *at)).filter_map(|at| price(at, input, output)).max()
    };
    let Weight { input, most_input, output, .. } = *weight;
    let load = Load { models: &names, most_input, output, price: &dearest };
    let taken = acquire(call, rules, permit.context, input, Some(&load)).await;
    let target = open(plan);
    taken.map_err(|refused| refuse(call, refused, Some((permit, weight, target))))
}

/// Takes from the rules of a target's provider for one attempt there; from all or from none.
pub(super) async fn reserve_attempt(
    call: &mut Call,
    permit: &Permit,
    leg: &Leg<'_>,
    weight: Option<&Weight>,
    parcel: &Parcel,
) -> Result<(), Refused> {
    let (plane, provider, target) = (Arc::clone(&call.plane), &**leg.provider, leg.target());
    let path = &call.head.uri.path()[permit.context..];
    let input = weight.map_or_else(|| parcel.question().map(|bytes| bytes / 4), |weight| weight.input);
    let price = |input, output| weight?.price(target, provider, input, output);
    let names = weight.map(|weight| [weight.asked.as_deref(), weight.sent.get(target).and_then(Option::as_deref)]);
    let names: Vec<&str> = names.into_iter().flatten().flatten().collect();
    let load = weight.map(|Weight { most_input, output, .. }| Load {
        models: &names,
        most_input: *most_input,
        output: *output,
        price: &price,
    });
    let account = &call.account;
    let mut reservation = Reservation::default();
    let mut take = |reach| {
        reservation.truncate(0);
        let head = Ask { path, input, load: None, now: account.now(), reach };
        reservation.acquire(&provider.limits, &head, &plane.meters)?;
        match &load {
            Some(load) => reservation.acquire(&provider.limits, &Ask { load: Some(load), ..head }, &plane.meters),
            None => Ok(()),
        }
    };
    match (take(lack::reach(&plane.meters)), plane.meters.board()) {
        (Err(Refused::Dry(dry)), Some(board)) => Box::pin(lack::wait(Arc::clone(board), dry, take)).await,
        (taken, _) => taken,
    }?;
    call.account.reserved_for_attempt(reservation);
    Ok(())
}

/// No target has room: gives back whatever was taken, and tells what this one's provider said.
pub(super) fn refuse_target(
    call: &mut Call,
    permit: &Permit,
    weight: Option<&Weight>,
    target: usize,
    mut refused: Refused,
) -> Refusal {
    if let (Refused::Exceeded(exceeded), Target::Route(route)) = (&mut refused, &permit.endpoint.target) {
        exceeded.provider = Some(route.targets()[target].provider.name.clone());
    }
    refuse(call, refused, weight.map(|weight| (permit, weight, target)))
}

/// Takes from all of these rules or from none. What the request came to is settled when its account closes.
async fn acquire(
    call: &mut Call,
    rules: [&[Rule]; 2],
    context: usize,
    input: Option<u64>,
    load: Option<&Load<'_>>,
) -> Result<(), Refused> {
    let plane = Arc::clone(&call.plane);
    let reach = lack::reach(&plane.meters);
    match (take(call, rules, (context, input, load), reach), plane.meters.board()) {
        (Err(Refused::Dry(dry)), Some(board)) => {
            let take = |reach| take(call, rules, (context, input, load), reach);
            Box::pin(lack::wait(Arc::clone(board), dry, take)).await
        }
        (taken, _) => taken,
    }
}

/// What is lacking leaves nothing taken.
fn take(
    call: &mut Call,
    rules: [&[Rule]; 2],
    (context, input, load): (usize, Option<u64>, Option<&Load<'_>>),
    reach: Reach,
) -> Result<(), Refused> {
    let plane = Arc::clone(&call.plane);
    let now = match reach {
        Reach::Again => call.account.now(),
        Reach::Alone | Reach::Ask => plane.meters.at(call.account.started(), call.now_ms),
    };
    let ask = Ask { path: call.head.uri.path().get(context..).unwrap_or_default(), input, load, now, reach };
    let reservation = call.account.reservation();
    let before = reservation.len();
    let taken = rules.into_iter().try_for_each(|rules| reservation.acquire(rules, &ask, &plane.meters));
    if matches!(taken, Err(Refused::Dry(_))) {
        reservation.truncate(before);
    }
    taken
}

/// Gives back whatever was taken, and says why. `weighed`: the request, and the target that is spoken of.
fn refuse(call: &mut Call, refused: Refused, weighed: Option<(&Permit, &Weight, usize)>) -> Refusal {
    call.account.returns();
    let (side, owner, rule) = match refused {
        Refused::Exceeded(exceeded) => {
            call.account.exceeds(exceeded);
            return Refusal::LimitExceeded;
        }
        // Whoever lacks something was told to wait for it, and then goes by what the node has.
        Refused::Dry(_) => return Refusal::Overloaded,
        Refused::Unbounded(owner, rule, side) => (Some(side), owner, rule),
        Refused::Unpriced(owner, rule) => (None, owner, rule),
    };
    let refusal = if side.is_some() { Refusal::UnboundedRequest } else { Refusal::UnpricedModel };
    let Some((permit, weight, target)) = weighed else { return refusal };
    let provider = &permit.endpoint.target.targets()[target].provider;
    let owner = match owner {
        Owner::ApiKey(_) => "this api-key".to_owned(),
        Owner::Endpoint(id) if id == permit.endpoint.id => "this endpoint".to_owned(),
        Owner::Endpoint(_) => format!("llm-provider {}", provider.name),
    };
    let (asked, allowed) = if let Some(side) = side {
        unbounded(&permit.endpoint, weight, side)
    } else {
        let model = weight.model(target).unwrap_or("a request that names no model");
        (format!("{model} of llm-provider {}", provider.name), "what has a price".to_owned())
    };
    call.account.denied(Denial::new(format!("limit {rule} of {owner}"), &asked, &allowed));
    refusal
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
