//! Compilation: every resource on its own, in the order of their dependencies, so that one bad resource costs itself
//! and what is built on it, and nothing else. Total: there is no input on which it panics.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use proto::config::{Entry, Kind};
use uuid::Uuid;

use super::api_key::{ApiKeys, Credential, Parsed as ParsedKey};
use super::carried::Carried;
use super::context::Matcher;
use super::endpoint::wire::{Parsed, ParsedTarget};
use super::endpoint::{Endpoint, Target, USUAL_ATTEMPTS};
use super::invalid::{Code, Invalid};
use super::key_location::KeyLocation;
use super::limit::wire::rules;
use super::price::{PriceList, Prices};
use super::provider::Provider;
use super::provider::wire::{Resolved, told};
use super::proxy::{self, wire::Parsed as ParsedRoute};
use super::proxy::{Route, RouteTarget};
use super::secret::Secret;
use super::settings::Settings;
use super::template::Template;
use super::{Compiled, Configuration, Key, Rejection, Runtime};
use crate::limit::rule::{Needs, Owner};

pub(super) fn compile(wanted: &Configuration, served: &Configuration) -> Compiled {
    let mut work = Work { wanted, served, chosen: Configuration::at(wanted.revision), rejected: Vec::new() };
    let settings = work.settings();
    let templates = work.each(Kind::Template, |id, body| Template::from_wire(id, body).map(Arc::new));
    let secrets = work.each(Kind::Secret, |_, body| Secret::try_from(body));
    let prices = work.each(Kind::Prices, |_, body| PriceList::try_from(body).map(Arc::new));
    let endpoints = work.endpoints(&templates, &secrets, &prices);
    let keys = work.keys();
    work.unknown_kinds();
    let Work { chosen, mut rejected, .. } = work;
    rejected.sort_by_key(|rejection| (rejection.key, rejection.revision));
    let runtime = Runtime { revision: wanted.revision, settings, endpoints, keys };
    Compiled { runtime, served: chosen, rejected }
}

struct Work<'a> {
    wanted: &'a Configuration,
    served: &'a Configuration,
    chosen: Configuration,
    rejected: Vec<Rejection>,
}

impl<'a> Work<'a> {
    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (Key, &'a Entry)> + use<'a> {
        let kind = kind as i32;
        self.wanted.iter().map(|(key, entry)| (*key, entry)).filter(move |(key, _)| key.0 == kind)
    }

    /// The body served before, if it is another than the wanted one.
    fn fallback(&self, key: Key, wanted: &Entry) -> Option<&'a Entry> {
        self.served.get(key).filter(|served| served.body != wanted.body)
    }

    fn reject(&mut self, key: Key, entry: &Entry, invalid: Invalid) {
        let Invalid { pointer, code, message } = invalid;
        let (pointer, message) = (pointer.into_owned(), message.into_owned());
        self.rejected.push(Rejection { key, revision: entry.revision, pointer, code, message });
    }

    fn accept(&mut self, entry: &Entry) {
        // The key was read from this entry's id, so it has 16 bytes.
        let _ = self.chosen.put(entry.clone());
    }

    /// Builds the wanted body, or else the one served before. The reason is told in either case.
    fn choose<T>(&mut self, key: Key, wanted: &Entry, mut build: impl FnMut(&[u8]) -> Result<T, Invalid>) -> Option<T> {
        match build(&wanted.body) {
            Ok(built) => {
                self.accept(wanted);
                Some(built)
            }
            Err(invalid) => {
                let fallback = self.fallback(key, wanted);
                self.reject(key, wanted, invalid);
                let served = fallback?;
                let built = build(&served.body).ok()?;
                self.accept(served);
                Some(built)
            }
        }
    }

    fn each<T>(&mut self, kind: Kind, build: impl Fn(Uuid, &[u8]) -> Result<T, Invalid>) -> BTreeMap<Uuid, T> {
        let mut built = BTreeMap::new();
        for (key, entry) in self.of_kind(kind) {
            if let Some(value) = self.choose(key, entry, |body| build(key.1, body)) {
                built.insert(key.1, value);
            }
        }
        built
    }

    fn settings(&mut self) -> Settings {
        let mut settings = self.each(Kind::Settings, |_, body| Settings::try_from(body));
        // None, or none that reads: the strictest.
        settings.pop_first().map(|(_, settings)| settings).unwrap_or_default()
    }

    fn keys(&mut self) -> ApiKeys {
        let mut keys = ApiKeys::default();
        for (key, entry) in self.of_kind(Kind::ApiKey) {
            let parsed = self.choose(key, entry, |body| {
                let parsed = ParsedKey::from_wire(key.1, body)?;
                if parsed.digests.iter().any(|(digest, _)| keys.find(digest).is_some()) {
                    return Err(Invalid::new("/credentials", Code::Taken, "another key has the same digest"));
                }
                Ok(parsed)
            });
            let Some(ParsedKey { key, digests }) = parsed else { continue };
            let key = Arc::new(key);
            for (digest, expires_at_ms) in digests {
                keys.insert(digest, Credential { key: Arc::clone(&key), expires_at_ms });
            }
        }
        keys
    }

    fn unknown_kinds(&mut self) {
        for (key, entry) in self.wanted {
            match Kind::try_from(key.0) {
                Ok(Kind::Settings | Kind::Template | Kind::Endpoint | Kind::ApiKey | Kind::Secret | Kind::Prices) => {}
                Ok(Kind::Unspecified) | Err(_) => self.reject(
                    *key,
                    entry,
                    Invalid::new("", Code::UnknownKind, "this node is too old to know this kind of resource"),
                ),
            }
        }
    }

    fn endpoints(
        &mut self,
        templates: &BTreeMap<Uuid, Arc<Template>>,
        secrets: &BTreeMap<Uuid, Secret>,
        prices: &BTreeMap<Uuid, Arc<PriceList>>,
    ) -> Matcher<Arc<Endpoint>> {
        let stripped = credential_headers(templates);
        let mut claims = self.standing_claims();
        let mut providers = BTreeMap::new();
        let mut matcher = Matcher::default();
        // Providers first: proxies are built on them.
        for routes in [false, true] {
            for (key, entry) in self.of_kind(Kind::Endpoint) {
                // A body that does not parse is what its last good form is: that is what will be built.
                let kind = target_is_route(&entry.body)
                    .or_else(|| self.served.get(key).and_then(|served| target_is_route(&served.body)));
                if kind.unwrap_or(false) != routes {
                    continue;
                }
                let references = References { wanted: self.wanted, templates, secrets, prices, providers: &providers };
                let built = self.choose(key, entry, |body| {
                    let parsed = Parsed::try_from(body)?;
                    if claims.overlap(&parsed.context).is_some_and(|holder| *holder != key) {
                        return Err(Invalid::new("/context", Code::Taken, "another endpoint's context overlaps"));
                    }
                    references.endpoint(key.1, parsed, &stripped)
                });
                let Some(endpoint) = built else { continue };
                if claims.overlap(&endpoint.context).is_none() {
                    claims.insert(&endpoint.context, key);
                }
                if let Target::Provider(target) = &endpoint.target {
                    providers.insert(key.1, Arc::clone(&target.provider));
                }
                if matcher.overlap(&endpoint.context).is_none() {
                    matcher.insert(&endpoint.context.clone(), Arc::new(endpoint));
                }
            }
        }
        matcher
    }

    /// Endpoints that stay as they are keep their contexts against newcomers.
    fn standing_claims(&self) -> Matcher<Key> {
        let mut claims = Matcher::default();
        for (key, entry) in self.of_kind(Kind::Endpoint) {
            let unchanged = self.served.get(key).is_some_and(|served| served.body == entry.body);
            let Some(parsed) = unchanged.then(|| Parsed::try_from(&*entry.body).ok()).flatten() else { continue };
            if claims.overlap(&parsed.context).is_none() {
                claims.insert(&parsed.context, key);
            }
        }
        claims
    }
}

/// Whether a body is a proxy's; `None`: it does not parse.
fn target_is_route(body: &[u8]) -> Option<bool> {
    Parsed::try_from(body).ok().map(|parsed| matches!(parsed.target, ParsedTarget::Route(_)))
}

/// Header names that any vendor reads a credential from.
fn credential_headers(templates: &BTreeMap<Uuid, Arc<Template>>) -> Vec<HeaderName> {
    let names = templates.values().flat_map(|template| {
        let known = template.credential_names.iter().filter_map(|name| name.parse::<HeaderName>().ok());
        known.chain(template.credential_header.clone())
    });
    names.collect()
}

struct References<'a> {
    wanted: &'a Configuration,
    templates: &'a BTreeMap<Uuid, Arc<Template>>,
    secrets: &'a BTreeMap<Uuid, Secret>,
    prices: &'a BTreeMap<Uuid, Arc<PriceList>>,
    providers: &'a BTreeMap<Uuid, Arc<Provider>>,
}

impl References<'_> {
    fn find<'b, T>(
        &self,
        kind: Kind,
        found: &'b BTreeMap<Uuid, T>,
        id: Uuid,
        pointer: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Result<&'b T, Invalid> {
        found.get(&id).ok_or_else(|| match self.wanted.get((kind as i32, id)) {
            Some(_) => Invalid::new(pointer, Code::HeldBack, "what it refers to was rejected or is of another kind"),
            None => Invalid::new(pointer, Code::UnknownReference, "what it refers to is not in the configuration"),
        })
    }

    fn endpoint(&self, id: Uuid, parsed: Parsed, stripped: &[HeaderName]) -> Result<Endpoint, Invalid> {
        let Parsed {
            name,
            context,
            template,
            key_locations,
            disabled,
            realtime,
            compression,
            asks_usage,
            timeouts,
            max_body_bytes,
            further_attempts,
            target,
            mut access,
            mut models,
            limits,
        } = parsed;
        let prices = Prices::of(self.prices.get(&id), self.prices.get(&template));
        let mut limits = rules(limits, Owner::Endpoint(id))?;
        let template = Arc::clone(self.find(Kind::Template, self.templates, template, "/template")?);
        let target = match target {
            ParsedTarget::Upstream(upstream) => {
                let secret = upstream
                    .secret
                    .map(|secret| self.find(Kind::Secret, self.secrets, secret, "/upstream/credential"))
                    .transpose()?;
                let Resolved { upstream, credential, destination } = upstream.resolve(id, &template, secret)?;
                Target::Provider(RouteTarget::sole(Arc::new(Provider {
                    id,
                    name: name.clone(),
                    template: Arc::clone(&template),
                    disabled,
                    realtime,
                    asks_usage,
                    upstream,
                    credential,
                    destination,
                    timeouts,
                    max_body_bytes,
                    access: access.take(),
                    models: models.take(),
                    limits: std::mem::take(&mut limits),
                    answered: told(&name, "200"),
                    prices,
                    meters: Carried::default(),
                })))
            }
            ParsedTarget::Route(ParsedRoute { targets, strategy }) => {
                let mut resolved = Vec::with_capacity(targets.len());
                for (index, target) in targets.into_iter().enumerate() {
                    let pointer = format!("/targets/{index}/provider");
                    let provider = self.find(Kind::Endpoint, self.providers, target.provider, pointer.clone())?;
                    if provider.template.dialect != template.dialect {
                        return Err(Invalid::new(pointer, Code::Unsupported, "this provider speaks another dialect"));
                    }
                    let provider = Arc::clone(provider);
                    let proxy::wire::ParsedTarget { provider: _, weight, priority, aliases } = target;
                    resolved.push(RouteTarget { provider, weight, priority, aliases });
                }
                let route = Route::new(resolved, strategy);
                Target::Route(route.ok_or_else(|| Invalid::new("/targets", Code::Missing, "a proxy needs a provider"))?)
            }
        };
        let mut headers = stripped.to_vec();
        let mut parameters: Vec<Box<str>> = template.credential_names.to_vec();
        for target in target.targets() {
            parameters.extend(target.provider.template.credential_names.iter().cloned());
        }
        for location in &key_locations {
            match location {
                KeyLocation::Header { name, prefix: _ } => headers.push(name.clone()),
                KeyLocation::Query { name, prefix: _ } => parameters.push(name.clone()),
            }
        }
        headers.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        headers.dedup();
        parameters.sort();
        parameters.dedup();
        Ok(Endpoint {
            id,
            name,
            context,
            template,
            key_locations,
            stripped_headers: headers.into(),
            stripped_parameters: parameters.into(),
            disabled,
            realtime: realtime && target.providers().all(|provider| provider.realtime),
            compression,
            asks_usage,
            timeouts,
            // Whichever of them gets it must take it.
            max_body_bytes: max_body_bytes
                .or_else(|| target.providers().filter_map(|provider| provider.max_body_bytes).min()),
            further_attempts: further_attempts.unwrap_or_else(|| {
                let others = (target.targets().len() - 1).min(USUAL_ATTEMPTS);
                u32::try_from(others).unwrap_or_default()
            }),
            guards_paths: access.is_some() || target.providers().any(|provider| provider.access.is_some()),
            guards_models: models.is_some()
                || target.targets().iter().any(|one| one.provider.models.is_some() || !one.aliases.is_empty()),
            needs: target.providers().fold(Needs::of(&limits), |needs, one| needs.and(Needs::of(&one.limits))),
            target,
            access,
            models,
            limits,
            meters: Carried::default(),
        })
    }
}

#[cfg(test)]
mod tests;
