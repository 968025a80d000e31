//! What is to be sent, whoever it is sent to: every attempt's request is built from it anew. Path and query byte for
//! byte behind the context, a new map of headers, the provider's credential.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri};
use http_body::Body as _;

use super::admit::Permit;
use super::models::Renamed;
use super::plan::Leg;
use super::receive::Call;
use super::upload::{Home, Inbound, Source, Upload};
use super::whole::Whole;
use super::{handshake, headers, listing, query};
use crate::dialect::facts::Shape;
use crate::error::Refusal;
use crate::runtime::provider::Provider;
use crate::upstream::line::Outbound;

/// The canonical request.
pub(super) struct Parcel {
    /// The length of the body is known and stated.
    sized: bool,
    body: Option<Carried>,
    /// What the model is called in place of what the client called it; `None`: the same everywhere.
    renamed: Option<Box<Renamed>>,
    /// It asks for the vendor's models, and not all of them are for the client.
    lists: bool,
}

struct Carried {
    upload: Arc<Upload>,
    /// Not yet on its way.
    fresh: Option<Source>,
    /// Where it comes back to; `None`: it is sent once.
    home: Option<Arc<Home>>,
    /// It was taken in before anything was sent.
    whole: Option<Whole>,
}

impl Parcel {
    /// `again`: more than one attempt may be made.
    pub(super) fn new(call: &mut Call, permit: &Permit, again: bool) -> Self {
        let endpoint = &permit.endpoint;
        let path = &call.head.uri.path()[permit.context..];
        let in_path = endpoint.template.model.in_path(path).map(Into::into);
        let json = is_json(&call.head.headers);
        let reads_body = json && in_path.is_none() && !endpoint.template.model.body.is_empty();
        call.account.asks_for(in_path);
        let body = call.body.take().filter(|body| !body.is_end_stream());
        let sized = body.as_ref().is_none_or(|body| body.size_hint().exact().is_some());
        let body = body.map(|body| {
            let upload = Arc::new(Upload::new(json));
            call.account.uploads(Arc::clone(&upload));
            let (limits, patience) = (&call.plane.limits, call.plane.deadlines.body_idle);
            let reads_model = reads_body.then(|| Arc::clone(endpoint));
            let timers = call.timers();
            let mut source = Source::new(body, Arc::clone(&upload), permit.body_bytes, patience, timers, reads_model);
            if let (true, Some(held)) = (again, call.plane.budget.reserve(0)) {
                source.keep(limits.retained_bytes, held);
            }
            Carried { upload, fresh: Some(source), home: again.then(Arc::default), whole: None }
        });
        Self { sized, body, renamed: None, lists: false }
    }

    /// Whether there is one.
    pub(super) fn has_body(&self) -> bool {
        self.body.is_some()
    }

    /// The body, before the first attempt.
    pub(super) fn source(&mut self) -> Option<&mut Source> {
        self.body.as_mut()?.fresh.as_mut()
    }

    /// From now on the model is called so.
    pub(super) fn rename(&mut self, renamed: Renamed) {
        self.renamed = Some(Box::new(renamed));
    }

    /// It asks for the vendor's models, and not all of them are for the client.
    pub(super) fn asks_for_list(&mut self) {
        self.lists = true;
    }

    /// Whether the answer is to be cut to what the client may use.
    pub(super) fn lists(&self) -> bool {
        self.lists
    }

    /// Takes the body in where some of the vendors it may go to are asked for usage on the client's behalf. A body of
    /// unknown or great length passes as it is, and tokens stay unknown.
    pub(super) async fn prepare(&mut self, call: &Call, permit: &Permit) -> Result<(), Refusal> {
        let endpoint = &permit.endpoint;
        if !endpoint.asks_usage || call.head.method != Method::POST {
            return Ok(());
        }
        let Some(asker) = endpoint.target.providers().find(|provider| asks(call, permit, provider)) else {
            return Ok(());
        };
        self.take_in(call, call.plane.limits.retained_bytes, false).await?;
        if let Some(whole) = self.body.as_mut().and_then(|body| body.whole.as_mut()) {
            whole.prepare_to_ask(&asker.template.ask_usage.unless);
        }
        Ok(())
    }

    /// Takes in a body of JSON that is no longer than this; another passes as it comes. `unsized_too`: also where nobody
    /// knows its length before it has come, and then a longer one is refused.
    pub(super) async fn take_in(&mut self, call: &Call, most: usize, unsized_too: bool) -> Result<(), Refusal> {
        let Some(body) = self.body.as_mut().filter(|body| body.upload.is_json() && body.whole.is_none()) else {
            return Ok(());
        };
        let length = body.fresh.as_ref().and_then(Source::length);
        let fits = length.map_or(unsized_too, |length| length <= most as u64);
        let held = if fits { call.plane.budget.reserve(length.unwrap_or_default()) } else { None };
        let Some(held) = held else { return Ok(()) };
        if let Some(source) = body.fresh.take() {
            body.whole = Some(Whole::receive(source, most, held).await?);
            self.sized = true;
        }
        Ok(())
    }

    /// The body, if it has been taken in.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        Some(self.body.as_ref()?.whole.as_ref()?.bytes())
    }

    /// Bytes of the body, as far as they are known; `None`: there is none.
    pub(super) fn length(&self) -> Option<u64> {
        let body = self.body.as_ref()?;
        let whole = || body.whole.as_ref().map(|whole| whole.bytes().len() as u64);
        Some(body.fresh.as_ref().and_then(Source::length).or_else(whole).unwrap_or_default())
    }

    /// The same of a body of JSON.
    pub(super) fn question(&self) -> Option<u64> {
        self.length().filter(|_| self.body.as_ref().is_some_and(|body| body.upload.is_json()))
    }

    /// Whether this provider is asked for usage where the client did not ask.
    pub(super) fn asks(&self, call: &Call, permit: &Permit, provider: &Provider) -> bool {
        let whole = self.body.as_ref().and_then(|body| body.whole.as_ref());
        whole.is_some_and(Whole::may_ask) && asks(call, permit, provider)
    }

    /// Whether it could be sent again from its first byte.
    pub(super) fn is_whole(&self) -> bool {
        self.body.as_ref().is_none_or(|body| !body.upload.is_gone() && body.upload.refusal().is_none())
    }

    /// Whether no attempt has hold of it.
    pub(super) fn is_at_home(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(|body| body.whole.is_some() || body.home.as_ref().is_some_and(|home| home.is_occupied()))
    }

    /// Whether the client has sent all of it.
    pub(super) fn is_received(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.upload.is_received())
    }

    /// Whether a vendor may be asked twice without harm.
    pub(super) fn is_harmless(&self, method: &Method) -> bool {
        self.body.is_none() && matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
    }

    /// There will be no other attempt.
    pub(super) fn let_go(&self) {
        if let Some(body) = &self.body {
            body.upload.let_go();
        }
    }

    /// The request for one provider.
    pub(super) fn pack(&mut self, call: &Call, permit: &Permit, leg: &Leg<'_>) -> Result<Request<Outbound>, Refusal> {
        let (endpoint, provider) = (&permit.endpoint, &**leg.provider);
        let path = &call.head.uri.path()[permit.context..];
        let renamed = self.renamed.as_deref().and_then(|renamed| {
            let written = renamed.written.get(leg.target())?.clone()?;
            Some((renamed.path.clone(), written))
        });
        let (path, body_name) = match renamed {
            None => (Cow::Borrowed(path), None),
            Some((None, written)) => (Cow::Borrowed(path), Some(written)),
            Some((Some(place), written)) => {
                let written = String::from_utf8_lossy(&written).into_owned();
                (Cow::Owned([&path[..place.start], &written, &path[place.end..]].concat()), None)
            }
        };
        let query = call.head.uri.query().and_then(|query| query::without(query, &endpoint.stripped_parameters));
        let uri = target(&provider.upstream.prefix, &path, query.as_deref()).ok_or(Refusal::BadPath)?;
        let mut headers = headers::outbound(&call.head.headers, endpoint, provider, self.sized);
        if call.websocket.is_some() {
            handshake::ask(&mut headers, endpoint);
        }
        if self.lists {
            listing::ask(&mut headers);
        }
        let asks = self.asks(call, permit, provider);
        let body = match &mut self.body {
            None => Outbound::Empty,
            Some(Carried { whole: Some(whole), .. }) => {
                let pieces = whole.pack(asks, body_name);
                headers.insert(CONTENT_LENGTH, pieces.len().into());
                Outbound::Streamed(Box::pin(pieces))
            }
            Some(body) => {
                let source = body.fresh.take().or_else(|| body.home.as_ref()?.leave());
                // Every attempt brings it back when it ends.
                let source = source.ok_or(Refusal::UpstreamBroken)?;
                let inbound = Inbound::new(source, body.home.clone(), body_name);
                // Another name has another length.
                let length = inbound.size_hint().exact().filter(|_| self.sized && self.renamed.is_some());
                if let Some(length) = length {
                    headers.insert(CONTENT_LENGTH, length.into());
                }
                Outbound::Streamed(Box::pin(inbound))
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = call.head.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

/// Whether this provider wants to be asked for usage, as far as the head tells.
fn asks(call: &Call, permit: &Permit, provider: &Provider) -> bool {
    if !provider.asks_usage {
        return false;
    }
    let path = &call.head.uri.path()[permit.context..];
    let version = || query::values(call.head.uri.query()?, "api-version").next().map(std::borrow::Cow::into_owned);
    provider.template.ask_usage.covers(path, version)
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

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| Shape::of(content_type) == Shape::Document)
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
