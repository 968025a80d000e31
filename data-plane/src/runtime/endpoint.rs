//! What has a context, keys and an Invoke URL: a provider or a proxy, as deployed.

use std::sync::Arc;

use http::HeaderName;
use uuid::Uuid;

use super::access::Access;
use super::carried::Carried;
use super::context::Context;
use super::key_location::KeyLocation;
use super::models::ModelRules;
use super::provider::{Provider, Timeouts};
use super::proxy::{Route, RouteTarget, Strategy};
use super::template::Template;
use crate::limit::rule::{Needs, Rule};
use crate::telemetry::meters::EndpointMeters;

/// An endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: Box<str>,
    /// What its Invoke URL ends in.
    pub context: Context,
    /// How its callers speak.
    pub template: Arc<Template>,
    /// In order; the first that carries a value decides; never empty.
    pub key_locations: Box<[KeyLocation]>,
    /// Header names never passed on from here, beside those never passed on from anywhere; sorted.
    pub stripped_headers: Box<[HeaderName]>,
    /// Query parameters never passed on from here.
    pub stripped_parameters: Box<[Box<str>]>,
    /// Answers 403 to everyone.
    pub disabled: bool,
    /// WebSocket may be spoken where the template has it: allowed by itself and by every provider behind it.
    pub realtime: bool,
    /// What the vendor may do to its answers.
    pub compression: Compression,
    /// Streams are asked for usage on a client's behalf where the provider's template says so.
    pub asks_usage: bool,
    /// Its own; what is unset, the provider of the attempt decides.
    pub timeouts: Timeouts,
    /// Of a request, at most; `None`: the node's usual.
    pub max_body_bytes: Option<u64>,
    /// How many times a request may be sent again after the first.
    pub further_attempts: u32,
    /// Where requests go.
    pub target: Target,
    /// A proxy's own; what its providers have comes on top. `None`: everything passes.
    pub access: Option<Box<Access>>,
    /// A proxy's own; what its providers have comes on top. `None`: all, as they are named.
    pub models: Option<Box<ModelRules>>,
    /// It, or a provider behind it, has rules of access.
    pub guards_paths: bool,
    /// It, a target or a provider behind it has rules of models.
    pub guards_models: bool,
    /// How much a proxy may be used; what its providers have comes on top, for each attempt.
    pub limits: Box<[Rule]>,
    /// What those, and those of its providers, must know of a request.
    pub needs: Needs,
    /// What is counted of it.
    pub(crate) meters: Carried<EndpointMeters>,
}

/// What a vendor may do to its answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Nothing: usage is read from them.
    #[default]
    Identity,
    /// What the client says it can read; usage is unknown where it comes so.
    PassThrough,
}

/// Where nobody said how often: so many times after the first at most.
pub(super) const USUAL_ATTEMPTS: usize = 2;
/// However the configuration asks for.
const MOST_ATTEMPTS: u32 = 16;

/// Where requests of an endpoint go.
#[derive(Debug)]
pub enum Target {
    /// The endpoint is a provider.
    Provider(RouteTarget),
    /// The endpoint is a proxy.
    Route(Route),
}

impl Target {
    /// All that a request may be sent to.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.targets().iter().map(|target| &target.provider)
    }

    /// Never empty; in order of priority.
    pub fn targets(&self) -> &[RouteTarget] {
        match self {
            Self::Provider(target) => std::slice::from_ref(target),
            Self::Route(route) => route.targets(),
        }
    }

    /// How one of the targets of a priority is chosen.
    pub fn strategy(&self) -> Strategy {
        match self {
            Self::Provider(_) => Strategy::default(),
            Self::Route(route) => route.strategy,
        }
    }

    /// Every provider behind it is switched off.
    pub fn is_disabled(&self) -> bool {
        self.targets().iter().all(|target| target.provider.disabled)
    }

    /// The provider that comes first in the configuration.
    pub fn first(&self) -> &Arc<Provider> {
        &self.targets()[0].provider
    }
}

pub(super) mod wire {
    use prost::Message as _;
    use proto::config::endpoint;
    use uuid::Uuid;

    use super::{Access, Compression, Context, KeyLocation, MOST_ATTEMPTS, ModelRules, Timeouts};
    use crate::runtime::invalid::{Code, Invalid};
    use crate::runtime::{provider, proxy};

    /// An endpoint whose references are still ids.
    pub(in crate::runtime) struct Parsed {
        pub(in crate::runtime) name: Box<str>,
        pub(in crate::runtime) context: Context,
        pub(in crate::runtime) template: Uuid,
        pub(in crate::runtime) key_locations: Box<[KeyLocation]>,
        pub(in crate::runtime) disabled: bool,
        pub(in crate::runtime) realtime: bool,
        pub(in crate::runtime) compression: Compression,
        pub(in crate::runtime) asks_usage: bool,
        pub(in crate::runtime) timeouts: Timeouts,
        pub(in crate::runtime) max_body_bytes: Option<u64>,
        /// `None`: by the number of targets.
        pub(in crate::runtime) further_attempts: Option<u32>,
        pub(in crate::runtime) target: ParsedTarget,
        pub(in crate::runtime) access: Option<Box<Access>>,
        pub(in crate::runtime) models: Option<Box<ModelRules>>,
        pub(in crate::runtime) limits: Vec<proto::config::Limit>,
    }

    pub(in crate::runtime) enum ParsedTarget {
        Upstream(Box<provider::wire::Parsed>),
        Route(proxy::wire::Parsed),
    }

    impl TryFrom<&[u8]> for Parsed {
        type Error = Invalid;

        fn try_from(body: &[u8]) -> Result<Self, Invalid> {
            let proto::config::Endpoint {
                name,
                context,
                template_id,
                key_locations,
                disabled,
                timeouts,
                deployment_id: _,
                deployment_version: _,
                retry,
                target,
                realtime_disabled,
                compression,
                max_body_bytes,
                usage_not_asked,
                access_control,
                models,
                limits,
            } = proto::config::Endpoint::decode(body)
                .map_err(|_| Invalid::new("", Code::Undecodable, "the endpoint cannot be decoded"))?;
            if name.is_empty() {
                return Err(Invalid::new("/name", Code::Missing, "the endpoint has no name"));
            }
            let context = Context::parse(&context).ok_or_else(|| {
                Invalid::new("/context", Code::Malformed, "a context is one to four plain path segments")
            })?;
            let template = Uuid::from_slice(&template_id)
                .map_err(|_| Invalid::new("/template", Code::Malformed, "a template's id has 16 bytes"))?;
            let key_locations = key_locations
                .into_iter()
                .enumerate()
                .map(|(index, location)| KeyLocation::from_wire(location, index))
                .collect::<Result<Box<[_]>, _>>()?;
            if key_locations.is_empty() {
                // Without a place to look no key could ever be found; the list is never a way to switch keys off.
                return Err(Invalid::new("/security/apiKey/locations", Code::Missing, "no place to read a key from"));
            }
            let compression = match proto::config::Compression::try_from(compression) {
                Ok(proto::config::Compression::Identity) => Compression::Identity,
                Ok(proto::config::Compression::PassThrough) => Compression::PassThrough,
                Err(_) => return Err(Invalid::new("/compression", Code::Unsupported, "this node does not know it")),
            };
            let target = match target {
                Some(endpoint::Target::Upstream(upstream)) => ParsedTarget::Upstream(Box::new(upstream.try_into()?)),
                Some(endpoint::Target::Route(route)) => ParsedTarget::Route(route.try_into()?),
                None => return Err(Invalid::new("/upstream", Code::Missing, "neither an upstream nor a provider")),
            };
            Ok(Self {
                name: name.into(),
                context,
                template,
                key_locations,
                disabled,
                realtime: !realtime_disabled,
                compression,
                asks_usage: !usage_not_asked,
                timeouts: timeouts.into(),
                max_body_bytes: (max_body_bytes != 0).then_some(max_body_bytes),
                further_attempts: retry.map(|proto::config::Retry { attempts }| attempts.min(MOST_ATTEMPTS)),
                target,
                access: access_control.map(Access::try_from).transpose()?.map(Box::new),
                models: models.map(|rules| Box::new(rules.into())),
                limits,
            })
        }
    }
}
