//! Writes a catalog as wire entries. Every struct is taken apart whole, so that a field that is forgotten here does not
//! compile; what the wire does not carry is named and dropped.

mod template;

use std::collections::BTreeMap;

use prost::Message as _;
use proto::config::{
    AccessControl as WireAccessControl, ApiKey, Compression as WireCompression, Endpoint, Entry,
    KeyLocation as WireKeyLocation, Kind, Limit as WireLimit, ModelAlias, ModelRules, Price as WirePrice, Prices,
    Rates as WireRates, Retry, Route, RouteTarget, Secret, Settings, Timeouts as WireTimeouts,
    Upstream as WireUpstream, access_control, api_key, endpoint, key_location, limit, route,
};
use uuid::Uuid;

use self::template::template;
use super::Key;
use crate::{
    model::{
        access_control::{AccessControl, AccessException, AccessMethod, AccessMode},
        api_key::Scope,
        duration::Duration,
        key_location::{KeyLocation, KeyPlace},
        limit::{Limit, LimitMetric, LimitMode, LimitWindow, Unpriced},
        models::Models,
        price::{Price, Rates},
        provider::ProviderSpec,
        proxy::{ProxySpec, Routing, Strategy},
        security::{ApiKeySecurity, Compression, Retries, Security, Timeouts, UsageReading},
        upstream::{Credential, Upstream},
    },
    seal::{Keyring, OpenError},
    store::{
        catalog::{
            ApiKeyEntry, Catalog, EndpointEntry, Frozen, GatewayEntry, KeyCredential, PriceEntry, SecretEntry, Target,
            TemplateEntry,
        },
        secret,
    },
};

/// The entries of the catalog's gateway, and the secrets that did not open (another master key, or a damaged row). Those
/// are left out: the nodes reject what needs them, by name, and everything else advances, revocations above all.
/// Secrets are opened here and nowhere else on the way to the nodes.
pub fn compile(catalog: &Catalog, keyring: &Keyring) -> (BTreeMap<Key, Entry>, Vec<(Uuid, OpenError)>) {
    let Catalog {
        lineage: _,
        organization_id: _,
        revision: _,
        committed_at_us: _,
        gateway,
        templates,
        endpoints,
        api_keys,
        secrets,
        prices,
    } = catalog;
    let mut entries = BTreeMap::new();
    let mut put = |kind: Kind, id: Uuid, revision: i64, body: Vec<u8>| {
        let entry = Entry {
            kind: kind.into(),
            id: bytes_of(id),
            revision: u64::try_from(revision).unwrap_or(0),
            body: body.into(),
        };
        entries.insert((kind.into(), id), entry);
    };
    put(Kind::Settings, gateway.id, gateway.revision, settings(gateway).encode_to_vec());
    for TemplateEntry { template, revision } in templates {
        put(Kind::Template, template.id.0, *revision, self::template(template).encode_to_vec());
    }
    for entry in endpoints {
        put(Kind::Endpoint, entry.id, entry.revision, endpoint(entry).encode_to_vec());
    }
    for entry in api_keys {
        put(Kind::ApiKey, entry.id, entry.revision, api_key(entry).encode_to_vec());
    }
    for entry in prices {
        put(Kind::Prices, entry.id, entry.revision, price_list(entry).encode_to_vec());
    }
    let mut closed = Vec::new();
    for SecretEntry { id, version, sealed, revision } in secrets {
        let value = match keyring.open(&secret::place(*id, *version), sealed) {
            Ok(value) => value,
            Err(error) => {
                closed.push((*id, error));
                continue;
            }
        };
        let message = Secret {
            value: value.expose().as_bytes().to_vec().into(),
            version: u32::try_from(*version).unwrap_or(u32::MAX),
        };
        put(Kind::Secret, *id, *revision, message.encode_to_vec());
    }
    (entries, closed)
}

fn price_list(entry: &PriceEntry) -> Prices {
    let PriceEntry { id: _, own, shipped, revision: _ } = entry;
    let all = |(version, prices): &(String, Vec<Price>)| prices.iter().map(|one| price(version, one)).collect();
    Prices { own: all(own), shipped: all(shipped) }
}

fn price(version: &str, price: &Price) -> WirePrice {
    let Price { models, rates, long_above, long, batch_percent, source: _, date: _ } = price;
    WirePrice {
        models: models.clone(),
        version: version.to_owned(),
        rates: Some(self::rates(rates)),
        long_above: long_above.unwrap_or_default(),
        long: long.as_ref().map(self::rates),
        batch_percent: batch_percent.unwrap_or_default(),
    }
}

fn rates(rates: &Rates) -> WireRates {
    let Rates { input, cached_input, cache_write, output, reasoning, input_audio, output_audio } = *rates;
    WireRates { input, cached_input, cache_write, output, reasoning, input_audio, output_audio }
}

fn settings(gateway: &GatewayEntry) -> Settings {
    let GatewayEntry { id: _, name, base_urls, upstream_networks, revision: _ } = gateway;
    Settings {
        gateway: name.clone(),
        upstream_networks: upstream_networks.iter().map(ToString::to_string).collect(),
        base_urls: base_urls.clone(),
    }
}

fn endpoint(entry: &EndpointEntry) -> Endpoint {
    let EndpointEntry {
        id: _,
        name,
        disabled,
        limits,
        context,
        deployment_id,
        deployment_version,
        template_id,
        frozen,
        revision: _,
    } = entry;
    let Parts {
        key_locations,
        timeouts,
        max_body_bytes,
        retry,
        realtime,
        compression,
        asks,
        access_control,
        models,
        target,
    } = match frozen {
        Frozen::Provider(spec) => provider(spec),
        Frozen::Proxy(spec, targets) => proxy(spec, targets),
    };
    Endpoint {
        name: name.clone(),
        context: context.as_str().to_owned(),
        template_id: bytes_of(*template_id),
        key_locations,
        disabled: *disabled,
        timeouts: Some(timeouts),
        max_body_bytes,
        target: Some(target),
        deployment_id: bytes_of(*deployment_id),
        deployment_version: u32::try_from(*deployment_version).unwrap_or(u32::MAX),
        realtime_disabled: !realtime,
        compression: match compression {
            Compression::Identity => WireCompression::Identity.into(),
            Compression::PassThrough => WireCompression::PassThrough.into(),
        },
        retry,
        usage_not_asked: !asks,
        access_control,
        models,
        limits: limits.iter().map(limit).collect(),
    }
}

/// What providers and proxies say alike, in their own ways.
struct Parts {
    key_locations: Vec<WireKeyLocation>,
    timeouts: WireTimeouts,
    max_body_bytes: u64,
    retry: Option<Retry>,
    realtime: bool,
    compression: Compression,
    asks: bool,
    access_control: Option<WireAccessControl>,
    models: Option<ModelRules>,
    target: endpoint::Target,
}

fn provider(spec: &ProviderSpec) -> Parts {
    let ProviderSpec {
        display_name: _,
        description: _,
        // By id, and live where the entry says so.
        template: _,
        context: _,
        upstream: Upstream { url, credential, ca_pem },
        security,
        timeouts,
        max_body_bytes,
        disabled: _,
        realtime,
        compression,
        usage: UsageReading { ask },
        access_control,
        models,
        // Live.
        limits: _,
        // Refused unless it is empty.
        policies: _,
        retries,
    } = spec;
    let upstream = WireUpstream {
        url: url.clone(),
        secret_id: credential.as_ref().map(|Credential { secret, last4: _ }| bytes_of(secret.0)).unwrap_or_default(),
        extra_ca_pem: ca_pem.clone().unwrap_or_default(),
    };
    Parts {
        key_locations: key_locations(security),
        timeouts: self::timeouts(timeouts),
        max_body_bytes: max_body_bytes.unwrap_or_default(),
        retry: retry(*retries),
        realtime: *realtime,
        compression: *compression,
        asks: *ask,
        access_control: self::access_control(access_control),
        models: self::models(models),
        target: endpoint::Target::Upstream(upstream),
    }
}

fn proxy(spec: &ProxySpec, targets: &[Target]) -> Parts {
    let ProxySpec {
        display_name: _,
        description: _,
        context: _,
        // Resolved to `targets` when it was deployed.
        provider: _,
        targets: _,
        routing: Routing { strategy },
        security,
        timeouts,
        max_body_bytes,
        disabled: _,
        realtime,
        compression,
        usage: UsageReading { ask },
        access_control,
        models,
        // Live.
        limits: _,
        // Refused unless it is empty.
        policies: _,
        retries,
    } = spec;
    let target = |Target { provider_id, weight, priority, aliases }: &Target| RouteTarget {
        provider_id: bytes_of(*provider_id),
        weight: *weight,
        priority: *priority,
        aliases: self::aliases(aliases),
    };
    let strategy = match strategy {
        Strategy::Weighted => route::Strategy::Weighted,
        Strategy::LeastPending => route::Strategy::LeastPending,
    };
    let route = Route { targets: targets.iter().map(target).collect(), strategy: strategy.into() };
    Parts {
        key_locations: key_locations(security),
        timeouts: self::timeouts(timeouts),
        max_body_bytes: max_body_bytes.unwrap_or_default(),
        retry: retry(*retries),
        realtime: *realtime,
        compression: *compression,
        asks: *ask,
        access_control: self::access_control(access_control),
        models: self::models(models),
        target: endpoint::Target::Route(route),
    }
}

fn access_control(control: &AccessControl) -> Option<WireAccessControl> {
    let AccessControl { mode, exceptions } = control;
    let method = |method: &AccessMethod| match method {
        AccessMethod::Get => "GET",
        AccessMethod::Post => "POST",
        AccessMethod::Put => "PUT",
        AccessMethod::Patch => "PATCH",
        AccessMethod::Delete => "DELETE",
        AccessMethod::Options => "OPTIONS",
    };
    let exception = |AccessException { path, methods }: &AccessException| access_control::Exception {
        path: path.clone(),
        methods: methods.iter().map(|one| method(one).to_owned()).collect(),
    };
    (!control.is_open()).then(|| WireAccessControl {
        deny_all: *mode == AccessMode::DenyAll,
        exceptions: exceptions.iter().map(exception).collect(),
    })
}

fn models(models: &Models) -> Option<ModelRules> {
    let Models { allow, aliases, force } = models;
    (!models.is_default()).then(|| ModelRules {
        allow: allow.clone(),
        aliases: self::aliases(aliases),
        force: force.clone().unwrap_or_default(),
    })
}

fn aliases(aliases: &BTreeMap<String, String>) -> Vec<ModelAlias> {
    aliases.iter().map(|(alias, model)| ModelAlias { alias: alias.clone(), model: model.clone() }).collect()
}

fn retry(retries: Retries) -> Option<Retry> {
    let Retries { attempts } = retries;
    attempts.map(|attempts| Retry { attempts: attempts.into() })
}

fn key_locations(security: &Security) -> Vec<WireKeyLocation> {
    let Security { api_key: ApiKeySecurity { locations } } = security;
    let location = |KeyLocation { r#in, name, prefix }: &KeyLocation| match r#in {
        KeyPlace::Header => WireKeyLocation {
            r#in: key_location::In::Header.into(),
            name: name.to_ascii_lowercase(),
            prefix: prefix.clone(),
        },
        KeyPlace::Query => {
            WireKeyLocation { r#in: key_location::In::Query.into(), name: name.clone(), prefix: prefix.clone() }
        }
    };
    locations.iter().map(location).collect()
}

fn timeouts(timeouts: &Timeouts) -> WireTimeouts {
    let Timeouts { connect, first_byte, idle, total } = timeouts;
    let milliseconds = |duration: Duration| u32::try_from(duration.as_time().whole_milliseconds()).unwrap_or(u32::MAX);
    WireTimeouts {
        connect_ms: milliseconds(*connect),
        first_byte_ms: milliseconds(*first_byte),
        idle_ms: milliseconds(*idle),
        total_ms: total.map_or(0, milliseconds),
    }
}

fn api_key(entry: &ApiKeyEntry) -> ApiKey {
    let ApiKeyEntry { id: _, credentials, endpoint_ids, expires_at_ms, disabled, scope, limits, revision: _ } = entry;
    let Scope { models, addresses } = scope;
    // Zero would mean "never": what ended at the epoch has ended.
    let end = |at: Option<i64>| at.map_or(0, |at| u64::try_from(at).unwrap_or(0).max(1));
    let credential = |KeyCredential { digest, expires_at_ms }: &KeyCredential| api_key::Credential {
        digest: digest.clone().into(),
        expires_at_ms: end(*expires_at_ms),
    };
    ApiKey {
        credentials: credentials.iter().map(credential).collect(),
        endpoint_ids: endpoint_ids.iter().copied().map(bytes_of).collect(),
        expires_at_ms: end(*expires_at_ms),
        disabled: *disabled,
        models: self::models(models),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        limits: limits.iter().map(limit).collect(),
    }
}

fn limit(rule: &Limit) -> WireLimit {
    let Limit {
        name,
        metric,
        limit: most,
        window,
        resources,
        models,
        mode,
        unpriced,
        output_estimate,
        require_output_bound,
    } = rule;
    let metric = match metric {
        LimitMetric::Requests => limit::Metric::Requests,
        LimitMetric::InputTokens => limit::Metric::InputTokens,
        LimitMetric::OutputTokens => limit::Metric::OutputTokens,
        LimitMetric::TotalTokens => limit::Metric::TotalTokens,
        LimitMetric::Cost => limit::Metric::Cost,
        LimitMetric::ConcurrentRequests => limit::Metric::ConcurrentRequests,
    };
    let (calendar, window_ms) = match window {
        None => (limit::Calendar::Unspecified, 0),
        Some(LimitWindow::Rolling(duration)) => (limit::Calendar::Unspecified, duration.as_millis()),
        Some(LimitWindow::Day) => (limit::Calendar::Day, 0),
        Some(LimitWindow::Month) => (limit::Calendar::Month, 0),
    };
    WireLimit {
        name: name.as_str().to_owned(),
        metric: metric.into(),
        limit: *most,
        window_ms,
        calendar: calendar.into(),
        resources: resources.clone(),
        shadow: *mode == LimitMode::Shadow,
        unpriced_allowed: *unpriced == Unpriced::Allow,
        output_estimate: *output_estimate,
        models: models.clone(),
        output_bound_required: *require_output_bound,
    }
}

fn bytes_of(id: Uuid) -> bytes::Bytes {
    id.into_bytes().to_vec().into()
}

#[cfg(test)]
mod tests {
    use proto::config::Template as TemplateMessage;
    use serde_json::json;

    use super::*;
    use crate::{
        model::{context::Context, template::Templates},
        sensitive::Sensitive,
    };

    const fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn flat(model: &str, rate: u64) -> Price {
        serde_json::from_value(json!({ "models": [model], "rates": { "input": rate, "output": rate } })).unwrap()
    }

    fn catalog(keyring: &Keyring) -> Catalog {
        let templates = Templates::builtin().unwrap();
        let openai = templates.find("openai").unwrap().clone();
        let provider: ProviderSpec = serde_json::from_value(json!({
            "template": "openai", "context": "/one",
            "upstream": {"url": "https://api.openai.com", "credential": {"secret": proto::id::encode("sec", id(4))}},
            "security": {"apiKey": {"locations": [
                {"in": "header", "name": "X-API-Key"}, {"in": "query", "name": "Key", "prefix": ""},
            ]}},
            "timeouts": {"connect": "2s", "firstByte": "60s", "idle": "30s", "total": "90s"},
            "retries": {"attempts": 1}, "maxBodyBytes": 1_048_576,
            "accessControl": {"mode": "denyAll", "exceptions": [{"path": "/v1/files/*", "methods": ["GET", "POST"]}]},
            "models": {"allow": ["gpt-4o*"], "aliases": {"fast": "gpt-4o-mini"}},
        }))
        .unwrap();
        let proxy: ProxySpec = serde_json::from_value(json!({
            "context": "/two", "realtime": false, "compression": "passThrough", "security": {"apiKey": {"locations": [{"in": "header", "name": "Authorization",
            "prefix": "Bearer "}]}}, "routing": {"strategy": "leastPending"},
        }))
        .unwrap();
        let endpoint = |number, name: &str, frozen| EndpointEntry {
            id: id(number),
            name: name.to_owned(),
            disabled: name == "two",
            limits: Vec::new(),
            context: Context::try_from(format!("/{name}")).unwrap(),
            deployment_id: id(number + 100),
            deployment_version: 3,
            template_id: openai.id.0,
            frozen,
            revision: 7,
        };
        let aliases = BTreeMap::from([("fast".to_owned(), "gpt-4o-mini".to_owned())]);
        let target = Target { provider_id: id(2), weight: 1, priority: 0, aliases };
        Catalog {
            lineage: id(50),
            organization_id: id(51),
            revision: 9,
            committed_at_us: 1_000,
            gateway: GatewayEntry {
                id: id(1),
                name: "default".to_owned(),
                base_urls: vec!["https://gw.example".to_owned()],
                upstream_networks: vec!["10.0.0.0/8".parse().unwrap()],
                revision: 1,
            },
            templates: vec![TemplateEntry { template: openai.clone(), revision: 1 }],
            endpoints: vec![
                endpoint(2, "one", Frozen::Provider(Box::new(provider))),
                endpoint(3, "two", Frozen::Proxy(Box::new(proxy), vec![target])),
            ],
            api_keys: vec![ApiKeyEntry {
                id: id(5),
                credentials: vec![KeyCredential { digest: vec![7; 32], expires_at_ms: Some(0) }],
                endpoint_ids: vec![id(2), id(3)],
                expires_at_ms: None,
                disabled: true,
                scope: Scope { models: Models::default(), addresses: vec!["10.0.0.0/8".parse().unwrap()] },
                limits: Vec::new(),
                revision: 8,
            }],
            secrets: vec![SecretEntry {
                id: id(4),
                version: 2,
                sealed: keyring.seal(&secret::place(id(4), 2), &Sensitive::new("sk-golden".to_owned())),
                revision: 6,
            }],
            prices: vec![PriceEntry {
                id: openai.id.0,
                own: ("r5".to_owned(), vec![flat("gpt-4o", 0)]),
                shipped: ("openai@1".to_owned(), vec![flat("gpt-4o*", 2_500_000_000)]),
                revision: 5,
            }],
        }
    }

    fn keyring() -> Keyring {
        Keyring::parse(&Keyring::generate()).unwrap()
    }

    #[test]
    fn the_messages_are_as_they_were() {
        let keyring = keyring();
        let (entries, _) = compile(&catalog(&keyring), &keyring);
        let messages: Vec<String> = entries
            .values()
            .map(|entry| {
                let body = &*entry.body;
                let message = match Kind::try_from(entry.kind).unwrap() {
                    Kind::Settings => format!("{:#?}", Settings::decode(body).unwrap()),
                    Kind::Template => format!("{:#?}", TemplateMessage::decode(body).unwrap()),
                    Kind::Endpoint => format!("{:#?}", Endpoint::decode(body).unwrap()),
                    Kind::ApiKey => format!("{:#?}", ApiKey::decode(body).unwrap()),
                    Kind::Secret => format!("{:#?}", Secret::decode(body).unwrap()),
                    Kind::Prices => format!("{:#?}", Prices::decode(body).unwrap()),
                    Kind::Unspecified => panic!("an entry of no kind"),
                };
                format!("revision {}: {message}", entry.revision)
            })
            .collect();
        insta::assert_snapshot!(messages.join("\n\n"));
    }

    #[test]
    fn the_same_catalog_gives_the_same_bytes_whatever_sealed_its_secrets() {
        let (one, two) = (keyring(), keyring());
        assert_eq!(compile(&catalog(&one), &one).0, compile(&catalog(&two), &two).0);
    }

    #[test]
    fn a_secret_moved_to_another_row_does_not_open_and_holds_nothing_else_back() {
        let keyring = keyring();
        let mut catalog = catalog(&keyring);
        let (whole, closed) = compile(&catalog, &keyring);
        assert!(closed.is_empty());
        catalog.secrets[0].version = 1;
        let moved = catalog.secrets[0].id;
        let (entries, closed) = compile(&catalog, &keyring);
        assert_eq!(closed.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [moved]);
        assert_eq!(entries.len() + 1, whole.len());
        assert!(!entries.contains_key(&(Kind::Secret.into(), moved)));
    }
}
