//! A configuration of any size, the same for the same size: endpoints that all lead to one upstream, and keys that open
//! three of them each.

use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;
use proto::{
    config::{
        ApiKey, Cursor, Dialect, Endpoint, Entry, KeyLocation, Kind, Secret, Settings, Template, Update, Upstream,
        api_key, endpoint, key_location, template,
    },
    state::StateHash,
    token::{self, ENTROPY, TokenKind},
};

/// Of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) endpoints: usize,
    pub(crate) keys: usize,
}

/// A part of a reset is closed before it exceeds this, as the control plane does it.
const PART: usize = 512 << 10;
const OPENS: usize = 3;
const TEMPLATE: u128 = 2;
const SECRET: u128 = 3;
const ENDPOINTS: u128 = 1 << 64;
const KEYS: u128 = 2 << 64;

/// The key of this number.
pub(crate) fn key(number: usize) -> String {
    token::mint(TokenKind::ApiKey, None, &entropy(number)).expect("one byte in 32 is not usable: half of them suffice")
}

/// The context of the endpoint that the key of this number opens first.
pub(crate) fn context(key: usize, size: Size) -> String {
    format!("/load-{}", key % size.endpoints)
}

/// Well spread bytes from a number (splitmix64); no secret is made of them.
pub(crate) fn entropy(number: usize) -> [u8; ENTROPY] {
    let mut state = (number as u64).wrapping_mul(0x2545_f491_4f6c_dd1d);
    let mut bytes = [0; ENTROPY];
    for chunk in bytes.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(value ^ (value >> 31)).to_le_bytes());
    }
    bytes
}

/// Where a node stands that has all of it.
pub(crate) fn cursor() -> Cursor {
    Cursor { lineage: id(1), revision: 1 }
}

/// The parts of the reset, one after the other, as long as they are taken. None is held: a million keys are large.
pub(crate) fn parts(upstream: SocketAddr, size: Size, mut take: impl FnMut(Update) -> bool) {
    let mut hash = StateHash::default();
    let mut part = Update { to: Some(cursor()), reset: true, ..Update::default() };
    let mut held = 0;
    for entry in entries(upstream, size) {
        hash.add(entry.kind, &entry.id, &entry.body);
        held += entry.body.len() + 48;
        if held > PART && !part.put.is_empty() {
            let number = part.part;
            if !take(part) {
                return;
            }
            part = Update { to: Some(cursor()), reset: true, part: number + 1, ..Update::default() };
            held = entry.body.len() + 48;
        }
        part.put.push(entry);
    }
    part.last = true;
    part.state_hash = hash.to_bytes().to_vec().into();
    take(part);
}

fn entries(upstream: SocketAddr, size: Size) -> impl Iterator<Item = Entry> {
    let settings = Settings {
        gateway: "load".to_owned(),
        upstream_networks: vec!["127.0.0.0/8".to_owned()],
        ..Settings::default()
    };
    let secret = Secret { value: Bytes::from_static(b"sk-load"), version: 1 };
    let few = [
        entry(Kind::Settings, 1, &settings),
        entry(Kind::Template, TEMPLATE, &template()),
        entry(Kind::Secret, SECRET, &secret),
    ];
    let endpoints = (0..size.endpoints)
        .map(move |number| entry(Kind::Endpoint, ENDPOINTS + number as u128, &provider(number, upstream)));
    let keys = (0..size.keys).map(move |number| entry(Kind::ApiKey, KEYS + number as u128, &api_key(number, size)));
    few.into_iter().chain(endpoints).chain(keys)
}

fn entry(kind: Kind, number: u128, body: &impl Message) -> Entry {
    Entry { kind: kind.into(), id: id(number), revision: 1, body: body.encode_to_vec().into() }
}

fn id(number: u128) -> Bytes {
    number.to_be_bytes().to_vec().into()
}

fn provider(number: usize, upstream: SocketAddr) -> Endpoint {
    let header = |name: &str, prefix: &str| KeyLocation {
        r#in: key_location::In::Header.into(),
        name: name.to_owned(),
        prefix: prefix.to_owned(),
    };
    Endpoint {
        name: format!("load-{number}"),
        context: format!("/load-{number}"),
        template_id: id(TEMPLATE),
        key_locations: vec![header("x-api-key", ""), header("authorization", "Bearer ")],
        target: Some(endpoint::Target::Upstream(Upstream {
            url: format!("http://{upstream}"),
            secret_id: id(SECRET),
            ..Upstream::default()
        })),
        ..Endpoint::default()
    }
}

fn api_key(number: usize, size: Size) -> ApiKey {
    let opens = (0..OPENS.min(size.endpoints)).map(|step| id(ENDPOINTS + ((number + step) % size.endpoints) as u128));
    ApiKey {
        credentials: vec![api_key::Credential {
            digest: token::digest(&key(number)).to_vec().into(),
            ..api_key::Credential::default()
        }],
        endpoint_ids: opens.collect(),
        ..ApiKey::default()
    }
}

/// As the built-in template of `OpenAI`'s API says it.
fn template() -> Template {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    Template {
        name: "openai".to_owned(),
        version: 1,
        dialect: Dialect::Openai.into(),
        credential_header: "authorization".to_owned(),
        credential_prefix: "Bearer ".to_owned(),
        auth_failure_status: vec![401],
        credential_names: texts(&["authorization"]),
        usage: Some(template::Usage {
            input: texts(&["/usage/prompt_tokens", "/usage/input_tokens", "/response/usage/input_tokens"]),
            output: texts(&["/usage/completion_tokens", "/usage/output_tokens", "/response/usage/output_tokens"]),
            cached_input: texts(&[
                "/usage/prompt_tokens_details/cached_tokens",
                "/usage/input_tokens_details/cached_tokens",
                "/response/usage/input_tokens_details/cached_tokens",
            ]),
            reasoning: texts(&[
                "/usage/completion_tokens_details/reasoning_tokens",
                "/usage/output_tokens_details/reasoning_tokens",
                "/response/usage/output_tokens_details/reasoning_tokens",
            ]),
            ..template::Usage::default()
        }),
        model: Some(template::Model {
            request_body: "/model".to_owned(),
            response_body: texts(&["/model", "/response/model"]),
            ..template::Model::default()
        }),
        ..Template::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(size: Size) -> Vec<Update> {
        let mut parts = Vec::new();
        super::parts("127.0.0.1:9".parse().unwrap(), size, |part| {
            parts.push(part);
            true
        });
        parts
    }

    #[test]
    fn a_large_configuration_comes_in_parts_that_lead_where_they_say() {
        let parts = all(Size { endpoints: 7, keys: 9_000 });
        assert!(parts.len() > 2, "{}", parts.len());
        let mut hash = StateHash::default();
        for (number, part) in parts.iter().enumerate() {
            assert_eq!((part.part as usize, part.reset, part.last), (number, true, number + 1 == parts.len()));
            assert!(part.encoded_len() < 600 << 10);
            part.put.iter().for_each(|entry| hash.add(entry.kind, &entry.id, &entry.body));
        }
        assert_eq!(parts.iter().map(|part| part.put.len()).sum::<usize>(), 3 + 7 + 9_000);
        assert_eq!(parts.last().unwrap().state_hash, hash.to_bytes().to_vec());
    }

    #[test]
    fn every_number_is_another_key_of_the_right_form() {
        let keys: std::collections::BTreeSet<_> = (0..2_000).chain([usize::MAX]).map(key).collect();
        assert_eq!(keys.len(), 2_001);
        assert!(keys.iter().all(|key| token::parse(TokenKind::ApiKey, key).is_ok()));
    }
}
