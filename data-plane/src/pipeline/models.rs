//! Part of step 6: which model each target would be asked for, where anything rules that. Decided before a byte of the
//! body is sent: the rules of the key run first, then the endpoint's, then the target's aliases, then the provider's, each
//! on the name that the one before it gave. A target whose rules do not allow the name is left out.

use std::future::poll_fn;
use std::ops::Range;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio::time::{Instant, timeout_at};

use super::admit::Permit;
use super::denial::{self, Denial};
use super::parcel::Parcel;
use super::receive::Call;
use crate::dialect::facts::Shape;
use crate::dialect::naming::{FormNaming, JsonNaming, Naming};
use crate::error::Refusal;
use crate::runtime::access::Path;
use crate::runtime::models::ModelRules;
use crate::runtime::template::ModelPlan;

/// What a name in a path may be written with; all else is encoded.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What is written in the place of the model that the client named.
pub(super) struct Renamed {
    /// In the vendor's path; `None`: in the body.
    pub(super) path: Option<Range<usize>>,
    /// For each target; `None`: what the client wrote.
    pub(super) written: Box<[Option<Bytes>]>,
}

/// Which model a request is for.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// A bit for each target that is left out.
    pub(super) barred: u64,
    /// As the client calls it; `None`: it has named none, or not readably.
    pub(super) asked: Option<String>,
    /// What each target is asked for where that is another name.
    pub(super) sent: Names,
}

/// Decides. `lenient`: what cannot be read names no model, and passes.
pub(super) async fn settle(
    call: &mut Call,
    permit: &Permit,
    parcel: &mut Parcel,
    deadline: Option<Instant>,
    lenient: bool,
) -> Result<Named, Refusal> {
    let restricts = restricts(permit);
    let absent = |refusal| if restricts { Err(refusal) } else { Ok(Named::default()) };
    if call.websocket.is_some() {
        // What is asked for there stands in messages that nobody reads.
        return absent(Refusal::UnreadableModel);
    }
    let plan = &permit.endpoint.template.model;
    let path = &call.head.uri.path()[permit.context..];
    let in_path = match in_path(plan, path) {
        Err(_) if lenient => return Ok(Named::default()),
        in_path => in_path?,
    };
    if let Some(place) = in_path {
        let asked = percent_decode_str(&path[place.clone()]).decode_utf8().map_err(|_| Refusal::AmbiguousModel)?;
        let (asked, raw) = (asked.into_owned(), |name: &str| utf8_percent_encode(name, PLAIN).to_string().into());
        let (named, written) = decide(call, permit, asked, raw)?;
        parcel.rename(Renamed { path: Some(place), written });
        return Ok(named);
    }
    let read = Path::read(path);
    if !parcel.has_body() || plan.unmodelled.iter().any(|pattern| pattern.surely_means(&read)) {
        return Ok(Named::default());
    }
    if plan.pointer.is_empty() {
        return absent(Refusal::ModelRequired);
    }
    let Some(naming) = naming(&call.head.headers, &plan.pointer) else { return absent(Refusal::UnreadableModel) };
    let bound = call.plane.limits.model_bytes;
    let held = call.plane.budget.reserve(0).ok_or(Refusal::Overloaded)?;
    let Some(source) = parcel.source() else { return Ok(Named::default()) };
    if lenient && source.length().is_none_or(|length| length > bound as u64) {
        // It might turn out to be too long to be held.
        return Ok(Named::default());
    }
    source.read_name(naming, bound, held, lenient);
    let reading = poll_fn(|context| source.poll_named(context, bound));
    match deadline {
        None => reading.await,
        Some(deadline) => timeout_at(deadline, reading).await.map_err(|_| Refusal::DeadlineExceeded)?,
    }?;
    let Some((asked, naming)) = source.named() else { return absent(Refusal::ModelRequired) };
    let (named, written) = decide(call, permit, asked, |name| naming.written(name).into())?;
    parcel.rename(Renamed { path: None, written });
    Ok(named)
}

/// Whether a request that names no model, or not readably, must be refused.
pub(super) fn restricts(permit: &Permit) -> bool {
    let own = [&permit.key.models, &permit.endpoint.models];
    let targets = permit.endpoint.target.providers().map(|provider| &provider.models);
    own.into_iter().chain(targets).flatten().any(|rules| rules.restricts())
}

/// What a body of this kind is read by; `None`: nothing can.
fn naming(headers: &HeaderMap, pointer: &str) -> Option<Naming> {
    let only = |name: HeaderName| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().unwrap_or("?"));
        if values.next().is_some() { Some("?") } else { value }
    };
    if only(CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        return None;
    }
    let content_type = only(CONTENT_TYPE)?;
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("multipart/form-data") {
        let field = pointer.rsplit('/').next().unwrap_or_default();
        return FormNaming::new(field, content_type).map(Naming::Form);
    }
    (Shape::of(content_type) == Shape::Document).then(|| Naming::Json(JsonNaming::new(pointer)))
}

/// Where a vendor's path names a model. What a vendor could take for one and this does not is an error.
fn in_path(plan: &ModelPlan, path: &str) -> Result<Option<Range<usize>>, Refusal> {
    let lenient = percent_decode_str(path).decode_utf8_lossy().to_ascii_lowercase();
    if !plan.path_before.is_empty() {
        let could = lenient.matches(&plan.path_before.to_ascii_lowercase()).count();
        let found = plan.in_path(path).map(|model| {
            let start = model.as_ptr().addr() - path.as_ptr().addr();
            start..start + model.len()
        });
        match (found, could) {
            (Some(place), 1) => return Ok(Some(place)),
            (None, 0) => {}
            _ => return Err(Refusal::AmbiguousModel),
        }
    }
    for list in &plan.list_paths {
        let below = |text: &str| text.strip_prefix(&**list).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'));
        match (below(path), below(&lenient)) {
            (true, _) => {
                let start = list.len() + 1;
                let end = path[start..].find('/').map_or(path.len(), |length| start + length);
                return Ok(Some(start..end));
            }
            (false, true) => return Err(Refusal::AmbiguousModel),
            (false, false) => {}
        }
    }
    Ok(None)
}

type Written = Box<[Option<Bytes>]>;
pub(super) type Names = Box<[Option<Box<str>>]>;

/// What each target is asked for in place of `asked`, and how that is written.
fn decide(
    call: &mut Call,
    permit: &Permit,
    asked: String,
    write: impl Fn(&str) -> Bytes,
) -> Result<(Named, Written), Refusal> {
    match judge(permit, &asked) {
        Ok((barred, sent)) => {
            let written = sent.iter().map(|sent| sent.as_deref().map(&write)).collect();
            Ok((Named { barred, asked: Some(asked), sent }, written))
        }
        Err(denial) => {
            call.account.denied(denial);
            Err(Refusal::ModelNotAllowed)
        }
    }
}

/// Which targets are left out for a request that names this model, and what each of the others is asked for.
pub(super) fn judge(permit: &Permit, asked: &str) -> Result<(u64, Names), Denial> {
    let Permit { endpoint, key, .. } = permit;
    let mut name = asked;
    if let Some(rules) = &key.models {
        name = rules.apply(name).ok_or_else(|| denied("this api-key", name, rules))?;
    }
    if let Some(rules) = &endpoint.models {
        name = rules.apply(name).ok_or_else(|| denied(&denial::owner(endpoint), name, rules))?;
    }
    let (mut barred, mut first, mut open) = (0, None, false);
    let mut names = Vec::with_capacity(endpoint.target.targets().len());
    for (index, target) in endpoint.target.targets().iter().enumerate() {
        let own = target.aliases.get(name).map_or(name, |own| own);
        let sent = match &target.provider.models {
            None => Some(own),
            Some(rules) => rules.apply(own),
        };
        if let (None, Some(rules)) = (sent, &target.provider.models) {
            barred |= 1 << index;
            first.get_or_insert_with(|| denied(&format!("llm-provider {}", target.provider.name), own, rules));
        } else {
            // One that is switched off, or does not let the path pass, is no way out.
            open |= permit.barred & 1 << index == 0 && !target.provider.disabled;
        }
        names.push(sent.filter(|sent| *sent != asked).map(Into::into));
    }
    match first {
        Some(denial) if !open => Err(denial),
        Some(_) | None => Ok((barred, names.into())),
    }
}

fn denied(owner: &str, asked: &str, rules: &ModelRules) -> Denial {
    /// Of a long list.
    const SHOWN: usize = 20;
    let mut allowed: Vec<String> = rules.allow.iter().take(SHOWN).map(ToString::to_string).collect();
    if rules.allow.len() > SHOWN {
        allowed.push(format!("and {} more", rules.allow.len() - SHOWN));
    }
    Denial::new(format!("models of {owner}"), asked, &format!("allow {}", allowed.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(before: &str, after: &[&str], lists: &[&str]) -> ModelPlan {
        ModelPlan {
            path_before: before.into(),
            path_after: after.iter().map(|text| (*text).into()).collect(),
            list_paths: lists.iter().map(|text| (*text).into()).collect(),
            ..ModelPlan::default()
        }
    }

    #[test]
    fn a_model_in_the_path_has_one_spelling() {
        let azure = plan("/openai/deployments/", &["/"], &["/openai/v1/models"]);
        let gemini = plan("/models/", &[":", "/"], &["/v1beta/models"]);
        let openai = plan("", &[], &["/v1/models"]);
        let found =
            |plan: &ModelPlan, path: &'static str| in_path(plan, path).map(|place| place.map(|place| &path[place]));
        assert_eq!(found(&azure, "/openai/deployments/gpt/chat/completions"), Ok(Some("gpt")));
        assert_eq!(found(&azure, "/openai/v1/chat/completions"), Ok(None));
        assert_eq!(found(&azure, "/openai/v1/models/gpt"), Ok(Some("gpt")));
        assert_eq!(found(&gemini, "/v1beta/models/g-2.5:generateContent"), Ok(Some("g-2.5")));
        assert_eq!(found(&gemini, "/v1beta/tunedModels/x:generateContent"), Ok(None));
        assert_eq!(found(&openai, "/v1/models/gpt-4o"), Ok(Some("gpt-4o")));
        assert_eq!(found(&openai, "/v1/models"), Ok(None));
        for (plan, path) in [
            (&azure, "/OpenAI/deployments/gpt/chat/completions"),
            (&azure, "/openai%2Fdeployments/gpt/chat/completions"),
            (&azure, "/openai/deployment%73/gpt/chat/completions"),
            (&azure, "/openai/deployments/a/openai/deployments/b/chat"),
            (&gemini, "/v1beta/models%2Fg:generateContent"),
            (&gemini, "/v1beta/Models/g:generateContent"),
            (&openai, "/v1/Models/gpt-4o"),
            (&openai, "/v1/models%2Fgpt-4o"),
        ] {
            assert_eq!(found(plan, path), Err(Refusal::AmbiguousModel), "{path}");
        }
    }
}
