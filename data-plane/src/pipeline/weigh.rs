//! Part of step 6, where anything depends on what the body says: which model each target is asked for, and what the
//! request may come to. Reads no more of the body than that takes, before a byte of it is sent.

use tokio::time::{Instant, timeout_at};

use super::admit::{self, Permit};
use super::listing;
use super::models::{self, Named};
use super::parcel::Parcel;
use super::plan::Plan;
use super::query;
use super::receive::Call;
use crate::dialect::demand::Demand;
use crate::error::Refusal;
use crate::runtime::access::Path;
use crate::runtime::provider::Provider;

/// What vendors put before a question of their own accord, such as how tools are used: tokens, at most.
const HIDDEN: u64 = 2048;
/// A larger body carries pictures, sound or files, whose bytes tell nothing.
const LARGEST_QUESTION: u64 = 1024 * 1024;

/// What a request may come to.
#[derive(Debug, Default)]
pub(super) struct Weight {
    /// The model, as the client calls it.
    pub(super) asked: Option<String>,
    /// What each target is asked for where that is another name.
    pub(super) sent: Box<[Option<Box<str>>]>,
    /// Tokens of input, estimated; `None`: it asks a model nothing.
    pub(super) input: Option<u64>,
    /// Tokens of input, at most; `None`: the body does not bound them.
    pub(super) most_input: Option<u64>,
    /// Tokens of output, at most; `None`: the body does not bound them.
    pub(super) output: Option<u64>,
    /// Where input comes from that is not in the body.
    pub(super) elsewhere: Option<Box<str>>,
    /// The body was read to its end and understood.
    pub(super) read: bool,
}

impl Weight {
    /// What a target is asked for.
    pub(super) fn model(&self, target: usize) -> Option<&str> {
        self.sent.get(target).and_then(Option::as_deref).or(self.asked.as_deref())
    }

    /// Nano-dollars, at most, of so many tokens at a target; `None`: it has no price.
    pub(super) fn price(&self, target: usize, provider: &Provider, input: u64, output: u64) -> Option<u64> {
        provider.prices.worst_case(self.model(target)?, input, output).ok()
    }
}

/// Decides about models, and takes from the rules that had to wait for the body.
pub(super) async fn settle(
    call: &mut Call,
    permit: &Permit,
    parcel: &mut Parcel,
    plan: &mut Plan<'_>,
    deadline: Option<Instant>,
) -> Result<Option<Box<Weight>>, Refusal> {
    let (needs, guarded) = (permit.needs, permit.endpoint.guards_models || permit.key.models.is_some());
    let mut named = Named::default();
    if guarded && listing::is_list(&permit.endpoint.template.model, &call.head.uri.path()[permit.context..]) {
        parcel.asks_for_list();
    }
    if guarded || needs.model {
        named = models::settle(call, permit, parcel, deadline, !guarded && !needs.firm).await?;
        plan.bar(named.barred);
    }
    if !needs.body {
        return Ok(None);
    }
    let weighing = weigh(call, permit, parcel, named);
    let weight = match deadline {
        None => weighing.await,
        Some(deadline) => timeout_at(deadline, weighing).await.map_err(|_| Refusal::DeadlineExceeded)?,
    }?;
    admit::reserve_weighed(call, permit, plan, &weight).await?;
    Ok(Some(Box::new(weight)))
}

async fn weigh(call: &Call, permit: &Permit, parcel: &mut Parcel, named: Named) -> Result<Weight, Refusal> {
    let template = &permit.endpoint.template;
    let Named { barred: _, asked, sent } = named;
    if call.websocket.is_some() {
        // What is asked for stands in messages: only the vendor knows what that comes to.
        let query = call.head.uri.query().unwrap_or_default();
        let asked = ["model", "deployment"].into_iter().find_map(|name| query::values(query, name).next());
        return Ok(Weight { asked: asked.map(Into::into), input: Some(0), ..Weight::default() });
    }
    let path = Path::read(&call.head.uri.path()[permit.context..]);
    let idle = template.model.unmodelled.iter().chain(&template.uncharged).any(|idle| idle.surely_means(&path));
    if !parcel.has_body() || idle {
        return Ok(Weight { asked, sent, ..Weight::default() });
    }
    let (limits, bound) = (&call.plane.limits, permit.needs.bound);
    let most = if bound { limits.model_bytes } else { limits.retained_bytes };
    parcel.take_in(call, most, bound).await?;
    let input = Some(parcel.length().unwrap_or_default().min(LARGEST_QUESTION) / 4);
    let weight = Weight { asked, sent, input, ..Weight::default() };
    let Some(body) = parcel.whole() else { return Ok(weight) };
    let Ok(Demand { output, elsewhere }) = template.demand.read(body) else { return Ok(weight) };
    // Every token stands for at least one byte of text, and no text is shorter than the JSON it is written in.
    let most_input = elsewhere.is_none().then_some(body.len() as u64 + HIDDEN);
    Ok(Weight { most_input, output, elsewhere: elsewhere.map(Into::into), read: true, ..weight })
}
