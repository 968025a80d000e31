//! Part of step 6: a vendor's list of models, where not all of them are for the client. It is taken in and cut to those
//! that a request may name, by the very judgement that such a request would get; aliases are listed beside them. A list
//! that cannot be read is refused: what is not understood is not passed.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, response};
use percent_encoding::percent_decode_str;

use super::admit::Permit;
use super::clock::Clock;
use super::dispatch;
use super::models;
use super::receive::Call;
use crate::dialect::facts::Shape;
use crate::dialect::listing::{self, Further};
use crate::error::Refusal;
use crate::limit::Held;
use crate::runtime::models::{Aliases, Allowed, ModelRules};
use crate::runtime::template::ModelPlan;
use crate::upstream::health::Flight;
use crate::upstream::line::Answer;

/// Bytes of a list; the longest that is known has a tenth of it.
const MOST: usize = 4 * 1024 * 1024;

/// Whose list it is.
pub(super) struct Asked<'a> {
    pub(super) permit: &'a Permit,
    /// Which of the endpoint's targets answers.
    pub(super) target: usize,
    pub(super) flight: &'a Flight,
}

/// Whether a vendor could take this path for its list of models, however it is spelled.
pub(super) fn is_list(plan: &ModelPlan, path: &str) -> bool {
    let is = |path: &str| plan.list_paths.iter().any(|list| list.eq_ignore_ascii_case(path.trim_end_matches('/')));
    is(path) || (path.contains('%') && is(&percent_decode_str(path).decode_utf8_lossy()))
}

/// Asks for the whole of it, in a form that can be read.
pub(super) fn ask(headers: &mut HeaderMap) {
    for name in [RANGE, IF_RANGE, IF_MATCH, IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
        headers.remove(name);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
}

/// Takes it in and cuts it. What is returned stands before what is still to come; `None`: nothing does. Where no model
/// is restricted, a list that cannot be read lacks the aliases, and passes.
pub(super) async fn cut(
    call: &mut Call,
    asked: &Asked<'_>,
    head: &mut response::Parts,
    answer: &mut Answer,
    clock: &mut Clock,
) -> Result<Option<Bytes>, Refusal> {
    let &Asked { permit, target, .. } = asked;
    let restricts = models::restricts(permit);
    let mut held = call.plane.budget.reserve(0).ok_or(Refusal::Overloaded)?;
    let mut body = Vec::new();
    let cause = match take_in(asked, head, answer, clock, &mut body, &mut held).await? {
        None if body.is_empty() => None,
        None => {
            let further = further(permit, target);
            let keeps = |name: &str| match models::judge(permit, name) {
                // Where another model is sent in its place, naming it is no way to it.
                Ok((_, sent)) => sent[target].is_none() || further.iter().any(|further| further.name == name),
                Err(_) => false,
            };
            match listing::cut(&body, permit.endpoint.template.dialect, keeps, &further) {
                Some(cut) => {
                    body = cut;
                    None
                }
                None => Some("the vendor's list of models has no known form"),
            }
        }
        cause => cause,
    };
    if let (Some(cause), true) = (cause, restricts) {
        call.account.caused(cause);
        return Err(Refusal::UnreadableModelList);
    }
    if cause.is_none() {
        // They are about all of it.
        for name in [CONTENT_LENGTH, TRANSFER_ENCODING, ETAG, LAST_MODIFIED, ACCEPT_RANGES] {
            head.headers.remove(name);
        }
        if !body.is_empty() {
            head.headers.insert(CONTENT_LENGTH, body.len().into());
        }
    }
    Ok((!body.is_empty()).then(|| Bytes::from_owner(Kept { body, _held: held })))
}

/// All of it, or as much as came before it was found, for the reason returned, to be none that can be read.
async fn take_in(
    asked: &Asked<'_>,
    head: &response::Parts,
    answer: &mut Answer,
    clock: &mut Clock,
    body: &mut Vec<u8>,
    held: &mut Held,
) -> Result<Option<&'static str>, Refusal> {
    if answer.is_empty() {
        return Ok(None);
    }
    if !is_readable(&head.headers) {
        return Ok(Some("the vendor's list of models is not plain JSON"));
    }
    loop {
        let piece = dispatch::next_piece(answer, clock).await.inspect_err(|refusal| {
            if *refusal == Refusal::UpstreamBroken {
                asked.flight.died();
            }
        })?;
        let Some(piece) = piece else { return Ok(None) };
        // Twice: as it came, and as it goes on.
        let fits = held.grow(2 * piece.len() as u64);
        body.extend_from_slice(&piece);
        if body.len() > MOST {
            return Ok(Some("the vendor's list of models is too long"));
        }
        if !fits {
            return Ok(Some("the node has no room for the vendor's list of models"));
        }
    }
}

/// Counted as long as anyone has it.
struct Kept {
    body: Vec<u8>,
    _held: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn is_readable(headers: &HeaderMap) -> bool {
    let plain = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    headers.get_all(CONTENT_ENCODING).iter().all(plain)
        && content_type.is_some_and(|content_type| Shape::of(content_type) == Shape::Document)
}

/// Names that the rules on the way to a target give to models, and that a request may use.
fn further(permit: &Permit, target: usize) -> Vec<Further> {
    let chosen = &permit.endpoint.target.targets()[target];
    let aliases = |aliases: &Aliases| aliases.keys().cloned().collect::<Vec<_>>();
    let own = |rules: Option<&ModelRules>| match rules {
        None => Vec::new(),
        Some(ModelRules { force: Some(force), .. }) => vec![force.clone()],
        Some(rules) => {
            let exactly = rules.allow.iter().filter_map(|allowed| match allowed {
                Allowed::Exactly(name) => Some(name.clone()),
                Allowed::Beginning(_) => None,
            });
            aliases(&rules.aliases).into_iter().chain(exactly).collect()
        }
    };
    let apply = |rules: Option<&ModelRules>, name: &str| rules.is_none_or(|rules| rules.apply(name) == Some(name));
    let (key, endpoint) = (permit.key.models.as_deref(), permit.endpoint.models.as_deref());
    let behind_endpoint = |name: &str| apply(key, name) && apply(endpoint, name);
    let mut names = own(key);
    names.extend(own(endpoint).into_iter().filter(|name| apply(key, name)));
    names.extend(aliases(&chosen.aliases).into_iter().filter(|name| behind_endpoint(name)));
    let last = own(chosen.provider.models.as_deref()).into_iter().filter(|name| behind_endpoint(name));
    names.extend(last.filter(|name| !chosen.aliases.contains_key(name)));
    names.sort_unstable();
    names.dedup();
    let named = names.into_iter().filter_map(|name| {
        let (barred, sent) = models::judge(permit, &name).ok()?;
        let of = sent[target].as_deref().map(ToOwned::to_owned);
        let forced = [key, endpoint, chosen.provider.models.as_deref()]
            .iter()
            .any(|rules| rules.is_some_and(|rules| rules.force.as_deref() == Some(&*name)));
        // A name that stands for itself is the vendor's own to list.
        let of = if forced { of.or_else(|| Some(name.to_string())) } else { of }?;
        (barred & 1 << target == 0).then(|| Further { name: name.into(), of })
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_one_in_every_spelling() {
        let plan = ModelPlan { list_paths: ["/v1/models".into()].into(), ..ModelPlan::default() };
        for (path, is) in [
            ("/v1/models", true),
            ("/v1/models/", true),
            ("/V1/Models", true),
            ("/v1/%6dodels", true),
            ("/v1%2Fmodels", true),
            ("/v1/models/a", false),
            ("/v1/modelss", false),
            ("/models", false),
            ("", false),
        ] {
            assert_eq!(is_list(&plan, path), is, "{path}");
        }
        assert!(!is_list(&ModelPlan::default(), ""));
    }
}
