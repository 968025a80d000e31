//! What is served when something wanted does not validate, and what is held back with it.

use proto::config::{self, Kind, endpoint, key_location};

use super::*;

#[derive(Default)]
struct Draft(Configuration);

impl Draft {
    fn put(mut self, kind: Kind, id: u128, message: &impl prost::Message) -> Self {
        self.put_bytes(kind as i32, id, message.encode_to_vec());
        self
    }

    fn put_bytes(&mut self, kind: i32, id: u128, body: Vec<u8>) {
        let id = Uuid::from_u128(id).as_bytes().to_vec().into();
        self.0.put(Entry { kind, id, revision: 1, body: body.into() }).unwrap();
    }
}

fn template(dialect: config::Dialect) -> config::Template {
    config::Template {
        name: "t".to_owned(),
        dialect: dialect as i32,
        credential_header: "authorization".to_owned(),
        credential_prefix: "Bearer ".to_owned(),
        ..config::Template::default()
    }
}

fn id(id: u128) -> bytes::Bytes {
    Uuid::from_u128(id).as_bytes().to_vec().into()
}

fn provider(context: &str, url: &str) -> config::Endpoint {
    config::Endpoint {
        name: context.to_owned(),
        context: context.to_owned(),
        template_id: id(1),
        key_locations: vec![config::KeyLocation {
            r#in: key_location::In::Header as i32,
            name: "x-api-key".to_owned(),
            prefix: String::new(),
        }],
        target: Some(endpoint::Target::Upstream(config::Upstream {
            url: url.to_owned(),
            secret_id: id(2),
            extra_ca_pem: String::new(),
        })),
        ..config::Endpoint::default()
    }
}

fn proxy(context: &str, provider: u128) -> config::Endpoint {
    config::Endpoint {
        target: Some(endpoint::Target::Route(config::Route {
            targets: vec![config::RouteTarget { provider_id: id(provider), weight: 0, priority: 0, aliases: vec![] }],
            strategy: 0,
        })),
        ..self::provider(context, "")
    }
}

fn base() -> Draft {
    let secret = config::Secret { value: b"sk-1".as_slice().into(), version: 1 };
    Draft::default()
        .put(Kind::Template, 1, &template(config::Dialect::Openai))
        .put(Kind::Secret, 2, &secret)
        .put(Kind::Endpoint, 3, &provider("/a", "https://api.example"))
        .put(Kind::Endpoint, 4, &proxy("/p", 3))
}

fn codes(compiled: &Compiled) -> Vec<(u128, Code, &str)> {
    compiled
        .rejected
        .iter()
        .map(|rejection| (rejection.key.1.as_u128(), rejection.code, rejection.pointer.as_str()))
        .collect()
}

#[test]
fn a_sound_configuration_is_served_whole() {
    let wanted = base().0;
    let compiled = Runtime::compile(&wanted, &Configuration::default());
    assert_eq!(codes(&compiled), []);
    assert_eq!(compiled.served.len(), 4);
    let (length, endpoint) = compiled.runtime.endpoint("/p/v1/x").unwrap();
    assert_eq!((length, endpoint.target.first().name.as_ref()), (2, "/a"));
    let (name, value) = endpoint.target.first().credential.as_ref().unwrap();
    assert_eq!((name.as_str(), value.as_bytes()), ("authorization", b"Bearer sk-1".as_slice()));
    assert!(value.is_sensitive());
}

#[test]
fn a_bad_provider_keeps_its_last_good_body_and_its_proxy() {
    let served = base().0;
    let wanted = base().put(Kind::Endpoint, 3, &provider("/a", "ftp://no")).0;
    let compiled = Runtime::compile(&wanted, &served);
    assert_eq!(codes(&compiled), [(3, Code::Malformed, "/upstream/url")]);
    assert_eq!(compiled.served.get((Kind::Endpoint as i32, Uuid::from_u128(3))), served.get((3, Uuid::from_u128(3))));
    assert!(compiled.runtime.endpoint("/a").is_some() && compiled.runtime.endpoint("/p").is_some());
}

#[test]
fn a_proxy_that_does_not_parse_keeps_its_last_good_body_whatever_the_order_of_ids() {
    let mut strange = proxy("/p", 3);
    strange.key_locations[0].r#in = 99;
    for id in [2, 4] {
        let draft = |proxy| {
            let draft = Draft::default().put(Kind::Template, 1, &template(config::Dialect::Openai));
            let secret = config::Secret { value: b"sk-1".as_slice().into(), version: 1 };
            let draft = draft.put(Kind::Secret, 2, &secret);
            draft.put(Kind::Endpoint, 3, &provider("/a", "https://api.example")).put(Kind::Endpoint, id, proxy).0
        };
        let compiled = Runtime::compile(&draft(&strange), &draft(&proxy("/p", 3)));
        assert_eq!(compiled.rejected.len(), 1);
        assert!(compiled.runtime.endpoint("/p").is_some(), "the proxy with id {id} is gone");
    }
}

#[test]
fn without_a_last_good_body_what_depends_on_it_is_held_back() {
    let wanted = base().put(Kind::Endpoint, 3, &provider("/a", "ftp://no")).0;
    let compiled = Runtime::compile(&wanted, &Configuration::default());
    assert_eq!(codes(&compiled), [(3, Code::Malformed, "/upstream/url"), (4, Code::HeldBack, "/targets/0/provider")]);
    assert!(compiled.runtime.endpoint("/a").is_none() && compiled.runtime.endpoint("/p").is_none());
    assert_eq!(compiled.served.len(), 2);
}

#[test]
fn a_reference_to_nothing_is_told_from_one_to_something_bad() {
    let wanted = base().put(Kind::Endpoint, 4, &proxy("/p", 99)).0;
    let compiled = Runtime::compile(&wanted, &Configuration::default());
    assert_eq!(codes(&compiled), [(4, Code::UnknownReference, "/targets/0/provider")]);
}

#[test]
fn a_newcomer_does_not_take_a_standing_context() {
    let served = base().0;
    let wanted = base().put(Kind::Endpoint, 0, &provider("/p", "https://b.example")).0;
    let compiled = Runtime::compile(&wanted, &served);
    assert_eq!(codes(&compiled), [(0, Code::Taken, "/context")]);
    assert_eq!(compiled.runtime.endpoint("/p").unwrap().1.id, Uuid::from_u128(4));
}

#[test]
fn two_endpoints_may_swap_their_contexts() {
    let served = base().0;
    let wanted =
        base().put(Kind::Endpoint, 3, &provider("/p", "https://api.example")).put(Kind::Endpoint, 4, &proxy("/a", 3)).0;
    let compiled = Runtime::compile(&wanted, &served);
    assert_eq!(codes(&compiled), []);
    assert_eq!(compiled.runtime.endpoint("/a").unwrap().1.id, Uuid::from_u128(4));
}

#[test]
fn a_new_credential_is_another_destination() {
    let destination = |value: &'static [u8], version| {
        let secret = config::Secret { value: value.into(), version };
        let compiled = Runtime::compile(&base().put(Kind::Secret, 2, &secret).0, &Configuration::default());
        compiled.runtime.endpoint("/a").unwrap().1.target.first().destination
    };
    assert_eq!(destination(b"x", 1), destination(b"x", 1));
    assert_ne!(destination(b"x", 1), destination(b"x", 2));
    assert_ne!(destination(b"x", 1), destination(b"y", 1));
}

#[test]
fn settings_that_do_not_read_keep_the_last_good_ones() {
    let settings =
        |network: &str| config::Settings { upstream_networks: vec![network.to_owned()], ..config::Settings::default() };
    let served = base().put(Kind::Settings, 5, &settings("127.0.0.0/8")).0;
    let wanted = base().put(Kind::Settings, 5, &settings("everything")).0;
    let compiled = Runtime::compile(&wanted, &served);
    assert_eq!(codes(&compiled), [(5, Code::Malformed, "/upstreamNetworks/0")]);
    assert_eq!(compiled.runtime.settings().upstream_networks.len(), 1);
    let compiled = Runtime::compile(&wanted, &Configuration::default());
    assert!(compiled.runtime.settings().upstream_networks.is_empty());
}

#[test]
fn the_last_key_can_be_taken_away() {
    let key = config::ApiKey {
        credentials: vec![config::api_key::Credential { digest: vec![7; 32].into(), expires_at_ms: 0 }],
        endpoint_ids: vec![id(3)],
        ..config::ApiKey::default()
    };
    let served = base().put(Kind::ApiKey, 6, &key).0;
    let compiled = Runtime::compile(&served, &Configuration::default());
    let credential = compiled.runtime.credential([7; 32]).unwrap();
    assert!(credential.key.opens(Uuid::from_u128(3)) && !credential.key.opens(Uuid::from_u128(4)));
    let compiled = Runtime::compile(&base().0, &served);
    assert!(compiled.runtime.credential([7; 32]).is_none());
}

#[test]
fn nothing_makes_it_panic() {
    let mut draft = base();
    for (index, body) in [&b""[..], b"\xff", b"\x0a\xff\xff\xff\xff\x0f", &[0x12; 64]].into_iter().enumerate() {
        for kind in -1..8 {
            draft.put_bytes(kind, 100 + index as u128, body.to_vec());
        }
    }
    let compiled = Runtime::compile(&draft.0, &Configuration::default());
    assert!(compiled.runtime.endpoint("/a").is_some());
    assert!(compiled.rejected.iter().any(|rejection| rejection.code == Code::UnknownKind));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_compiled_or_rejected(bodies in proptest::collection::vec(
        (-1_i32..8, 0_u128..6, proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)), 0..12
    )) {
        let mut draft = base();
        for (kind, id, body) in bodies {
            draft.put_bytes(kind, id, body);
        }
        let compiled = Runtime::compile(&draft.0, &base().0);
        proptest::prop_assert!(compiled.served.len() <= draft.0.len());
    }
}
