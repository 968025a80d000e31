//! API keys as the request path sees them: a SHA-256 digest leads to what the key opens.
//!
//! The table is cut into shards that are shared between one runtime and the next, so that a change of one key need
//! copy one shard only.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use ipnet::IpNet;
use uuid::Uuid;

use super::carried::Carried;
use super::models::ModelRules;
use crate::limit::rule::{Needs, Rule};

/// A power of two; the first bits of the digest choose.
const SHARDS: usize = 4096;

/// One key, without its credentials: those are the table's keys.
#[derive(Debug)]
pub struct ApiKey {
    /// The key's id.
    pub id: Uuid,
    /// Ids of the endpoints it opens, sorted; empty: nothing.
    pub endpoints: Box<[Uuid]>,
    /// Unix milliseconds; `None`: never.
    pub expires_at_ms: Option<u64>,
    /// Switched off by an administrator.
    pub disabled: bool,
    /// Which models it may ask for; `None`: all, as they are named.
    pub models: Option<Box<ModelRules>>,
    /// Where it may be used from; empty: everywhere.
    pub addresses: Box<[IpNet]>,
    /// How much it may be used.
    pub limits: Box<[Rule]>,
    /// What those must know of a request.
    pub needs: Needs,
    /// Its requests in flight.
    pub(crate) in_flight: Carried<AtomicU32>,
}

impl ApiKey {
    /// Whether the key's scope has this endpoint.
    pub fn opens(&self, endpoint: Uuid) -> bool {
        self.endpoints.binary_search(&endpoint).is_ok()
    }

    /// Whether it may be used from this address; IPv4 in its IPv6 form is IPv4. `None`: nobody knows from where.
    pub fn is_used_from(&self, address: Option<IpAddr>) -> bool {
        self.addresses.is_empty()
            || address.is_some_and(|address| {
                let address = address.to_canonical();
                self.addresses.iter().any(|network| network.contains(&address))
            })
    }
}

/// One of the at most two live secrets of a key.
#[derive(Clone, Debug)]
pub struct Credential {
    /// What it belongs to.
    pub key: Arc<ApiKey>,
    /// End of the grace of a rotated secret; `None`: the key's own expiry alone.
    pub expires_at_ms: Option<u64>,
}

impl Credential {
    /// Whether it opens anything at this time.
    pub fn is_live(&self, now_ms: u64) -> bool {
        let before = |end: Option<u64>| end.is_none_or(|end| now_ms < end);
        !self.key.disabled && before(self.key.expires_at_ms) && before(self.expires_at_ms)
    }
}

/// SHA-256 of a whole key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Digest(pub(crate) [u8; 32]);

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Not the first bytes: they choose the shard.
        let tail = self.0.last_chunk().expect("a digest has 32 bytes");
        state.write_u64(u64::from_le_bytes(*tail));
    }
}

/// A digest is as even as any hash of it would be.
#[derive(Default)]
pub(crate) struct Already(u64);

impl Hasher for Already {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

type Shard = HashMap<Digest, Credential, BuildHasherDefault<Already>>;

/// All keys of the gateway by digest.
#[derive(Clone)]
pub(crate) struct ApiKeys {
    shards: Box<[Arc<Shard>]>,
    len: usize,
}

impl Default for ApiKeys {
    fn default() -> Self {
        let empty = Arc::new(Shard::default());
        Self { shards: vec![empty; SHARDS].into(), len: 0 }
    }
}

impl ApiKeys {
    fn shard(digest: &Digest) -> usize {
        usize::from(u16::from_be_bytes([digest.0[0], digest.0[1]])) % SHARDS
    }

    /// The credential with this digest.
    pub(crate) fn find(&self, digest: &Digest) -> Option<&Credential> {
        self.shards[Self::shard(digest)].get(digest)
    }

    /// Adds one; copies its shard if another runtime holds it too.
    pub(crate) fn insert(&mut self, digest: Digest, credential: Credential) {
        let shard = Arc::make_mut(&mut self.shards[Self::shard(&digest)]);
        if shard.insert(digest, credential).is_none() {
            self.len += 1;
        }
    }

    /// Live secrets of all keys together.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// What an entry says before it is in the table.
pub(super) struct Parsed {
    pub(super) key: ApiKey,
    pub(super) digests: Vec<(Digest, Option<u64>)>,
}

/// The digest of a presented key; `None`: it has not even the form of one, and no look-up is needed.
pub(crate) fn digest(presented: &str) -> Option<[u8; 32]> {
    wire::digest(presented)
}

mod wire {
    use prost::Message as _;
    use proto::config::api_key;
    use proto::token::{self, TokenKind};
    use uuid::Uuid;

    use super::{ApiKey, Carried, Digest, IpNet, Needs, Parsed};
    use crate::limit::rule::Owner;
    use crate::runtime::invalid::{Code, Invalid};
    use crate::runtime::limit::wire::rules;

    impl Parsed {
        pub(in crate::runtime) fn from_wire(id: Uuid, body: &[u8]) -> Result<Self, Invalid> {
            let proto::config::ApiKey { credentials, endpoint_ids, expires_at_ms, disabled, models, addresses, limits } =
                proto::config::ApiKey::decode(body)
                    .map_err(|_| Invalid::new("", Code::Undecodable, "the key cannot be decoded"))?;
            let mut digests = Vec::with_capacity(credentials.len());
            for api_key::Credential { digest, expires_at_ms } in credentials {
                let digest: [u8; 32] = digest
                    .as_ref()
                    .try_into()
                    .map_err(|_| Invalid::new("/credentials", Code::Malformed, "a digest has 32 bytes"))?;
                digests.push((Digest(digest), time(expires_at_ms)));
            }
            let mut endpoints = Vec::with_capacity(endpoint_ids.len());
            for endpoint in endpoint_ids {
                let endpoint = Uuid::from_slice(&endpoint)
                    .map_err(|_| Invalid::new("/endpoints", Code::Malformed, "an endpoint's id has 16 bytes"))?;
                endpoints.push(endpoint);
            }
            let network = |(index, text): (usize, String)| {
                // A range that cannot be read must not become a key without one.
                text.parse::<IpNet>().map(|network| network.trunc()).map_err(|_| {
                    Invalid::new(format!("/addresses/{index}"), Code::Malformed, "not a range of addresses")
                })
            };
            let addresses = addresses.into_iter().enumerate().map(network).collect::<Result<_, _>>()?;
            endpoints.sort_unstable();
            endpoints.dedup();
            let limits = rules(limits, Owner::ApiKey(id))?;
            let key = ApiKey {
                id,
                endpoints: endpoints.into(),
                expires_at_ms: time(expires_at_ms),
                disabled,
                models: models.map(|rules| Box::new(rules.into())),
                addresses,
                needs: Needs::of(&limits),
                limits,
                in_flight: Carried::default(),
            };
            Ok(Self { key, digests })
        }
    }

    pub(super) fn digest(presented: &str) -> Option<[u8; 32]> {
        token::parse(TokenKind::ApiKey, presented).is_ok().then(|| token::digest(presented))
    }

    fn time(ms: u64) -> Option<u64> {
        (ms != 0).then_some(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(expires_at_ms: Option<u64>, grace: Option<u64>, disabled: bool) -> Credential {
        let key = ApiKey {
            id: Uuid::from_u128(1),
            endpoints: [Uuid::from_u128(7)].into(),
            expires_at_ms,
            disabled,
            models: None,
            addresses: Box::default(),
            limits: Box::default(),
            needs: Needs::default(),
            in_flight: Carried::default(),
        };
        Credential { key: Arc::new(key), expires_at_ms: grace }
    }

    #[test]
    fn a_key_lives_until_the_earlier_of_its_ends() {
        assert!(credential(None, None, false).is_live(5));
        assert!(credential(Some(6), None, false).is_live(5));
        assert!(!credential(Some(5), None, false).is_live(5));
        assert!(!credential(Some(9), Some(5), false).is_live(5));
        assert!(!credential(None, None, true).is_live(5));
    }

    #[test]
    fn a_key_is_used_from_its_ranges_alone_whatever_form_an_address_has() {
        let mut key = ApiKey {
            id: Uuid::from_u128(1),
            endpoints: Box::default(),
            expires_at_ms: None,
            disabled: false,
            models: None,
            addresses: Box::default(),
            limits: Box::default(),
            needs: Needs::default(),
            in_flight: Carried::default(),
        };
        assert!(key.is_used_from(None));
        key.addresses = ["10.0.0.0/8", "2001:db8::/32"].map(|text| text.parse().unwrap()).into();
        let from = |address: &str| key.is_used_from(Some(address.parse().unwrap()));
        assert!(from("10.255.0.1") && from("::ffff:10.0.0.1") && from("2001:db8:1::1"));
        assert!(!from("11.0.0.1") && !from("::ffff:11.0.0.1") && !from("2001:db9::1") && !from("::10.0.0.1"));
        assert!(!key.is_used_from(None), "nobody knows from where");
    }

    #[test]
    fn a_change_of_one_key_leaves_the_other_runtime_alone() {
        let mut first = ApiKeys::default();
        first.insert(Digest([1; 32]), credential(None, None, false));
        let mut second = first.clone();
        second.insert(Digest([2; 32]), credential(None, None, false));
        assert!(first.find(&Digest([2; 32])).is_none());
        assert!(second.find(&Digest([1; 32])).is_some());
        assert_eq!((first.len(), second.len()), (1, 2));
        let shard = ApiKeys::shard(&Digest([1; 32]));
        assert!(Arc::ptr_eq(&first.shards[shard], &second.shards[shard]));
    }
}
