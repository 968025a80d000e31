//! What is to be sent, whoever it is sent to: every attempt's request is built from it anew. Path and query byte for
//! byte behind the context, a new map of headers, the provider's credential.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Uri};
use http_body::Body as _;

use super::admit::Permit;
use super::receive::Call;
use super::upload::{Home, Inbound, Source, Upload};
use super::{handshake, headers, query};
use crate::dialect::facts::Shape;
use crate::error::Refusal;
use crate::runtime::provider::Provider;
use crate::upstream::line::Outbound;

/// The canonical request.
pub(super) struct Parcel {
    /// The length of the body is known and stated.
    sized: bool,
    body: Option<Carried>,
}

struct Carried {
    upload: Arc<Upload>,
    /// Not yet on its way.
    fresh: Option<Source>,
    /// Where it comes back to; `None`: it is sent once.
    home: Option<Arc<Home>>,
}

impl Parcel {
    /// `again`: more than one attempt may be made.
    pub(super) fn new(call: &mut Call, permit: &Permit, again: bool) -> Self {
        let endpoint = &permit.endpoint;
        let path = &call.head.uri.path()[permit.context..];
        let in_path = endpoint.template.model.in_path(path).map(Into::into);
        let reads_body = in_path.is_none() && !endpoint.template.model.body.is_empty() && is_json(&call.head.headers);
        call.account.asks_for(in_path);
        let body = call.body.take().filter(|body| !body.is_end_stream());
        let sized = body.as_ref().is_none_or(|body| body.size_hint().exact().is_some());
        let body = body.map(|body| {
            let upload = Arc::new(Upload::default());
            call.account.uploads(Arc::clone(&upload));
            let (limits, patience) = (&call.plane.limits, call.plane.deadlines.body_idle);
            let reads_model = reads_body.then(|| Arc::clone(endpoint));
            let timers = call.timers();
            let mut source = Source::new(body, Arc::clone(&upload), limits.body_bytes, patience, timers, reads_model);
            if let (true, Some(held)) = (again, call.plane.budget.reserve(0)) {
                source.keep(limits.retained_bytes, held);
            }
            Carried { upload, fresh: Some(source), home: again.then(Arc::default) }
        });
        Self { sized, body }
    }

    /// Whether it could be sent again from its first byte.
    pub(super) fn is_whole(&self) -> bool {
        self.body.as_ref().is_none_or(|body| !body.upload.is_gone() && body.upload.refusal().is_none())
    }

    /// Whether no attempt has hold of it.
    pub(super) fn is_at_home(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.home.as_ref().is_some_and(|home| home.is_occupied()))
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
    pub(super) fn pack(
        &mut self,
        call: &Call,
        permit: &Permit,
        provider: &Provider,
    ) -> Result<Request<Outbound>, Refusal> {
        let endpoint = &permit.endpoint;
        let path = &call.head.uri.path()[permit.context..];
        let query = call.head.uri.query().and_then(|query| query::without(query, &endpoint.stripped_parameters));
        let uri = target(&provider.upstream.prefix, path, query.as_deref()).ok_or(Refusal::BadPath)?;
        let mut headers = headers::outbound(&call.head.headers, endpoint, provider, self.sized);
        if call.websocket.is_some() {
            handshake::ask(&mut headers, endpoint);
        }
        let body = match &mut self.body {
            None => Outbound::Empty,
            Some(body) => {
                let source = body.fresh.take().or_else(|| body.home.as_ref()?.leave());
                // Every attempt brings it back when it ends.
                let source = source.ok_or(Refusal::UpstreamBroken)?;
                Outbound::Streamed(Box::pin(Inbound::new(source, body.home.clone())))
            }
        };
        let mut request = Request::new(body);
        *request.method_mut() = call.head.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        Ok(request)
    }
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
